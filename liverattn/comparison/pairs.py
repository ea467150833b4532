"""One architecture against others: paired tests on the same images and on the same fold runs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from liverattn.comparison.held_out import OutOfFold, on_one_scale, out_of_fold
from liverattn.comparison.numbers import interval_number, p_number
from liverattn.comparison.scored import Scored
from liverattn.evaluation.comparisons import bootstrap_tests, corrected_t_test, holm
from liverattn.evaluation.delong import UNDEFINED, PairedTest, delong_test
from liverattn.evaluation.intervals import DRAWS, Interval, bootstrap_scores
from liverattn.evaluation.scores import Task, shows_lesion
from liverattn.reporting.results import Cell, Number, ResultTable, Row

DELONG, BOOTSTRAP, CORRECTED_T = "DeLong", "bootstrap", "corrected t"
ONE_SCORE = (
    "One score per image: its rank within the fold run that held it out, averaged over repeats (a small ensemble, so a "
    "little better than a single fold run). Ranks, because each fold run's probabilities have a scale of their own."
)
NOTES = (
    ONE_SCORE,
    "DeLong and bootstrap (percentile over drawn patients, stratified by lesion) are made of these scores. With fewer "
    "than ten images of a class both find differences too often.",
    "Corrected t (Nadeau and Bengio 2003): differences of the AUCs of the same fold runs, variance times "
    "1/J + n_test/n_train.",
    "Detectable: the smallest true difference that such data would show (p < .05) with a probability of 80 %; a "
    "smaller one may well exist and go unseen.",
)
FLATTERED = (
    "Both sides chose their epochs on the folds that score them (protocol paper): compare protocol=last as well."
)


@dataclass(frozen=True)
class Pair:
    """Two architectures on the same images.

    Attributes:
        first: Label.
        second: Label.
        values: By quantity (outputs, tasks, ``score``): out-of-fold value of the first and of the second.
        tests: By quantity and test; first minus second.
        adjusted: P-values by quantity and test, Holm-adjusted over the pairs of the table.
    """

    first: str
    second: str
    values: dict[str, tuple[Interval, Interval]]
    tests: dict[tuple[str, str], PairedTest]
    adjusted: dict[tuple[str, str], float]

    def record(self) -> dict[str, Any]:
        """All numbers, for ``compare.json``."""
        quantities: dict[str, Any] = {}
        for name, (one, other) in self.values.items():
            tests = {
                test: {**asdict(found), "p_holm": self.adjusted[name, test]}
                for (quantity, test), found in self.tests.items()
                if quantity == name
            }
            quantities[name] = {"first": asdict(one), "second": asdict(other), "tests": tests}
        return {"first": self.first, "second": self.second, "quantities": quantities}


def compare_pairs(first: Scored, others: Sequence[Scored], protocol: str, *, draws: int, seed: int) -> list[Pair]:
    """Test one architecture against each of the others.

    Args:
        first: With the same fold runs as the others.
        others: One or more.
        protocol: That all of them served.
        draws: Bootstrap samples.
        seed: Of the draws.
    """
    pairs = [_pair(first, other, protocol, draws, seed) for other in others]
    names = list(pairs[0].tests)
    for name in names:
        adjusted = holm({str(k): pair.tests[name].p for k, pair in enumerate(pairs)})
        for k, pair in enumerate(pairs):
            pair.adjusted[name] = adjusted[str(k)]
    return pairs


def _pair(first: Scored, second: Scored, protocol: str, draws: int, seed: int) -> Pair:
    inner, tasks = protocol == "inner", first.tasks
    one, other = (out_of_fold(on_one_scale(scored.held_out[inner], tasks), protocol) for scored in (first, second))
    assert (one.images == other.images).all()
    options = {"draws": draws, "seed": seed}
    values = [auc_intervals(scored, protocol, **options) for scored in (first, second)]
    drawn = bootstrap_tests(one.truth, one.probability, other.probability, one.patients, tasks, **options)
    tests = {(name, BOOTSTRAP): found for name, found in drawn.items()}
    tests |= {(name, DELONG): found for name, found in _delong(one, other, tasks).items()}
    tests |= {(name, CORRECTED_T): found for name, found in _over_folds(first, second, protocol).items()}
    lacking = first.lacking | second.lacking
    tests = {key: UNDEFINED if key[0] in lacking else found for key, found in tests.items()}
    return Pair(first.label, second.label, {n: (values[0][n], values[1][n]) for n in values[0]}, tests, {})


def _delong(one: OutOfFold, other: OutOfFold, tasks: Sequence[Task]) -> dict[str, PairedTest]:
    """Of every output, and of every task that has one; a mean of several AUCs has no DeLong test."""
    names = [(output, task) for task in tasks for output in task.outputs]
    shown = shows_lesion(one.truth, [output for output, _ in names])
    found = {}
    for k, (output, task) in enumerate(names):
        truth = np.where(shown | (not task.conditional), one.truth[:, k], np.nan)
        found[output] = delong_test(truth, one.probability[:, k], other.probability[:, k], one.patients)
        if len(task.outputs) == 1:
            found[task.name] = found[output]
    return found


def _over_folds(first: Scored, second: Scored, protocol: str) -> dict[str, PairedTest]:
    inner = protocol == "inner"
    one, other, judged = first.by_fold[inner, protocol], second.by_fold[inner, protocol], first.held_out[inner]
    values = {**one.outputs, **one.tasks, "score": one.score}
    others = {**other.outputs, **other.tasks, "score": other.score}
    ratio = len(judged.keys) / judged.trained
    differences = {name: values[name] - others[name] for name in values}
    for name, outputs in _means(first.tasks).items():  # of as many outputs on either side, or left out
        differs = [np.isnan(one.outputs[output]) != np.isnan(other.outputs[output]) for output in outputs]
        differences[name] = np.where(np.any(differs, axis=0), np.nan, differences[name])
    return {name: corrected_t_test(found, ratio) for name, found in differences.items()}


def _means(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """The outputs behind each task and ``score``."""
    by_task = {task.name: list(task.outputs) for task in tasks}
    return {**by_task, "score": [output for task in tasks for output in task.outputs]}


def comparison_table(pairs: Sequence[Pair], tasks: Sequence[Task], protocol: str) -> ResultTable:
    """One row per pair, quantity and test."""
    names = [*(task.name for task in tasks), "score"]
    names += [output for task in tasks if len(task.outputs) > 1 for output in task.outputs]
    rows = []
    for pair in pairs:
        for name in names:
            begins = True
            for test in (DELONG, BOOTSTRAP, CORRECTED_T):
                if (name, test) in pair.tests:
                    rows.append(_row(pair, name, test, begins=begins, single=len(pairs) == 1))
                    begins = False
    columns = ["against", "AUC", "first", "second", "test", "difference (95 %)", "p", "p (Holm)", "detectable"]
    notes = [*NOTES, *([FLATTERED] if protocol == "paper" else [])]
    if any(math.isnan(one.value) != math.isnan(other.value) for pair in pairs for one, other in pair.values.values()):
        notes.append("-: what one side cannot give, or only as a mean of fewer outputs than the other.")
    if len(pairs) > 1:
        notes.append(f"Holm: over the {len(pairs)} comparisons of each quantity and test.")
    title = f"{pairs[0].first} (first) against the others, protocol {protocol}"
    return ResultTable("compare", title, columns, rows, notes)


def _row(pair: Pair, name: str, test: str, *, begins: bool, single: bool) -> Row:
    found, (one, other) = pair.tests[name, test], pair.values[name]
    digits = 4 if name == "score" else 3
    limits = {"low": found.low, "high": found.high}
    p: list[Cell] = [p_number(found.p), "" if single else p_number(pair.adjusted[name, test])]
    return Row(
        [
            pair.second,
            name,
            interval_number(one, digits),
            interval_number(other, digits),
            test,
            Number(found.difference, limits, digits, signed=True, between=" to "),
            *p,
            Number(found.detectable, digits=digits),
        ],
        begins_section=begins,
    )


def auc_intervals(scored: Scored, protocol: str, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
    """Out-of-fold AUCs of every output and task, and ``score``, over all fold runs on one scale, each image once.

    Args:
        scored: An architecture or the ensemble.
        protocol: That it served.
        draws: Bootstrap samples.
        seed: Of the draws.
    """
    found = out_of_fold(on_one_scale(scored.held_out[protocol == "inner"], scored.tasks), protocol)
    values = bootstrap_scores(found.truth, found.probability, found.patients, scored.tasks, draws=draws, seed=seed)
    return {**values, **dict.fromkeys(scored.lacking, Interval(*[float("nan")] * 3))}


def interval_table(rows: Sequence[Scored], protocol: str, tasks: Sequence[Task]) -> ResultTable:
    """Out-of-fold AUCs of every architecture, averaged over repeats, with 95 % intervals over patients.

    Args:
        rows: Architectures and the ensemble.
        protocol: That all of them served.
        tasks: With K outputs in all.
    """
    names = [*(task.name for task in tasks), "score"]
    names += [output for task in tasks if len(task.outputs) > 1 for output in task.outputs]
    made = []
    for scored in rows:
        values = auc_intervals(scored, protocol)
        cells = [interval_number(values[name], 4 if name == "score" else 3) for name in names]
        made.append(Row([scored.label, *cells], begins_section=scored.architecture is None))
    notes = [
        ONE_SCORE,
        "Expanded percentile bootstrap, 2 000 draws of patients, stratified by lesion: uncertainty from the patients, "
        "not from training.",
    ]
    title = f"AUC with 95 % intervals, protocol {protocol}"
    return ResultTable("intervals", title, ["architecture", *names], made, notes)
