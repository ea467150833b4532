"""Shortcuts that are planted, absent or cannot be judged."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from liverattn.data.cache import prepare_cases
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import Preprocessing
from liverattn.data.shortcuts import Shortcut, metadata, shortcut_findings, shortcuts
from liverattn.data.sources.aul import AulSource
from tests.data.fabricated import prepared, table

REAL = os.environ.get("LIVERATTN_AUL")


def sizes(width: Any) -> np.ndarray:
    return np.column_stack([width, np.full(len(width), 600)]).astype(np.int64)


def one(found: list[Shortcut], output: str) -> Shortcut:
    (shortcut,) = [shortcut for shortcut in found if shortcut.output == output]
    return shortcut


def test_a_planted_shortcut_is_found_and_chance_is_not() -> None:
    random = np.random.default_rng(0)
    lesion = random.permutation([0, 1] * 60)
    told = one(shortcuts(table(lesion), prepared(originals=sizes(800 + 100 * lesion))), "lesion")
    assert (told.positive, told.negative) == (60, 60)
    assert told.size == told.metadata == 1.0 and told.is_suspicious
    assert shortcut_findings([told]) == [
        "lesion can be told from metadata alone: AUC 1.00 (size alone 1.00, chance 0.50); a network may learn the "
        "machine instead of the liver"
    ]
    chance = one(shortcuts(table(lesion), prepared(originals=sizes(random.integers(500, 900, 120)))), "lesion")
    assert 0.35 < chance.size < 0.65 and not chance.is_suspicious and shortcut_findings([chance]) == []
    by_m = one(shortcuts(table(lesion), prepared(medians=np.where(lesion, 120.0, 60.0))), "lesion")
    assert by_m.metadata == 1.0 and by_m.size < 0.65 and by_m.is_suspicious


def test_a_noisy_shortcut_has_about_the_auc_of_its_one_quantity() -> None:
    random = np.random.default_rng(1)
    lesion = random.permutation([0, 1] * 150)
    width = (800 + 60 * lesion + random.normal(0, 60, 300)).astype(np.int64)  # AUC = Phi(1 / sqrt 2) = 0.76
    told = one(shortcuts(table(lesion), prepared(originals=sizes(width))), "lesion")
    assert told.size == pytest.approx(roc_auc_score(lesion, width), abs=0.02)
    assert told.size == pytest.approx(0.76, abs=0.05)


def test_conditional_outputs_are_tried_on_lesion_images_only() -> None:
    lesion = np.array([0] * 60 + [1] * 60)
    malignant = [pd.NA] * 60 + [0, 1] * 25 + [pd.NA] * 10
    width = 800 + 300 * (1 - lesion)  # tells lesion from none, and nothing of malignancy
    found = shortcuts(table(lesion, malignant), prepared(originals=sizes(width)))
    assert [shortcut.output for shortcut in found] == ["lesion", "malignancy"]
    malignancy = one(found, "malignancy")
    assert (malignancy.positive, malignancy.negative) == (25, 25)
    assert malignancy.size == pytest.approx(0.5, abs=0.15) and one(found, "lesion").size == 1.0


def test_a_patient_is_never_on_both_sides() -> None:
    # Two patients per class with a width each: only who has seen the patient could tell.
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(24), 10)
    lesion, width = patients % 2, random.permutation(24)[patients] * 50 + 400
    grouped = table(lesion, patient_id=[f"p{patient}" for patient in patients])
    assert one(shortcuts(grouped, prepared(originals=sizes(width))), "lesion").size < 0.65


@pytest.mark.parametrize("lesion", [[1] * 9 + [0] * 50, [1] * 50 + [0] * 9, [1] * 30])
def test_too_few_of_a_class_are_not_judged(lesion: list[int]) -> None:
    (shortcut,) = shortcuts(table(lesion), prepared(originals=sizes(np.arange(len(lesion)) + 500)))
    assert math.isnan(shortcut.size) and math.isnan(shortcut.metadata)
    assert not shortcut.is_suspicious and shortcut_findings([shortcut]) == []


def test_no_positive_case_at_all_and_no_m_at_all() -> None:
    assert shortcuts(table([0] * 40), prepared(originals=sizes(np.arange(40) + 500))) == []
    unknown = prepared(medians=np.full(40, np.nan))
    assert not math.isnan(one(shortcuts(table([0, 1] * 20), unknown), "lesion").metadata)


def test_metadata_are_those_of_file_and_prepared_image(cases: Callable[..., Manifest], tmp_path: Path) -> None:
    opened = prepare_cases(cases(3), Preprocessing(height=32, width=46), tmp_path / "cache")
    measured = metadata(opened)
    image = opened.image(1)
    assert measured.shape == (3, 5)
    assert measured[1].tolist() == [64, 48, (image <= 10).mean(), image.mean(), opened.medians[1]]


@pytest.mark.skipif(REAL is None, reason="LIVERATTN_AUL is not set: no real images")
def test_the_size_of_real_images_tells_their_class(tmp_path: Path) -> None:
    manifest = AulSource(root=str(REAL)).manifest()
    few = manifest.table[manifest.table.index % 2 == 0].reset_index(drop=True)
    part = Manifest(few, manifest.root)
    found = shortcuts(part, prepare_cases(part, Preprocessing(height=60, width=86), tmp_path))
    assert one(found, "lesion").size == pytest.approx(0.8, abs=0.07) and one(found, "lesion").is_suspicious
    assert one(found, "malignancy").size == pytest.approx(0.7, abs=0.07) and one(found, "malignancy").is_suspicious
