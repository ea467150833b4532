"""What the check says of data, counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from liverattn.data import audit
from liverattn.data.audit import (
    Audit,
    class_counts,
    contact_sample,
    distributions,
    duplicate_findings,
    duplicates_table,
    findings,
    quantiles,
    tiny_boxes,
)
from liverattn.data.duplicates import DuplicatePair
from tests.data.fabricated import prepared, table


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
    _, lost = findings(table([0, 0, 0, 0]), prepared())
    assert lost.startswith("no image shows a lesion")


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
