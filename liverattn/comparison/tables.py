"""Table 2, Table 3, the protocols side by side and the pooled AUCs, from the numbers of a comparison."""

import math
from collections.abc import Mapping, Sequence

from liverattn.comparison.members import PROTOCOLS
from liverattn.comparison.results import Comparison
from liverattn.comparison.scored import Scored
from liverattn.evaluation.crossvalidation import Summary
from liverattn.evaluation.scores import Task
from liverattn.reporting.paper import CITATION, DESIGNS, OUTPUTS, TABLE_2, TABLE_3, Published
from liverattn.reporting.results import Cell, Number, ResultTable, Row

WHAT_PROTOCOLS_ARE = (
    "paper: the held-out fold selects the copies and scores them; inner: an inner split of the training folds selects; "
    "last: the last epoch, no selection.",
    "Differences are paired within the same trainings: what selecting on the scored fold adds to the numbers.",
)


def table_2(comparison: Comparison) -> ResultTable:
    """Architectures and ensemble: mean (deviation) over fold runs, the paper's row below ours."""
    rows = []
    for scored in comparison.rows:
        found = scored.summaries(comparison.protocol)
        assert found is not None
        rows.append(Row([scored.label, *_numbers(found, comparison.tasks)], begins_section=scored.architecture is None))
        printed = _printed(scored) if _is_the_papers(comparison) else None
        if printed is not None:
            rows.append(Row([f"{printed} (paper)", *_numbers(TABLE_2[printed], comparison.tasks)], ours=False))
    title = f"Table 2: AUC, mean (deviation) over {_fold_runs(comparison)}, protocol {comparison.protocol}"
    columns = ["architecture", *_columns(comparison.tasks)]
    return ResultTable("table2", title, columns, rows, _notes(comparison)).with_best_bold()


def table_3(comparison: Comparison) -> ResultTable | None:
    """The ensemble by type, with both deviations of their mean; None without a task of several outputs."""
    several = [task for task in comparison.tasks if len(task.outputs) > 1]
    if not several:
        return None
    found = comparison.ensemble.summaries(comparison.protocol)
    assert found is not None
    printed = TABLE_3 if _is_the_papers(comparison) else {}
    rows = []
    for task in several:
        for output in task.outputs:
            rows.append(_by_type(output, found[output], printed.get(output), begins=output == task.outputs[0]))
        whole, theirs = found[task.name], printed.get(task.name)
        of_outputs = Summary(whole.mean, _or_nan(whole.deviation_of_outputs))
        theirs_of_outputs = None if theirs is None else Published(theirs.mean, theirs.deviation_of_outputs)
        rows.append(_by_type(f"{task.name}, mean of the deviations", of_outputs, theirs_of_outputs, begins=True))
        rows.append(_by_type(f"{task.name}, deviation of the mean", whole, theirs))
    title = f"Table 3: AUC by type, mean (deviation) over {_fold_runs(comparison)}, protocol {comparison.protocol}"
    columns = ["type", "ensemble", *(["paper"] if printed else [])]
    return ResultTable("table3", title, columns, rows, _notes(comparison))


def _by_type(name: str, ours: Summary, printed: Published | None, *, begins: bool = False) -> Row:
    cells: list[Cell] = [name, Number(ours.mean, {"deviation": ours.deviation})]
    if printed is not None:
        cells.append(Number(printed.mean, {"deviation": _or_nan(printed.deviation)}))
    return Row(cells, begins_section=begins)


def protocols(comparison: Comparison) -> ResultTable:
    """Every architecture under every protocol that its runs serve, and the measured optimism."""
    rows = []
    for scored in comparison.rows:
        begins = True
        for protocol in PROTOCOLS:
            found = scored.summaries(protocol)
            if found is not None:
                count = len(scored.cells(inner=protocol == "inner"))
                rows.append(Row([scored.label, protocol, count, *_numbers(found, comparison.tasks)], True, begins))
                begins = False
        for (inner, first, second), found in scored.optimism().items():
            name = f"{first} - {second}" + (" (inner runs)" if inner else "")
            numbers = _numbers(found, comparison.tasks, signed=True)
            rows.append(Row([scored.label, name, len(scored.cells(inner=inner)), *numbers]))
    columns = ["architecture", "protocol", "fold runs", *_columns(comparison.tasks)]
    title = "Protocols side by side: AUC, mean (deviation) over fold runs, and measured optimism"
    notes = [*WHAT_PROTOCOLS_ARE, *_not_averaged(comparison), *_undefined(comparison, *PROTOCOLS)]
    return ResultTable("protocols", title, columns, rows, notes)


def _not_averaged(comparison: Comparison) -> list[str]:
    missing = [
        inner for one in comparison.ranking for inner in one.held_out if inner not in comparison.ensemble.held_out
    ]
    kinds = {True: "with protocol=inner", False: "with protocol=paper"}
    return [
        f"Not all members have the same runs {kinds[inner]}: no ensemble of them." for inner in dict.fromkeys(missing)
    ]


