"""The table of attention quality, against the cases that it is made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from liverattn.comparison.attention_quality import attention_table, mean_interval, with_enough
from liverattn.comparison.explained import Explained, explain
from liverattn.comparison.numbers import interval_number
from liverattn.comparison.subjects import one_run
from liverattn.evaluation.intervals import Interval, rate_interval
from liverattn.reporting.results import Number, ResultTable
from tests.comparison.explained_runs import CLINIC, data, recorded_run


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    folder = tmp_path_factory.mktemp("quality")
    clinic = data(folder)
    return explain(one_run(recorded_run(folder, "a", clinic).path), [clinic])


def cells(table: ResultTable, title: str) -> dict[str, Number]:
    row = next(row for row in table.rows if row.cells[0] == title)
    return {column: cell for column, cell in zip(table.columns, row.cells, strict=True) if isinstance(cell, Number)}


def test_groups_are_those_of_the_labels(explained: Explained) -> None:
    table = attention_table(explained)
    counts = {row.cells[0]: row.cells[1] for row in table.rows}
    held_out = [kind for image, kind in zip(CLINIC.images, CLINIC.kinds, strict=True) if CLINIC.fold_of(0)[image] == 0]
    lesions = [kind for kind in held_out if kind != "none"]
    assert counts["all lesion images"] == len(lesions)
    assert {kind: counts.get(kind, 0) for kind in set(lesions)} == {kind: lesions.count(kind) for kind in set(lesions)}
    assert counts["malignant"] == lesions.count("hcc") + lesions.count("metastasis")
    assert counts["benign"] + counts["malignant"] == len(lesions)
    assert counts["lesion-free images"] == held_out.count("none")


def test_numbers_are_means_over_the_cases(explained: Explained) -> None:
    cases = pd.concat([explained.table, explained.quality("lesion")], axis=1)
    cysts, found = cases[cases["type"] == "cyst"], cells(attention_table(explained), "cyst")
    assert found["maximum in a box"].mean == cysts["pointing"].mean()
    assert found["maximum in a box"].deviations["high"] == rate_interval(cysts["pointing"]).high
    for column, measure in {
        "energy in boxes": "energy",
        "lift": "lift",
        "IoU at 0.5": "iou",
        "chance": "chance",
    }.items():
        assert found[column].mean == pytest.approx(cysts[measure].mean())
    assert not found["energy in boxes"].deviations  # two cysts are too few
    everything = cells(attention_table(explained), "all lesion images")
    low, high = everything["energy in boxes"].deviations.values()
    assert low < everything["energy in boxes"].mean < high
    free = cells(attention_table(explained), "lesion-free images")
    assert free["entropy"].mean == pytest.approx(cases.loc[cases["lesion"] == 0, "entropy"].mean())
    assert np.isnan(free["lift"].mean)


def test_boxes_that_nobody_knows_take_no_part(explained: Explained) -> None:
    unknown = replace(explained.data.cases, boxes=tuple(None for _ in explained.data.cases.boxes))
    blind = replace(explained, data=replace(explained.data, cases=unknown))
    assert [row.cells[0] for row in attention_table(blind).rows] == ["lesion-free images"]


def test_an_ensemble_says_which_map_is_measured(explained: Explained) -> None:
    ensemble = replace(explained, subject=replace(explained.subject, kind="ensemble"))
    notes = " ".join(attention_table(ensemble).notes)
    assert "weighted mean of the maps" in notes and "weighted mean" not in " ".join(attention_table(explained).notes)
    assert "protocol paper" in notes


def test_few_images_have_no_limits() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    assert mean_interval(values, np.arange(5)).value == 2.5
    assert np.isnan(mean_interval(values, np.arange(5)).low)
    assert mean_interval([*values, 5.0], np.arange(6)).low < 3
    assert with_enough(Interval(1, 0, 2), 5) == Interval(1, 0, 2)
    assert interval_number(Interval(0.5, float("nan"), float("nan"))).text() == "0.50"
    assert interval_number(Interval(0.5, 0.25, 0.75), signed=True).text() == "+0.50 (0.25 to 0.75)"


def test_it_can_be_written(explained: Explained, tmp_path: Path) -> None:
    paths = attention_table(explained).write(tmp_path)
    assert [path.name for path in paths] == ["attention_quality.md", "attention_quality.csv", "attention_quality.tex"]
    table = pd.read_csv(tmp_path / "attention_quality.csv")
    assert {"maximum in a box_mean", "maximum in a box_low", "lift_high"} <= set(table)
