"""From a comparison (or one fold run) to a bundle: which networks, thresholds, numbers and limits go with it."""

import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from liverattn.bundle.bundle import Bundle, blank_network, packed, write_bundle
from liverattn.bundle.contents import (
    ArchitecturePart,
    Contents,
    CopyPart,
    CostPart,
    DataPart,
    MemberPart,
    MetricsPart,
    PointPart,
    PreparationPart,
    RangePart,
    TaskPart,
    TrunkPart,
)
from liverattn.comparison.architectures import Cell, FinishedRun, finished_runs, group_architectures, kept_together
from liverattn.comparison.held_out import OutOfFold, join, out_of_fold, read_folds
from liverattn.comparison.pairs import auc_intervals
from liverattn.comparison.results import Comparison, compare
from liverattn.comparison.scored import Scored
from liverattn.comparison.tables import protocols
from liverattn.data.preprocessing import Preprocessing
from liverattn.errors import InputError
from liverattn.evaluation.intervals import Interval
from liverattn.evaluation.operating_points import operating_points
from liverattn.evaluation.scores import shows_lesion
from liverattn.provenance import environment_of
from liverattn.reporting.model_card import model_card
from liverattn.runs import RunFolder
from liverattn.training.copies import TaskCopy, read_copy, read_last

Choice = Literal["one", "all"]
TIMED = 4  # images of a timed forward pass


class NoCopiesError(InputError):
    """The checkpoints of a task are gone, or there never were any."""


def one_run(run: RunFolder, protocol: str | None) -> Comparison:
    """A single fold run as a comparison of itself, so that it can be bundled like an ensemble.

    Args:
        run: Finished.
        protocol: Whose copies are meant; None: the run's own.

    Raises:
        InputError: It is not finished, did not serve that protocol, or kept no copies for it: with an inner split, what
            the held-out fold would have chosen is scored from the recorded outputs, but its weights are gone.
    """
    if not run.is_finished:
        remedy = (
            "run=... is the folder that training printed."
            if run.state == "missing"
            else f"It is {run.state}: the command that began it goes on with it."
        )
        raise InputError(f"{run.path} is not the folder of a finished fold run. {remedy}")
    (architecture,) = group_architectures(finished_runs(run.path))
    found = architecture.any_run
    chosen = protocol or str(yaml.safe_load(run.config.read_text())["protocol"]["name"])
    if chosen == "paper" and found.is_inner:
        raise InputError(
            f"{run.path} kept the copies that its inner split chose, not those that protocol=paper would choose. "
            "Choose protocol=inner or protocol=last."
        )
    if chosen == "inner" and not found.is_inner:
        raise InputError(f"{run.path} was trained without an inner split. Choose protocol=paper or protocol=last.")
    held_out = join(read_folds(architecture, [found.cell], inner=found.is_inner))
    # Its numbers are shown where the comparison looks for those of this protocol.
    scored = Scored(architecture.label, architecture, architecture.tasks, {chosen == "inner": held_out})
    return compare([scored], [scored.label], None, chosen, are_named=True)


def bundle(comparison: Comparison, choice: Choice, name: str, folder: Path) -> Bundle:
    """Write the bundle of a comparison's ensemble.

    Args:
        comparison: Whose members are bundled.
        choice: ``all`` fold runs of every member, or ``one`` of each: the first cell in which all of them have a copy
            of every task. No fold is preferred for its score, which would be luck.
        name: Of the bundle.
        folder: Where it is written.

    Raises:
        NoCopiesError: A task has no copy in any fold run.
        InputError: A checkpoint is damaged, or the bundle cannot be written.
    """
    members = _Members(comparison)
    cells = members.cells if choice == "all" else members.cells[:1]
    judged = comparison.ensemble if choice == "all" else comparison.ensemble.of_repeat(cells[0][0])
    scores = out_of_fold(judged.held_out[comparison.protocol == "inner"], comparison.protocol)
    contents = Contents(
        name=name,
        created=date.today().isoformat(),
        protocol=comparison.protocol,
        tasks=tuple(TaskPart(**asdict(task)) for task in comparison.tasks),
        architectures=tuple(members.architectures()),
        members=tuple(members.members(cells)),
        operating_points=_points(comparison, scores),
        metrics=_metrics(comparison, judged, scores),
        data=_data(members.any_run, comparison.outputs, scores),
        costs={},
        versions=members.versions(cells),
    )
    contents = contents.model_copy(update={"costs": _costs(contents, len(members.cells))})
    card = model_card(contents.model_dump(), choice, protocols(comparison).markdown())
    return write_bundle(folder, contents, members.networks(cells), card)


