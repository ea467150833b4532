"""How far probabilities can be trusted: calibration, operating points and decision curves, as tables and figures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.attention_quality import mean_interval
from liverattn.comparison.held_out import HeldOut, OutOfFold, out_of_fold
from liverattn.comparison.numbers import interval_number
from liverattn.comparison.scored import Scored
from liverattn.evaluation.calibration import calibration_line, net_benefit, reliability, temperature, tempered
from liverattn.evaluation.intervals import Interval, rate_interval
from liverattn.evaluation.operating_points import WANTED, thresholds
from liverattn.evaluation.scores import Task, shows_lesion
from liverattn.reporting.probability_figures import CalibrationPanel, DecisionPanel
from liverattn.reporting.results import Number, ResultTable, Row

Floats = NDArray[np.float64]
NOWHERE = Interval(*[float("nan")] * 3)
THRESHOLDS = np.linspace(0.01, 0.99, 99)
FITTED_ON_SELECTION = (
    "fitted for each fold run on the cases of its inner split, which it was neither trained on nor judged on (they "
    "chose its epoch)."
)
FITTED_ON_OTHER_FOLDS = (
    "fitted for each fold run on the held-out predictions of the other folds, which come from other networks and never "
    "hold the judged cases; those networks were trained on them, though. Runs with protocol=inner need no such loan."
)


@dataclass(frozen=True)
class Judged:
    """One output on n cases.

    Attributes:
        truth: (n,) 0 or 1; NaN where the output is not judged.
        probability: (n,).
    """

    truth: Floats
    probability: Floats


def judged(held_out: HeldOut | OutOfFold, probability: Floats, tasks: Sequence[Task], output: str) -> Judged:
    """Of the cases that an output is judged on; NaN elsewhere."""
    names = [(name, task.conditional) for task in tasks for name in task.outputs]
    k = [name for name, _ in names].index(output)
    shown = shows_lesion(held_out.truth, [name for name, _ in names])
    truth = np.where(shown | (not names[k][1]), held_out.truth[:, k], np.nan)
    return Judged(truth, probability[:, k])


def _outputs(tasks: Sequence[Task]) -> list[str]:
    return [name for task in tasks for name in task.outputs]


def fitting_cases(scored: Scored, protocol: str, output: str) -> Iterator[tuple[NDArray[np.bool_], Judged]]:
    """For each fold run, its held-out cases and the cases that something may be fitted on for them.

    Yields:
        (n,) True for the held-out cases of a fold run; truth and probability of the others: of its inner split where
        there is one, else of the other folds of its repeat.
    """
    held_out = scored.held_out[protocol == "inner"]
    repeat, fold = (held_out.keys[name].to_numpy() for name in ("repeat", "fold"))
    whole = judged(held_out, held_out.probabilities[protocol], scored.tasks, output)
    selection = held_out.selection if protocol == "inner" else None
    for cell in sorted(set(zip(repeat, fold, strict=True))):
        cases = (repeat == cell[0]) & (fold == cell[1])
        if selection is None:
            others = (repeat == cell[0]) & ~cases
            yield cases, Judged(whole.truth[others], whole.probability[others])
        else:
            rows = (selection.keys[["repeat", "fold"]].to_numpy() == cell).all(axis=1)
            part = judged(selection, selection.probabilities["inner"], scored.tasks, output)
            yield cases, Judged(part.truth[rows], part.probability[rows])


def fitted_on(scored: Scored, protocol: str) -> str:
    """What temperatures and thresholds come from."""
    has_selection = protocol == "inner" and scored.held_out[True].selection is not None
    return FITTED_ON_SELECTION if has_selection else FITTED_ON_OTHER_FOLDS


def calibration_table(rows: Sequence[Scored], protocol: str) -> ResultTable:
    """Brier's score, calibration error, line and temperature of every output, one probability per image.

    Args:
        rows: Architectures and, last, the ensemble; a terminal shows the last only.
        protocol: That all of them served.
    """
    made = _rows(rows, lambda scored, output: [_calibration(scored, protocol, output)])
    columns = ["output", "architecture", "images", "positive", "Brier", "ECE", "slope", "intercept", "T"]
    notes = [
        "One probability per image, averaged over repeats. In parentheses 95 % intervals: of Brier over 2 000 draws of "
        "patients, of slope and intercept Wald's, wider where a patient's images are alike. Slope: 1 is right, below 1 "
        "too extreme; intercept (at slope 1): 0 is right, below 0 too high.",
        "ECE: over ten bins of equally many images. Few images make it too large, and drawing among them makes it "
        "larger still: there is no interval.",
        f"T: temperature, median over fold runs; {fitted_on(rows[-1], protocol)} Brier and ECE at T: of the "
        "probabilities after that.",
    ]
    title = f"Calibration, protocol {protocol}"
    return ResultTable("calibration", title, [*columns, "Brier at T", "ECE at T"], made, notes)


def _rows(rows: Sequence[Scored], of: Callable[[Scored, str], Iterable[Sequence[int | str | Number]]]) -> list[Row]:
    """What ``of`` says of each output and row; all but the last row are left to the files."""
    made = []
    for output in _outputs(rows[0].tasks):
        for scored in rows:
            last = scored is rows[-1]
            for k, cells in enumerate(of(scored, output)):
                made.append(Row([output, scored.label, *cells], True, last and k == 0, not last))
    return made


def _calibration(scored: Scored, protocol: str, output: str) -> list[int | Number]:
    held_out = scored.held_out[protocol == "inner"]
    found = out_of_fold(held_out, protocol)
    part = judged(found, found.probability, scored.tasks, output)
    known = ~np.isnan(part.truth) & ~np.isnan(part.probability)
    curve = reliability(part.truth, part.probability)
    line = calibration_line(part.truth, part.probability, found.patients)
    value, after = _tempered(scored, protocol, output)
    curve_after = reliability(part.truth, after)
    slope, intercept = (NOWHERE, NOWHERE) if line is None else (line.slope, line.intercept)
    return [
        int(known.sum()),
        int((part.truth[known] == 1).sum()),
        _brier(found, part.truth, part.probability),
        Number(float("nan") if curve is None else curve.error),
        interval_number(slope, 2),
        interval_number(intercept, 2, signed=True),
        Number(value, digits=2),
        _brier(found, part.truth, after),
        Number(float("nan") if curve_after is None else curve_after.error),
    ]


def _brier(found: OutOfFold, truth: Floats, probability: Floats) -> Number:
    return interval_number(mean_interval((probability - truth) ** 2, found.patients), 3)


def _tempered(scored: Scored, protocol: str, output: str) -> tuple[float, Floats]:
    """Median temperature over fold runs, and the probabilities (one per image) at each run's own temperature."""
    held_out = scored.held_out[protocol == "inner"]
    before = judged(held_out, held_out.probabilities[protocol], scored.tasks, output).probability
    after, values = np.full(len(before), np.nan), []
    for cases, fitting in fitting_cases(scored, protocol, output):
        value = temperature(fitting.truth, fitting.probability)
        values.append(value)
        after[cases] = tempered(before[cases], value)
    defined = [value for value in values if not np.isnan(value)]
    return float(np.median(defined)) if defined else float("nan"), _per_image(held_out, after)


