"""Attention on the vessels of phantoms: the table, against counts by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from liverattn.comparison.explained import Explained, explain
from liverattn.comparison.subjects import one_run
from liverattn.comparison.vessels import difference, known_vessels, on_vessels, vessel_table
from liverattn.evaluation.intervals import rate_interval
from liverattn.reporting.results import Number, ResultTable
from tests.comparison.explained_runs import data, recorded_run
from tests.finished_runs import TWO_TASKS, Cohort

FREE = Cohort(counts=(40, 0, 0, 0, 4, 4), repeats=1, folds=2, name="clinic")
CELL = 16  # pixels: the grid of 4 x 6 cells covers 64 x 96
WHOLE = np.array([[0.0, 0.0, 96.0, 64.0]])
NONE = np.zeros((0, 4))


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    folder = tmp_path_factory.mktemp("vessels")
    clinic = data(folder, FREE)
    return explain(one_run(recorded_run(folder, "a", clinic, cohort=FREE).path), [clinic])


def arranged(explained: Explained, probability: Sequence[float]) -> Explained:
    """All attention in the first cell; P(lesion) as given on lesion-free images, P(cyst) a tenth of it."""
    weights, scores = (np.full_like(explained.weights["lesion"], value) for value in (0.0, -1.0))
    weights[:, 0, 0], scores[:, 0, 0] = 1, 1
    changed = explained.probability.copy()
    free = np.flatnonzero(explained.table["lesion"] == 0)
    changed[free, 0] = probability
    changed[free, explained.subject.outputs.index("cyst")] = np.asarray(probability) / 10
    everywhere = {task.name: weights for task in explained.subject.tasks}
    return replace(explained, probability=changed, weights=everywhere, scores=dict.fromkeys(everywhere, scores))


def row(table: ResultTable, title: str) -> dict[str, Number]:
    found = next(row for row in table.rows if row.cells[0] == title)
    return {column: cell for column, cell in zip(table.columns, found.cells, strict=True) if isinstance(cell, Number)}


def test_counts_by_hand(explained: Explained) -> None:
    free = np.flatnonzero(explained.table["lesion"] == 0)
    assert len(free) == 20
    probability = np.repeat([0.9, 0.2], 10)  # ten are called lesion
    vessels = [NONE] * len(explained.rows)
    for case in [*free[:8], *free[10:12]]:  # eight of the called ones, two of the others
        vessels[case] = np.array([[0.0, 0.0, CELL, 2.0 * CELL]])
    table = vessel_table(arranged(explained, probability), vessels, threshold=0.5)
    assert table is not None
    called, other = row(table, "called lesion (false positives)"), row(table, "not called (true negatives)")
    assert called["maximum on a vessel"].mean == 0.8 and other["maximum on a vessel"].mean == 0.2
    assert called["maximum on a vessel"].deviations["low"] == rate_interval([1] * 8 + [0] * 2).low
    assert called["by chance"].mean == pytest.approx(0.8 * 2 / 24)
    # The same point lies on a vessel of 9 of the 19 others where the image has one itself, else of 10.
    assert called["by chance, in liver"].mean == pytest.approx((8 * 9 / 19 + 2 * 10 / 19) / 10)
    assert called["energy on vessels"].mean == pytest.approx(0.8)
    assert called["energy / share"].mean == pytest.approx(12)
    assert called["mean probability"].mean == pytest.approx(0.9)
    assert row(table, "difference")["maximum on a vessel"].mean == pytest.approx(0.6)
    low, high = row(table, "difference")["maximum on a vessel"].deviations.values()
    assert 0.05 < low < 0.35 and 0.85 < high <= 1  # normal approximation: 0.6 +- 0.35
    everything = row(table, "all")
    assert everything["maximum on a vessel"].mean == 0.5
    on, off = (
        row(table, f"P(cyst), maximum {place}")["mean probability"].mean for place in ("on a vessel", "elsewhere")
    )
    assert on == pytest.approx((8 * 0.09 + 2 * 0.02) / 10) and off == pytest.approx((2 * 0.09 + 8 * 0.02) / 10)
    assert row(table, "P(cyst), difference")["mean probability"].mean == pytest.approx(on - off)
    assert row(table, "P(lesion), difference")["mean probability"].mean == pytest.approx(10 * (on - off))


def test_nobody_is_called_and_everything_is_a_vessel(explained: Explained) -> None:
    table = vessel_table(arranged(explained, [0.1] * 20), [WHOLE] * len(explained.rows), threshold=0.5)
    assert table is not None
    assert [row.cells[1] for row in table.rows] == [0, 20, "", 20, 20, 0, "", 20, 0, ""]
    nothing = row(table, "called lesion (false positives)")
    assert all(np.isnan(cell.mean) and not cell.deviations for cell in nothing.values())
    assert row(table, "all")["energy / share"].mean == 1
    assert np.isnan(row(table, "P(cyst), difference")["mean probability"].mean)
    for text in (table.markdown(), table.latex(), table.spreadsheet().to_csv()):
        assert "P(cyst), difference" in text


def test_no_vessel_anywhere(explained: Explained) -> None:
    table = vessel_table(arranged(explained, [0.9] * 20), [NONE] * len(explained.rows), threshold=0.5)
    assert table is not None
    assert row(table, "all")["maximum on a vessel"].mean == 0
    assert np.isnan(row(table, "all")["energy / share"].mean)


def test_without_the_outputs_nothing_is_said(tmp_path: Path) -> None:
    cohort = Cohort(counts=(4, 0, 4, 0, 4, 0), tasks=TWO_TASKS, repeats=1, folds=2, name="clinic")
    clinic = data(tmp_path, cohort)
    two = explain(one_run(recorded_run(tmp_path, "a", clinic, cohort=cohort).path), [clinic])
    vessels = [WHOLE] * len(two.rows)
    assert on_vessels(two, vessels, "cyst") is None
    table = vessel_table(two, vessels, 0.5)
    assert table is not None and not any("cyst" in str(row.cells[0]) for row in table.rows)
    blind = replace(two, scores={task: np.full_like(scores, np.nan) for task, scores in two.scores.items()})
    assert vessel_table(blind, vessels, 0.5) is None


def test_a_difference_is_that_of_the_means() -> None:
    random = np.random.default_rng(0)
    chosen = np.arange(600) < 200
    values = random.normal(0, 1, 600) + 0.5 * chosen
    values[3] = np.nan
    found = difference(values, chosen, np.arange(600).astype(object))
    one, other = values[chosen & ~np.isnan(values)], values[~chosen]
    error = 1.96 * np.sqrt(one.var() / len(one) + other.var() / len(other))  # Welch
    assert found.value == pytest.approx(one.mean() - other.mean())
    assert found.low == pytest.approx(found.value - error, abs=0.03)
    assert found.high == pytest.approx(found.value + error, abs=0.03)
    few = difference(values[:8], np.arange(8) < 4, np.arange(8).astype(object))
    assert np.isnan(few.low) and not np.isnan(few.value)


def test_only_phantoms_know_their_vessels(explained: Explained) -> None:
    config = explained.subject.members[0].any_run.folder.config
    before = config.read_text()
    config.write_text(before.replace("phantom.PhantomSource", "aul.AulSource"))
    assert known_vessels(explained) is None
    config.write_text(before)
