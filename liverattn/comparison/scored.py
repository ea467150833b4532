"""An architecture or the ensemble with its numbers, under every protocol that its runs serve."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from liverattn.comparison.architectures import Architecture, Cell
from liverattn.comparison.consistency import check_folds
from liverattn.comparison.held_out import HeldOut, join, read_folds
from liverattn.comparison.members import Candidates
from liverattn.errors import told_together
from liverattn.evaluation.crossvalidation import Numbers, Summary, group_numbers, ranked
from liverattn.evaluation.scores import Task

# Differences within the same trainings: how much the first protocol flatters.
PAIRS = {False: (("paper", "last"),), True: (("paper", "inner"), ("paper", "last"))}


@dataclass(frozen=True)
class Scored:
    """An architecture or the ensemble, with its numbers.

    Attributes:
        label: Of the row.
        architecture: None: the ensemble.
        tasks: Of the outputs.
        held_out: Predictions by whether an inner split selected; not both need be there.
        lacking: Outputs that it cannot give though the others do, the tasks that average them, and ``score``: such
            means would be of fewer numbers than those of the others, and are undefined.
    """

    label: str
    architecture: Architecture | None
    tasks: tuple[Task, ...]
    held_out: Mapping[bool, HeldOut]
    lacking: frozenset[str] = frozenset()

    @cached_property
    def by_fold(self) -> Mapping[tuple[bool, str], Numbers]:
        """Numbers of every fold run, by whether an inner split selected, and protocol."""
        return self._numbers(["repeat", "fold"])

    @cached_property
    def by_repeat(self) -> Mapping[tuple[bool, str], Numbers]:
        """Pooled out-of-fold numbers of every repeat."""
        return self._numbers(["repeat"])

    def _numbers(self, keys: Sequence[str]) -> dict[tuple[bool, str], Numbers]:
        return {
            (inner, protocol): group_numbers(
                held_out.truth, probability, held_out.keys.groupby(keys).ngroup().to_numpy(), self.tasks
            )
            for inner, held_out in self.held_out.items()
            for protocol, probability in held_out.probabilities.items()
        }

    def summaries(self, protocol: str) -> dict[str, Summary] | None:
        """Over fold runs, from the runs that the protocol is at home in; None without such runs."""
        numbers = self.by_fold.get((protocol == "inner", protocol))
        return None if numbers is None else numbers.summaries(self.tasks)

    def pooled(self, protocol: str) -> dict[str, Summary]:
        """Pooled out-of-fold numbers: mean and deviation over repeats."""
        return self.by_repeat[protocol == "inner", protocol].summaries(self.tasks)

    def optimism(self) -> dict[tuple[bool, str, str], dict[str, Summary]]:
        """Paired differences of two protocols within the same trainings, over fold runs."""
        return {
            (inner, first, second): (
                self.by_fold[inner, first].minus(self.by_fold[inner, second]).summaries(self.tasks)
            )
            for inner in self.held_out
            for first, second in PAIRS[inner]
        }

    def cells(self, *, inner: bool) -> list[Cell]:
        """Repeat and fold of the fold runs that the numbers are over, ascending."""
        if inner not in self.held_out:
            return []
        found = self.held_out[inner].keys[["repeat", "fold"]].drop_duplicates()
        return sorted((int(repeat), int(fold)) for repeat, fold in found.to_numpy())

    def on_selection(self) -> "Scored | None":
        """The same fold runs judged on the cases of their inner splits: to choose settings without the held-out folds.

        Returns:
            With protocols ``inner`` (flattered: these cases chose the epoch) and ``last``; None without such cases.
        """
        selection = self.held_out[True].selection if True in self.held_out else None
        if selection is None:
            return None
        return replace(
            self,
            held_out={
                name == "inner": replace(selection, probabilities={name: values})
                for name, values in selection.probabilities.items()
            },
        )

    def of_repeat(self, repeat: int) -> "Scored":
        """One repeat, in which one network (of each member) says what an image shows.

        A mean over repeats is of several: less spread, so that its thresholds miss their rates for one network alone.
        """
        parts = {}
        for inner, found in self.held_out.items():
            rows = found.keys["repeat"].to_numpy() == repeat
            parts[inner] = HeldOut(
                keys=found.keys[rows].reset_index(drop=True),
                truth=found.truth[rows],
                probabilities={protocol: values[rows] for protocol, values in found.probabilities.items()},
                trained=round(found.trained * rows.mean()),
            )
        return replace(self, held_out=parts)

    def without_selection(self) -> "Scored":
        """The fold runs with an inner split as if it had selected nothing: for protocol ``last``."""
        return replace(self, held_out={False: replace(self.held_out[True], selection=None)})

    def record(self) -> dict[str, Any]:
        """The run folders that it rests on and all its numbers, for ``metrics.json``."""
        protocols = {}
        for (inner, protocol), numbers in self.by_fold.items():
            if inner == (protocol == "inner"):
                pooled = self.by_repeat[inner, protocol]
                protocols[protocol] = {
                    "over_folds": _with_values(numbers, self.tasks),
                    "pooled_over_repeats": _with_values(pooled, self.tasks),
                }
        optimism = {
            f"{first} - {second}{' (inner runs)' if inner else ''}": {name: vars(one) for name, one in found.items()}
            for (inner, first, second), found in self.optimism().items()
        }
        runs = {} if self.architecture is None else self.architecture.runs
        folders = [
            {"repeat": repeat, "fold": fold, "inner": inner, "folder": str(run.folder.path)}
            for (inner, (repeat, fold)), run in sorted(runs.items())
            if (repeat, fold) in self.cells(inner=inner)
        ]
        return {"runs": folders, "protocols": protocols, "optimism": optimism}


def _with_values(numbers: Numbers, tasks: Sequence[Task]) -> dict[str, Any]:
    values = {**numbers.outputs, **numbers.tasks, "score": numbers.score}
    return {name: {**vars(one), "values": values[name].tolist()} for name, one in numbers.summaries(tasks).items()}


def read(found: Candidates) -> list[Scored]:
    """Read and check the predictions of all fold runs, of those with and those without an inner split.

    Raises:
        InputError: See :func:`~liverattn.comparison.held_out.read_folds` and
            :func:`~liverattn.comparison.held_out.check_folds`.
    """
    chosen = {
        (architecture.label, inner): functools.partial(read_folds, architecture, cells, inner=inner)
        for architecture in found.architectures
        for inner in (False, True)
        if (cells := architecture.cells(inner=inner).intersection(found.cells))
    }
    folds = dict(zip(chosen, told_together(chosen.values()), strict=True))
    check_folds([fold for some in folds.values() for fold in some])
    return [
        Scored(a.label, a, a.tasks, {inner: join(some) for (label, inner), some in folds.items() if label == a.label})
        for a in found.architectures
    ]


def rank(scored: Sequence[Scored], protocol: str) -> tuple[Scored, ...]:
    """From the best mean score (Eq. 4) over fold runs to the worst."""
    by_label = {one.label: one for one in scored}
    scores = {label: found["score"].mean for label, one in by_label.items() if (found := one.summaries(protocol))}
    return tuple(by_label[label] for label in ranked(scores))
