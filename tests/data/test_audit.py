"""What the check says of data: counted by hand, and shortcuts that are planted, absent or cannot be judged."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from liverattn.data import audit
from liverattn.data.audit import (
    Audit,
    Shortcut,
    class_counts,
    contact_sample,
    distributions,
    duplicate_findings,
    duplicates_table,
    findings,
    metadata,
    quantiles,
    shortcut_findings,
    shortcuts,
    tiny_boxes,
)
from liverattn.data.cache import PreparedCases, prepare_cases
from liverattn.data.duplicates import DuplicatePair
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import Preprocessing
from liverattn.data.sources.aul import AulSource

REAL = os.environ.get("LIVERATTN_AUL")


class Fabricated(PreparedCases):
    """Prepared cases whose images are uniform: (1, 1) pixel of 100."""

    def image(self, row: int) -> Any:
        return np.full((1, 1), 100, np.uint8)


def prepared(**changes: Any) -> PreparedCases:
    """n = 4 cases of 240x345, all 800x600, m 70, without boxes."""
    count = len(next(iter(changes.values()))) if changes else 4
    default: dict[str, Any] = {
        "files": (Path("none"),) * count,
        "boxes": (np.zeros((0, 4)),) * count,
        "factors": np.ones(count, np.float32),
        "medians": np.full(count, 70.0),
        "originals": np.tile([800, 600], (count, 1)),
        "size": (240, 345),
        "fingerprint": "none",
    }
    return Fabricated(**{**default, **changes})


def table(lesion: Any, malignant: Any = None, **columns: Any) -> Manifest:
    """One patient per case."""
    count = len(lesion)
    ids = [f"case{i}" for i in range(count)]
    cells = {
        "image_id": ids,
        "patient_id": ids,
        "path": ids,
        "lesion": list(lesion),
        "malignant": pd.array([pd.NA] * count if malignant is None else malignant, dtype="Int64"),
        "type": [None] * count,
        **columns,
    }
    cells["type"] = pd.Series(cells["type"], dtype=object)
    return Manifest(pd.DataFrame(cells), Path("root"), warnings=("heard before",))


def test_counts_and_distributions_by_hand() -> None:
    manifest = table([0, 1, 1, 1], [pd.NA, 1, 1, pd.NA], type=[None, "hcc", None, None])
    assert class_counts(manifest) == {"none": 1, "hcc": 1, "lesion": 1, "malignant": 1}
    box = np.array([[0.0, 0.0, 69.0, 120.0]])  # a tenth of 240x345
    cases = prepared(
        boxes=(np.zeros((0, 4)), box, None, np.vstack([box, box])),
        medians=np.array([35.0, 140.0, np.nan, 70.0]),
        factors=np.array([2.0, 0.5, 1.0, 1.0], np.float32),
    )
    found = distributions(cases)
    assert found["boxes (% of the prepared lesion image)"].tolist() == [10.0, 20.0]
    assert found["m of Eq. 1 (0 to 255)"].tolist() == [35, 140, 70]
    assert found["m afterwards"].tolist() == [70, 70, 70]
    assert quantiles(np.array([10.0, 20.0, 40.0])) == {"min": 10, "10 %": 12, "median": 20, "90 %": 36, "max": 40}
    assert "m of Eq. 1 (0 to 255)" not in distributions(replace(cases, medians=np.full(4, np.nan)))


def test_a_box_is_tiny_below_a_quarter_of_a_cell() -> None:
    exactly, less = np.array([[0.0, 0.0, 16.0, 16.0]]), np.array([[50.0, 50.0, 66.0, 65.9]])
    large = np.array([[0.0, 0.0, 99.0, 99.0]])
    cases = prepared(boxes=(exactly, less, np.vstack([large, less]), None, np.zeros((0, 4))))
    assert tiny_boxes(cases) == [1, 2]


def test_findings_are_counted_and_name_five_images() -> None:
    lesion = [1] * 7 + [0]
    small = np.array([[5.0, 5.0, 8.0, 8.0]])
    cases = prepared(
        boxes=(*(None,) * 6, small, np.zeros((0, 4))),
        medians=np.array([70, 19, 20, 150, 151, np.nan, 70, 70]),
        originals=np.array([[344, 600], [345, 240], [800, 239], *[[800, 600]] * 5]),
    )
    assert findings(table(lesion), cases) == [
        "heard before",
        "6 lesion image(s) without boxes: no part in the attention loss (case0, case1, case2, case3, case4, ...)",
        "1 image(s) with a box smaller than a quarter of a grid cell (stride 32) (case6)",
        "1 image(s) with a black top region: intensities left as they are (case5)",
        "2 image(s) with m outside 20 to 150 (case1, case4)",
        "2 image(s) smaller than 345x240: enlarged (case0, case2)",
    ]
    assert findings(table([0, 0, 0, 0]), prepared()) == ["heard before"]


def test_duplicates_are_described_and_told() -> None:
    manifest = table([1, 1, 1, 0, 1], [1, pd.NA, 0, pd.NA, 1], patient_id=["p", "p", "q", "r", "p"])
    pairs = [DuplicatePair(*rows, 0.9, rows == (0, 1)) for rows in ((0, 1), (0, 2), (1, 3), (0, 4))]
    described = duplicates_table(manifest, pairs)
    assert described.loc[0].to_dict() == {
        "image_id_a": "case0",
        "image_id_b": "case1",
        "similarity": 0.9,
        "mirrored": True,
        "same_patient": True,
        "labels_differ": False,  # malignant is unknown in one of them
    }
    assert described["same_patient"].tolist() == [True, False, False, True]
    assert described["labels_differ"].tolist() == [False, True, True, False]
    apart, contradicting = duplicate_findings(described)
    assert apart.startswith("2 near-duplicate pair(s) of different patients") and "data.group_duplicates" in apart
    assert contradicting.startswith("2 near-duplicate pair(s) have different labels")
    assert duplicate_findings(described.iloc[[0]]) == [] == duplicate_findings(duplicates_table(manifest, []))
    audited = Audit({}, {}, [], pairs, described, [])
    assert [said for _, said in audited.remarked_pairs()] == [
        ["labels differ"],
        ["labels differ"],
        ["mirrored", "same patient"],
        ["same patient"],
    ]


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


def test_the_contact_sheet_shows_every_category_and_repeats() -> None:
    manifest = table([0] * 300 + [1] * 12, [pd.NA] * 300 + [0] * 2 + [1] * 10)
    sample = contact_sample(manifest, 20)
    kinds = [kind for _, kind in sample]
    assert [kinds.count(kind) for kind in ("benign", "malignant", "none")] == [2, 9, 9]
    assert sample == contact_sample(manifest, 20) and len({row for row, _ in sample}) == 20
    assert len(contact_sample(manifest, 1000)) == 312


def test_an_audit_can_be_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(audit, "near_duplicates", None)
    monkeypatch.setattr(audit, "shortcuts", None)
    audited = audit.audit(table([0, 1, 1, 0]), prepared(), None)
    assert audited.pairs is None and audited.shortcuts == [] and audited.warnings == ["heard before"]
    assert audited.numbers()["near_duplicate_pairs"] is None


@pytest.mark.skipif(REAL is None, reason="LIVERATTN_AUL is not set: no real images")
def test_the_size_of_real_images_tells_their_class(tmp_path: Path) -> None:
    manifest = AulSource(root=str(REAL)).manifest()
    few = manifest.table[manifest.table.index % 2 == 0].reset_index(drop=True)
    part = Manifest(few, manifest.root)
    found = shortcuts(part, prepare_cases(part, Preprocessing(height=60, width=86), tmp_path))
    assert one(found, "lesion").size == pytest.approx(0.8, abs=0.07) and one(found, "lesion").is_suspicious
    assert one(found, "malignancy").size == pytest.approx(0.7, abs=0.07) and one(found, "malignancy").is_suspicious
