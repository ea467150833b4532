"""Calibration, operating points and decision curves of synthetic architectures, against the prediction tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss
from statsmodels.stats.proportion import proportion_confint

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.held_out import HeldOut, out_of_fold
from liverattn.comparison.members import candidates
from liverattn.comparison.probabilities import (
    FITTED_ON_OTHER_FOLDS,
    FITTED_ON_SELECTION,
    calibration_panels,
    calibration_table,
    decision_panels,
    fitted_on,
    fitting_cases,
    operating_table,
)
from liverattn.comparison.scored import Scored, read
from liverattn.evaluation.calibration import temperature, tempered
from liverattn.evaluation.operating_points import operating_points
from liverattn.reporting.results import Number, ResultTable
from tests.finished_runs import TWO_TASKS, Cohort, write_architecture

COHORT = Cohort(counts=(40, 0, 0, 0, 20, 20), tasks=TWO_TASKS, repeats=2)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """One architecture, with and without an inner split."""
    outputs = tmp_path_factory.mktemp("probabilities")
    write_architecture(outputs, "a", COHORT, [0, 1], noise=1.2)
    write_architecture(outputs, "a", COHORT, [0, 1], noise=1.2, inner_folds=4)
    (one,) = read(candidates(group_architectures(finished_runs(outputs)), None, inner=True, repeats=None))
    return one


def cells(table: ResultTable, *begin: str) -> dict[str, Number]:
    (row,) = [row for row in table.rows if list(row.cells[: len(begin)]) == list(begin)]
    named = dict(zip(table.columns, row.cells, strict=True))
    return {name: cell for name, cell in named.items() if isinstance(cell, Number)}


def test_with_an_inner_split_only_its_cases_are_fitted_on(scored: Scored) -> None:
    selection = scored.held_out[True].selection
    assert selection is not None and fitted_on(scored, "inner") == FITTED_ON_SELECTION
    held_out = scored.held_out[True]
    found = list(fitting_cases(scored, "inner", "lesion"))
    assert len(found) == 6 and sum(cases.sum() for cases, _ in found) == len(held_out.keys)
    for cases, fitting in found:
        (cell,) = set(map(tuple, held_out.keys.loc[cases, ["repeat", "fold"]].to_numpy().tolist()))
        rows = (selection.keys["repeat"] == cell[0]) & (selection.keys["fold"] == cell[1])
        np.testing.assert_array_equal(fitting.probability, selection.probabilities["inner"][rows, 0])
        assert not set(selection.keys.loc[rows, "image_id"]) & set(held_out.keys.loc[cases, "image_id"])


@pytest.mark.parametrize("protocol", ["paper", "last"])
def test_without_one_the_other_folds_of_the_repeat_are(scored: Scored, protocol: str) -> None:
    held_out = scored.held_out[False]
    assert fitted_on(scored, protocol) == FITTED_ON_OTHER_FOLDS
    for cases, fitting in fitting_cases(scored, protocol, "malignancy"):
        ((repeat, fold),) = set(map(tuple, held_out.keys.loc[cases, ["repeat", "fold"]].to_numpy().tolist()))
        others = ((held_out.keys["repeat"] == repeat) & (held_out.keys["fold"] != fold)).to_numpy()
        np.testing.assert_array_equal(fitting.probability, held_out.probabilities[protocol][others, 1])
        judged = held_out.truth[others, 0] == 1  # malignancy is judged on lesion images only
        np.testing.assert_array_equal(~np.isnan(fitting.truth), judged)


def test_the_calibration_table_is_that_of_one_probability_per_image(scored: Scored) -> None:
    table = calibration_table([scored], "inner")
    row = cells(table, "lesion", "a")
    found = out_of_fold(scored.held_out[True], "inner")
    assert row["Brier"].mean == pytest.approx(brier_score_loss(found.truth[:, 0], found.probability[:, 0]))
    for name in ("Brier", "slope"):
        assert row[name].deviations["low"] < row[name].mean < row[name].deviations["high"]
    held_out, after = scored.held_out[True], []
    temperatures = []
    for cases, fitting in fitting_cases(scored, "inner", "lesion"):
        temperatures.append(temperature(fitting.truth, fitting.probability))
        part = tempered(held_out.probabilities["inner"][cases, 0], temperatures[-1])
        after.append(held_out.keys.loc[cases].assign(p=part, truth=held_out.truth[cases, 0]))
    by_image = pd.concat(after).groupby("image_id")[["p", "truth"]].mean()
    assert row["T"].mean == pytest.approx(np.median(temperatures))
    assert row["Brier at T"].mean == pytest.approx(brier_score_loss(by_image["truth"], by_image["p"]))
    assert "inner split" in " ".join(table.notes)


def overconfident(scored: Scored, factor: float) -> Scored:
    """The same ranks with more extreme probabilities, everywhere."""

    def sharpened(one: HeldOut) -> HeldOut:
        probabilities = {name: tempered(values, 1 / factor) for name, values in one.probabilities.items()}
        selection = None if one.selection is None else sharpened(one.selection)
        return replace(one, probabilities=probabilities, selection=selection)

    return replace(scored, held_out={inner: sharpened(one) for inner, one in scored.held_out.items()})


def test_temperature_undoes_overconfidence(scored: Scored) -> None:
    plain, sharp = (
        cells(calibration_table([one], "inner"), "lesion", "a") for one in (scored, overconfident(scored, 2))
    )
    assert sharp["Brier"].mean > plain["Brier"].mean and sharp["slope"].mean < plain["slope"].mean
    assert sharp["T"].mean == pytest.approx(2 * plain["T"].mean, rel=1e-3)
    assert sharp["Brier at T"].mean == pytest.approx(plain["Brier at T"].mean, rel=0.01)  # T is at most 20


def test_operating_points_by_hand(scored: Scored) -> None:
    table = operating_table([scored], "paper")
    held_out = scored.held_out[False]
    truth, probability = held_out.truth[:, 0], held_out.probabilities["paper"][:, 0]
    right = np.full((2, len(truth)), np.nan)
    thresholds = []
    for cases, fitting in fitting_cases(scored, "paper", "lesion"):
        (point,) = [p for p in operating_points(fitting.truth, fitting.probability) if p.name == "sensitivity_90"]
        thresholds.append(point.threshold)
        called = probability[cases] >= point.threshold
        right[0, cases] = np.where(truth[cases] == 1, called, np.nan)
        right[1, cases] = np.where(truth[cases] == 0, ~called, np.nan)
    row = cells(table, "lesion", "a", "sensitivity 0.90")
    assert row["threshold"].mean == pytest.approx(np.median(thresholds))
    assert row["sensitivity (95 %)"].mean == pytest.approx(np.nanmean(right[0]))
    assert row["specificity (95 %)"].mean == pytest.approx(np.nanmean(right[1]))
    # 40 lesion images, each in two repeats: the interval is that of 40.
    low, high = proportion_confint(np.nanmean(right[0]) * 40, 40, method="wilson")
    limits = row["sensitivity (95 %)"].deviations
    assert (limits["low"], limits["high"]) == pytest.approx((low, high))


def test_a_higher_wanted_rate_is_paid_with_the_other(scored: Scored) -> None:
    table = operating_table([scored], "last")
    less, more = (cells(table, "lesion", "a", f"specificity {level}") for level in ("0.90", "0.95"))
    assert more["threshold"].mean >= less["threshold"].mean
    assert more["sensitivity (95 %)"].mean <= less["sensitivity (95 %)"].mean
    assert more["specificity (95 %)"].mean >= less["specificity (95 %)"].mean


def test_figures_show_every_output(scored: Scored) -> None:
    assert [panel.title for panel in calibration_panels(scored, "last")] == ["lesion", "malignancy"]
    panels = decision_panels([scored], "last")
    assert [panel.title for panel in panels] == ["lesion", "malignancy"] and set(panels[0].curves) == {"a"}
    at_a_fifth = np.argmin(np.abs(panels[0].thresholds - 0.2))
    assert panels[0].everybody[at_a_fifth] == pytest.approx(0.5 - 0.5 * 0.2 / 0.8)  # half of the images show a lesion


def test_runs_of_an_older_version_have_no_inner_predictions(tmp_path: Path) -> None:
    write_architecture(tmp_path, "a", COHORT, [0], inner_folds=4)
    for path in tmp_path.rglob("selection.parquet"):
        path.unlink()
    (one,) = read(candidates(group_architectures(finished_runs(tmp_path)), None, inner=True, repeats=None))
    assert one.held_out[True].selection is None and fitted_on(one, "inner") == FITTED_ON_OTHER_FOLDS
    assert len(operating_table([one], "inner").rows) == 8
