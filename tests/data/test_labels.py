"""What is known of each output for each case."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from liverattn.data.labels import OUTPUTS, case_labels, kinds_of_lesion, without_positives
from liverattn.data.manifest import Manifest, read_manifest
from liverattn.errors import InputError

UNKNOWN = np.nan


@pytest.fixture
def manifest(table: Callable[..., Path]) -> Manifest:
    return read_manifest(
        table(
            "a,a.png,,0,,,,",
            "b,b.png,,1,,hcc,,",
            "c,c.png,,1,0,,,",
            "d,d.png,,1,,,,",
            "e,e.png,,1,,angioma,,",
        )
    )


def test_seven_outputs_in_the_papers_order() -> None:
    assert OUTPUTS == ("lesion", "malignancy", "angioma", "hcc", "fnh", "cyst", "metastasis")


def test_unknown_is_not_negative(manifest: Manifest) -> None:
    labels = case_labels(manifest, ["lesion", "malignancy", "hcc", "angioma"])
    expected = [
        [0, 0, 0, 0],
        [1, 1, 1, 0],
        [1, 0, UNKNOWN, UNKNOWN],
        [1, UNKNOWN, UNKNOWN, UNKNOWN],
        [1, 0, 0, 1],
    ]
    np.testing.assert_array_equal(labels, np.array(expected, np.float32))
    assert labels.dtype == np.float32


def test_lesion_free_cases_can_be_masked_for_all_but_the_lesion(manifest: Manifest) -> None:
    zeros = case_labels(manifest, ["malignancy", "lesion", "hcc"])
    masked = case_labels(manifest, ["malignancy", "lesion", "hcc"], "masked")
    np.testing.assert_array_equal(masked[0], [UNKNOWN, 0, UNKNOWN])
    np.testing.assert_array_equal(masked[1:], zeros[1:])


def test_kinds_of_lesion(manifest: Manifest) -> None:
    assert kinds_of_lesion(manifest.table).tolist() == [0, 2, 1, -1, 1]
    unknown = manifest.table.assign(malignant=pd.array([pd.NA] * len(manifest.table), dtype="Int64"))
    assert kinds_of_lesion(unknown).tolist() == [0, 1, 1, 1, 1]


def test_outputs_that_cannot_be_learned_are_named(manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"positive for the output\(s\) fnh, cyst, so .* Leave them out of data.tasks"):
        case_labels(manifest, ["lesion", "fnh", "hcc", "cyst"])


def test_what_cannot_be_learned_is_left_out(manifest: Manifest) -> None:
    tasks = {"lesion": ["lesion"], "type": ["fnh", "hcc", "cyst"], "other": ["fnh"]}
    assert without_positives(manifest.table, tasks) == ["data.tasks.type.outputs=[hcc]", "~data.tasks.other"]


def test_illegal_names_list_the_valid_ones(manifest: Manifest) -> None:
    with pytest.raises(
        InputError, match=r"Unknown output\(s\) hemangioma in data.tasks. Valid: lesion, malignancy, ang"
    ):
        case_labels(manifest, ["lesion", "hemangioma"])
    with pytest.raises(InputError, match=r"data.lesion_free to be zeros or masked, but got 'ones'"):
        case_labels(manifest, ["lesion"], "ones")