def pooled(comparison: Comparison) -> ResultTable:
    """The mean over fold runs beside one AUC over all out-of-fold predictions of each repeat."""
    repeats = sorted(comparison.shown.keys["repeat"].unique())
    rows = []
    for scored in comparison.rows:
        found, whole = scored.summaries(comparison.protocol), scored.pooled(comparison.protocol)
        assert found is not None
        rows.append(Row([scored.label, "mean over fold runs", *_numbers(found, comparison.tasks)], True, True))
        rows.append(Row([scored.label, "pooled, mean over repeats", *_numbers(whole, comparison.tasks)]))
        values = scored.by_repeat[comparison.protocol == "inner", comparison.protocol]
        for k, repeat in enumerate(repeats if len(repeats) > 1 else []):
            numbers = [Number(float(values.tasks[task.name][k])) for task in comparison.tasks]
            score = Number(float(values.score[k]), digits=4)
            rows.append(Row([scored.label, f"pooled, repeat {repeat}", *numbers, score], is_detail=True))
    columns = ["architecture", "AUC", *_columns(comparison.tasks)]
    notes = [
        f"Pooled: one AUC over all out-of-fold predictions of a repeat; deviation over {len(repeats)} repeat(s). It "
        "compares probabilities of different fold runs, so it also falls where these are not on one scale.",
        *_undefined(comparison, comparison.protocol),
    ]
    title = f"Pooled out-of-fold AUC beside the mean over fold runs, protocol {comparison.protocol}"
    return ResultTable("pooled", title, columns, rows, notes)


def _columns(tasks: Sequence[Task]) -> list[str]:
    return [*(task.name for task in tasks), "score"]


def _numbers(
    found: Mapping[str, Summary] | Mapping[str, Published], tasks: Sequence[Task], *, signed: bool = False
) -> list[Number]:
    cells = []
    for name in _columns(tasks):
        one, deviations = found[name], {}
        if one.deviation_of_outputs is not None:
            deviations["deviation_of_outputs"] = one.deviation_of_outputs
        if one.deviation is not None or deviations:
            deviations["deviation"] = _or_nan(one.deviation)
        cells.append(Number(one.mean, deviations, digits=4 if name == "score" else 3, signed=signed))
    return cells


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _is_the_papers(comparison: Comparison) -> bool:
    return set(comparison.outputs) == set(OUTPUTS) and {"lesion", "malignancy", "type"} == {
        task.name for task in comparison.tasks
    }


def _printed(scored: Scored) -> str | None:
    """The row of the paper's Table 2 that a row repeats."""
    if scored.architecture is None:
        return scored.label
    run = scored.architecture.any_run
    same = DESIGNS.get(run.experiment) == (run.backbone, run.size, run.lambdas)
    return run.experiment if same else None


def _fold_runs(comparison: Comparison) -> str:
    count = len(comparison.cells)
    return f"{count} fold run" + ("s" if count != 1 else "")


def _notes(comparison: Comparison) -> list[str]:
    tasks, total = comparison.tasks, sum(task.weight for task in comparison.tasks)
    weights = " + ".join(f"{task.weight / total:.3g} {task.name}" for task in tasks)
    renormalized = "" if math.isclose(total, 1) else " (weights renormalized: tasks without labels are left out)"
    equal = len(set(comparison.weights.tolist())) == 1
    members = [
        label if equal else f"{label} ({weight:.3g})"
        for label, weight in zip(comparison.members, comparison.weights, strict=True)
    ]
    notes = [
        "Deviation: sample standard deviation over fold runs (ddof 1).",
        f"Score (Eq. 4): {weights}{renormalized}; mean over fold runs of each one's score.",
        f"Ensemble: mean of the probabilities of {', '.join(members)}; same fold, each task from its own copy.",
    ]
    for task in (task for task in tasks if len(task.outputs) > 1):
        notes.append(
            f"{task.name}: mean over {', '.join(task.outputs)}. Two deviations: mean of the {len(task.outputs)} "
            "deviations, which is what the paper prints / deviation of the mean."
        )
    if not comparison.are_named and len(comparison.ranking) > len(comparison.members):
        notes.append(
            f"The members are the best {len(comparison.members)} of {len(comparison.ranking)} by these very folds."
        )
    if comparison.protocol == "paper":
        notes.append("The held-out fold also selected the copies, which flatters all rows: see the table of protocols.")
    if _is_the_papers(comparison):
        notes.append(f"Rows and columns named paper: {CITATION}.")
    return [*notes, *_undefined(comparison, comparison.protocol), *comparison.notes]


def _undefined(comparison: Comparison, *protocols: str) -> list[str]:
    """What some fold runs of some rows cannot define, counted for each of the protocols."""
    names = dict.fromkeys([*comparison.outputs, *(task.name for task in comparison.tasks)])
    counts = [
        (protocol, name, found[name].undefined, len(scored.cells(inner=protocol == "inner")))
        for protocol in protocols
        for scored in comparison.rows
        if (found := scored.summaries(protocol)) is not None
        for name in names
        if found[name].undefined
    ]
    if not counts:
        return []
    lines = dict.fromkeys(f"{name} in {n} of {of} ({protocol})" for protocol, name, n, of in counts)
    return [
        f"Not defined by some fold runs (a class is absent) and left out there: {', '.join(lines)}. Scores of fold "
        "runs without a task are of the others, weights renormalized."
    ]