class _Members:
    """The members of an ensemble with the copies of their weights, each file read when it is needed."""

    def __init__(self, comparison: Comparison) -> None:
        shares = dict(zip(comparison.members, comparison.weights.tolist(), strict=True))
        self.labels = [label for label in comparison.members if shares[label] > 0]
        self.weights = [shares[label] for label in self.labels]
        self.protocol, self.tasks, self.outputs = comparison.protocol, comparison.tasks, comparison.outputs
        self._runs = [comparison.fold_runs(label) for label in self.labels]
        self.cells = sorted(comparison.cells, key=lambda cell: (not self._is_whole(cell), cell))
        for task in self.tasks:
            if not any(self._has(run, task.name) for runs in self._runs for run in runs.values()):
                raise NoCopiesError(
                    f"No fold run has a copy of the task {task.name}: its checkpoints are gone, or its AUC was "
                    "undefined. Remove the run folders and run the folds again, with the outputs of an undefined task "
                    "left out of data.tasks."
                )

    @property
    def any_run(self) -> FinishedRun:
        """They agree in their data."""
        return self._runs[0][self.cells[0]]

    def architectures(self) -> list[ArchitecturePart]:
        """What the networks of each member share."""
        return [_architecture(label, runs[self.cells[0]]) for label, runs in zip(self.labels, self._runs, strict=True)]

    def members(self, cells: Sequence[Cell]) -> list[MemberPart]:
        """Each fold run of each member, with the digests of its copies."""
        return [
            MemberPart(
                architecture=k,
                repeat=cell[0],
                fold=cell[1],
                weight=self.weights[k] / len(cells),
                copies={
                    task: CopyPart(network=packed(found.weights)[0], epoch=found.epoch)
                    for task, found in self._copies(runs[cell])
                },
            )
            for k, runs in enumerate(self._runs)
            for cell in cells
        ]

    def versions(self, cells: Sequence[Cell]) -> dict[str, str]:
        """That trained the networks."""
        found = environment_of([runs[cell].environment for runs in self._runs for cell in cells])
        return {name: value for name, value in found.items() if name != "machine"}

    def networks(self, cells: Sequence[Cell]) -> Iterator[tuple[str, bytes]]:
        """The files of all copies, one after the other: all at once would be gigabytes."""
        for runs in self._runs:
            for cell in cells:
                for _, found in self._copies(runs[cell]):
                    yield packed(found.weights)

    def _copies(self, run: FinishedRun) -> Iterator[tuple[str, TaskCopy]]:
        if self.protocol == "last":  # one network for all tasks
            found = read_last(run.folder.last)
            yield from ((task.name, found) for task in self.tasks)
            return
        for task in self.tasks:
            if self._has(run, task.name):
                yield task.name, read_copy(run.folder.copy(task.name))

    def _is_whole(self, cell: Cell) -> bool:
        return all(self._has(runs[cell], task.name) for runs in self._runs for task in self.tasks)

    def _has(self, run: FinishedRun, task: str) -> bool:
        return run.folder.last.exists() if self.protocol == "last" else run.folder.copy(task).exists()


def _architecture(label: str, run: FinishedRun) -> ArchitecturePart:
    config: dict[str, Any] = yaml.safe_load(run.folder.config.read_text())
    trunk, steps = config["backbone"], config["data"]["preprocessing"]
    cut = trunk.get("cut")
    given = {key: value for key, value in steps.items() if key != "_target_"}
    return ArchitecturePart(
        label=label,
        trunk=TrunkPart(
            name=trunk["name"], library=trunk.get("library", "torchvision"), cut=None if cut is None else str(cut)
        ),
        lambdas=run.lambdas,
        mirror=config["model"].get("mirror", False),
        preparation=PreparationPart(**{**asdict(Preprocessing()), **given}),
    )


def _costs(contents: Contents, cells: int) -> dict[str, CostPart]:
    """Of ``one`` and ``all``, from a timed forward pass of each architecture; the first fold run stands for all."""
    passes = {k: 0 for k in range(len(contents.architectures))}
    for k in passes:
        first = next(member for member in contents.members if member.architecture == k)
        passes[k] = len({found.network for found in first.copies.values()})
    seconds = sum(count * _seconds(contents.architectures[k], len(contents.outputs)) for k, count in passes.items())
    passes = {k: count * (1 + contents.architectures[k].mirror) for k, count in passes.items()}
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, float32"
    return {
        name: CostPart(
            passes=times * sum(passes.values()), milliseconds=round(1000 * times * seconds, 1), machine=machine
        )
        for name, times in (("one", 1), ("all", cells))
    }


@torch.inference_mode()
def _seconds(architecture: ArchitecturePart, outputs: int) -> float:
    """Of one image, as prediction runs it."""
    network = blank_network(architecture, outputs).to(memory_format=torch.channels_last)
    images = torch.full((TIMED, 1, architecture.preparation.height, architecture.preparation.width), 70.0)
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        network(images)
        durations.append(time.perf_counter() - started)
    return min(durations) / TIMED


def _points(comparison: Comparison, scores: OutOfFold) -> dict[str, tuple[PointPart, ...]]:
    shown = shows_lesion(scores.truth, comparison.outputs)
    conditional = {output: task.conditional for task in comparison.tasks for output in task.outputs}
    found = {}
    for k, output in enumerate(comparison.outputs):
        rows = shown if conditional[output] else np.ones_like(shown)
        points = operating_points(scores.truth[rows, k], scores.probability[rows, k], scores.patients[rows])
        found[output] = tuple(
            PointPart(
                name=point.name,
                threshold=point.threshold,
                sensitivity=_range(point.sensitivity),
                specificity=_range(point.specificity),
                positives=point.positives,
                negatives=point.negatives,
            )
            for point in points
        )
    return found


def _metrics(comparison: Comparison, judged: Scored, scores: OutOfFold) -> MetricsPart:
    intervals = auc_intervals(judged, comparison.protocol)
    return MetricsPart(
        protocol=comparison.protocol,
        fold_runs=len(judged.cells(inner=comparison.protocol == "inner")),
        cases=len(scores.images),
        auc={name: _range(one) for name, one in intervals.items()},
    )


def _data(run: FinishedRun, outputs: Sequence[str], scores: OutOfFold) -> DataPart:
    positive = {output: int((scores.truth[:, k] == 1).sum()) for k, output in enumerate(outputs)}
    counts = {"images": len(scores.images), kept_together(run): len(set(scores.patients.tolist())), **positive}
    return DataPart(name=run.data_name, fingerprint=run.fingerprint, assignment=run.assignment, counts=counts)


def _range(interval: Interval) -> RangePart:
    return RangePart(**{key: None if math.isnan(value) else value for key, value in vars(interval).items()})