def _per_image(held_out: HeldOut, values: Floats) -> Floats:
    """Mean over repeats, images ascending as in :func:`~liverattn.comparison.held_out.out_of_fold`."""
    found = pd.Series(values).groupby(held_out.keys["image_id"].to_numpy(dtype=str)).mean()
    return np.asarray(found.to_numpy(np.float64))


def operating_table(rows: Sequence[Scored], protocol: str) -> ResultTable:
    """Sensitivity and specificity at thresholds that the judged cases had no part in.

    Args:
        rows: Architectures and, last, the ensemble; a terminal shows the last only.
        protocol: That all of them served.
    """
    made = _rows(rows, lambda scored, output: _operating(scored, protocol, output))
    notes = [
        f"The threshold that reaches the wanted rate with the best other rate, median over fold runs; "
        f"{fitted_on(rows[-1], protocol)}",
        "What it reaches on the held-out images: mean over repeats, Wilson's 95 % intervals for as many images as "
        "there are, not for images times repeats, wider where a patient's images are alike.",
    ]
    columns = ["output", "architecture", "wanted", "threshold", "sensitivity (95 %)", "specificity (95 %)"]
    return ResultTable("operating_points", f"Operating points, protocol {protocol}", columns, made, notes)


def _operating(scored: Scored, protocol: str, output: str) -> Iterator[list[str | Number]]:
    held_out = scored.held_out[protocol == "inner"]
    whole = judged(held_out, held_out.probabilities[protocol], scored.tasks, output)
    patients = held_out.keys.groupby("image_id")["patient_id"].first()
    chosen = np.full((len(WANTED), len(whole.truth)), np.nan)
    for cases, fitting in fitting_cases(scored, protocol, output):
        for k, threshold in enumerate(thresholds(fitting.truth, fitting.probability)):
            chosen[k, cases] = threshold
    for (kind, level), limits in zip(WANTED, chosen, strict=True):
        called = np.where(np.isnan(limits) | np.isnan(whole.probability), np.nan, whole.probability >= limits)
        # Each image once, with its mean over repeats.
        sensitivity = rate_interval(_per_image(held_out, np.where(whole.truth == 1, called, np.nan)), patients)
        specificity = rate_interval(_per_image(held_out, np.where(whole.truth == 0, 1 - called, np.nan)), patients)
        known = limits[~np.isnan(limits)]
        median = float(np.median(known)) if len(known) else float("nan")
        rates = (interval_number(rate, 3) for rate in (sensitivity, specificity))
        yield [f"{kind} {level:.2f}", Number(median), *rates]


def calibration_panels(scored: Scored, protocol: str) -> list[CalibrationPanel]:
    """Reliability of every output that has enough labeled images."""
    found, panels = out_of_fold(scored.held_out[protocol == "inner"], protocol), []
    for output in _outputs(scored.tasks):
        part = judged(found, found.probability, scored.tasks, output)
        if (curve := reliability(part.truth, part.probability, found.patients)) is not None:
            observed, low, high = np.array([(one.value, one.low, one.high) for one in curve.observed]).T
            panels.append(CalibrationPanel(output, curve.predicted, observed, low, high, curve.brier))
    return panels


def decision_panels(rows: Sequence[Scored], protocol: str) -> list[DecisionPanel]:
    """Net benefit of every output of a task that has one, for each of some rows, beside acting on all and on none."""
    panels = []
    for output in [task.outputs[0] for task in rows[0].tasks if len(task.outputs) == 1]:
        curves = {}
        for scored in rows:
            found = out_of_fold(scored.held_out[protocol == "inner"], protocol)
            part = judged(found, found.probability, scored.tasks, output)
            curves[scored.label] = net_benefit(part.truth, part.probability, THRESHOLDS)
        everybody = net_benefit(part.truth, np.ones(len(part.truth)), THRESHOLDS)
        panels.append(DecisionPanel(output, THRESHOLDS, curves, everybody))
    return panels
