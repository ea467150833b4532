"""The cases that each task gets most wrong, as a table and as pictures with words."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.explained import Explained
from liverattn.evaluation.failures import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    RIGHT,
    WRONG_TYPE,
    Call,
    most_wrong,
    task_calls,
)
from liverattn.evaluation.scores import Task
from liverattn.evaluation.vessels import inside, peak_points
from liverattn.reporting.failures import FailedCase, FailedTask, FailureReport
from liverattn.reporting.results import Cell, ResultTable, Row

# What people call the two classes of an output.
CLASSES = {"lesion": ("no lesion", "lesion"), "malignancy": ("benign", "malignant")}
ATTENTION = ("pointing", "energy", "chance", "peak", "entropy")
PROTOCOL_NOTES = {
    "paper": "paper: the held-out images themselves chose the epochs, which flatters",
    "inner": "inner: an inner split of the training folds chose the epochs",
    "last": "last: the last epoch, nothing was chosen",
}
Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Failures:
    """Calls of every task, right and wrong.

    Attributes:
        explained: What they were made from.
        calls: By task, from the most wrong on.
        shown: The most wrong ones of them.
        quality: Attention quality of every image, by task.
        vessels: (N, 4) of every image in prepared pixels; None where nobody knows them.
        names: Of the images; None: they are not to be named.
    """

    explained: Explained
    calls: Mapping[str, Sequence[Call]]
    shown: Mapping[str, Sequence[Call]]
    quality: Mapping[str, pd.DataFrame]
    vessels: Sequence[Boxes] | None
    names: Sequence[str] | None

    def table(self) -> pd.DataFrame:
        """All wrong calls, one row each."""
        outputs = self.explained.subject.outputs
        rows = [
            {
                "task": task,
                **({} if self.names is None else {"image_id": self.names[call.case]}),
                "kind": call.kind,
                "true": _class_name(call.true),
                "called": _class_name(call.called),
                "error": call.error,
                **{f"probability_{name}": self.explained.probability[call.case, k] for k, name in enumerate(outputs)},
                **self.quality[task].loc[call.case, list(ATTENTION)].to_dict(),
                **({} if self.vessels is None else {"maximum_on_vessel": self._is_on_vessel(task, call.case)}),
                "on_page": call in self.shown[task],
            }
            for task, calls in self.calls.items()
            for call in calls
        ]
        # Of all calls, so that the table has its columns where none is wrong.
        table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["task", "kind"])
        return table[table["kind"] != RIGHT]

    def _is_on_vessel(self, task: str, case: int) -> bool:
        assert self.vessels is not None
        point = peak_points(self.explained.scores[task][case : case + 1], self.explained.data.cases.size)
        return bool(inside(point, self.vessels[case])[0])

    def tasks(self) -> list[FailedTask]:
        """What the page shows of each task."""
        return [
            FailedTask(
                title=task.name,
                summary=_summary(task, self.calls[task.name]),
                cases=[self._case(task.name, call) for call in self.shown[task.name]],
                confusions=_confusions(task, self.calls[task.name]),
            )
            for task in self.explained.subject.tasks
        ]

    def _case(self, task: str, call: Call) -> FailedCase:
        weights = self.explained.weights[task][call.case]
        return FailedCase(
            image=self.explained.image(call.case),
            lift=weights * weights.size,
            boxes=self.explained.boxes(call.case),
            vessels=None if self.vessels is None else self.vessels[call.case],
            name=None if self.names is None else self.names[call.case],
            kind=call.kind,
            said=self._said(call),
            attention=self._looked(task, call.case),
        )

    def _said(self, call: Call) -> str:
        outputs = dict.fromkeys([call.called.removeprefix("not "), call.true.removeprefix("not ")])
        columns = [self.explained.subject.outputs.index(output) for output in outputs]
        chances = zip(outputs, self.explained.probability[call.case, columns], strict=True)
        shown = ", ".join(f"P({output}) = {chance:.2f}" for output, chance in chances)
        return f"{_class_name(call.true)}, called {_class_name(call.called)}: {shown}"

    def _looked(self, task: str, case: int) -> str:
        quality = self.quality[task].loc[case]
        on_vessel = self.vessels is not None and self._is_on_vessel(task, case)
        vessel = ", maximum on a vessel" if on_vessel else ""
        if np.isnan(quality["chance"]):
            return f"attention: max sigmoid(s) {quality['peak']:.2f}, entropy {quality['entropy']:.2f}{vessel}"
        where = {1.0: "maximum on the lesion", 0.0: "maximum beside the lesion"}.get(quality["pointing"], "even")
        return f"attention: {where}{vessel}, {quality['energy']:.0%} in boxes that cover {quality['chance']:.1%}"


def find_failures(
    explained: Explained,
    *,
    count: int,
    threshold: float,
    vessels: Sequence[Boxes] | None,
    identifiers: bool,
) -> Failures:
    """Find the wrong calls of every task.

    Args:
        explained: What was read.
        count: Cases per task that are shown.
        threshold: Of the probability, for tasks with one output.
        vessels: (N, 4) of every image in prepared pixels; None where nobody knows them.
        identifiers: Name the images.
    """
    subject = explained.subject
    calls = {
        task.name: task_calls(explained.truth, explained.probability, task, subject.outputs, threshold)
        for task in subject.tasks
    }
    return Failures(
        explained=explained,
        calls=calls,
        shown={task: most_wrong(of_task, count) for task, of_task in calls.items()},
        quality={task.name: explained.quality(task.name) for task in subject.tasks},
        vessels=vessels,
        names=explained.table["image_id"].tolist() if identifiers else None,
    )


def _class_name(name: str) -> str:
    output = name.removeprefix("not ")
    return CLASSES[output][output == name] if output in CLASSES else name


def _summary(task: Task, calls: Sequence[Call]) -> str:
    if not calls:
        return "No image whose truth and prediction are both known."
    if len(task.outputs) > 1:
        wrong = sum(call.kind == WRONG_TYPE for call in calls)
        return f"{wrong} of {len(calls)} images of a known type are called another type."
    (output,) = task.outputs
    return " ".join(
        _class_summary(output, [call for call in calls if call.true == true], kind, nearest)
        for true, kind, nearest in ((f"not {output}", FALSE_POSITIVE, max), (output, FALSE_NEGATIVE, min))
    )


def _class_summary(output: str, calls: Sequence[Call], kind: str, nearest: Callable[..., float]) -> str:
    if not calls:
        return f"No image that could be a {kind}."
    wrong = sum(call.kind == kind for call in calls)
    tail = "" if wrong else f"; the nearest one has P({output}) = {nearest(call.probability for call in calls):.2f}"
    return f"{wrong} of {len(calls)} images of the class {_class_name(calls[0].true)} are {kind}s{tail}."


def _confusions(task: Task, calls: Sequence[Call]) -> ResultTable | None:
    """How often each type was called each; None for a task with one output."""
    if len(task.outputs) == 1 or not calls:
        return None
    counts = Counter((call.true, call.called) for call in calls)
    rows = []
    for true in task.outputs:
        cells: list[Cell] = [counts[true, called] for called in task.outputs]
        rows.append(Row([true, *cells, sum(counts[true, called] for called in task.outputs)]))
    columns = ["true type", *(f"called {name}" for name in task.outputs), "images"]
    return ResultTable("confusions", "Types, as they are and as they are called", columns, rows)


def failure_report(failures: Failures, tables: Sequence[ResultTable], threshold: float) -> FailureReport:
    """The whole page.

    Args:
        failures: Of every task.
        tables: Below them.
        threshold: That the wrong calls were found with.
    """
    subject, explained = failures.explained.subject, failures.explained
    run = subject.members[0].any_run
    facts = [
        (subject.kind, f"{subject.folder.resolve().parent.name}/{subject.folder.resolve().name}"),
        ("data", f"{run.data_name}, {len(explained.rows)} held-out images, fold assignment {run.assignment[:12]}"),
        ("fold runs", f"{len(subject.cells)} per member: {', '.join(f'{r}/{f}' for r, f in subject.cells)}"),
        ("members", "; ".join(f"{member.label} ({member.weight:.2g})" for member in subject.members)),
        ("protocol", PROTOCOL_NOTES[subject.protocol]),
        ("threshold", f"{threshold:g} for tasks with one output; of several, the most probable one is called"),
    ]
    return FailureReport(subject.folder.resolve().name, facts, failures.tasks(), tables)
