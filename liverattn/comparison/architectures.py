"""Finished fold runs, grouped by data and by architecture, and names for the architectures."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from liverattn.configuration import identity
from liverattn.errors import InputError, InputListError, told_together
from liverattn.evaluation.scores import Task
from liverattn.provenance import architecture_labels, architecture_settings
from liverattn.runs import RunFolder, anew, find_runs

Cell = tuple[int, int]  # repeat and fold, from 0


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What a finished fold run is, as far as its configuration and its record say.

    Attributes:
        folder: Of the run.
        experiment: ``name`` in its configuration.
        data_name: Of the source.
        assignment: Hash of the fold assignment.
        fingerprint: Of the images and labels.
        cell: Repeat and held-out fold.
        folds: Of the cross-validation, as configured.
        repeats: Of the cross-validation, as configured.
        inner_folds: Of the inner split that selected (protocol ``inner``); None: there was none.
        tasks: Their outputs are the columns of its predictions.
        settings: What determines an architecture, flat, as text.
        size: Height and width of the network's input.
        backbone: Name of the trunk.
        lambdas: Scales of Eq. 3.
        parameters: Number of the network's; None where an older version recorded none.
        environment: Versions and machine that trained it; empty where an older version recorded none.
    """

    folder: RunFolder
    experiment: str
    data_name: str
    assignment: str
    fingerprint: str
    cell: Cell
    folds: int
    repeats: int
    inner_folds: int | None
    tasks: tuple[Task, ...]
    settings: Mapping[str, str]
    size: tuple[int, int]
    backbone: str
    lambdas: tuple[float, ...]
    parameters: int | None
    environment: Mapping[str, str]

    @property
    def is_inner(self) -> bool:
        """An inner split selected."""
        return self.inner_folds is not None


@dataclass(frozen=True)
class Architecture:
    """Fold runs whose configurations differ in nothing but the cell and what selects.

    Attributes:
        label: The experiment's name, and settings where that alone does not tell architectures apart.
        runs: By whether an inner split selected, and by cell.
    """

    label: str
    runs: Mapping[tuple[bool, Cell], FinishedRun]

    @property
    def any_run(self) -> FinishedRun:
        """One of its runs: they agree in everything but the cell."""
        return next(iter(self.runs.values()))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Their outputs are the columns of its predictions."""
        return self.any_run.tasks

    def cells(self, *, inner: bool) -> set[Cell]:
        """Those that are finished, with or without an inner split."""
        return {cell for is_inner, cell in self.runs if is_inner == inner}


def kept_together(run: FinishedRun) -> str:
    """What a run counts as patients, in words: near-duplicates of different ones may have been made one."""
    is_grouped = yaml.safe_load(run.folder.config.read_text())["data"].get("group_duplicates")
    return "patients or groups of near-duplicates" if is_grouped else "patients"


def finished_runs(folder: Path) -> list[FinishedRun]:
    """Read what the finished runs below a folder are; no predictions yet.

    Raises:
        InputError: There is none, or files are damaged (all of them are named).
    """
    runs = told_together(functools.partial(_read, run) for run in find_runs(folder) if run.is_finished)
    if not runs:
        raise InputError(
            f"There is no finished run in {folder}. Train some (python -m liverattn.train +experiment=...), or name "
            "the folder that holds them: paths.outputs=... or runs=..."
        )
    return runs


def _read(run: RunFolder) -> FinishedRun:
    record = run.record()
    try:
        config = yaml.safe_load(run.config.read_text())
        data, protocol = config["data"], config["protocol"]
        return FinishedRun(
            folder=run,
            experiment=str(config["name"]),
            data_name=str(data["name"]),
            assignment=str(record["assignment"]),
            fingerprint=str(record["data"]),
            cell=(int(protocol["repeat"]), int(protocol["fold"])),
            folds=int(protocol["folds"]),
            repeats=int(protocol["repeats"]),
            inner_folds=protocol.get("inner_folds"),
            tasks=tuple(
                Task(name, tuple(task["outputs"]), float(task["weight"]), bool(task["conditional"]))
                for name, task in data["tasks"].items()
                if task is not None
            ),
            settings=architecture_settings(identity(config)),
            size=(int(data["preprocessing"]["height"]), int(data["preprocessing"]["width"])),
            backbone=str(config["backbone"]["name"]),
            lambdas=tuple(float(scale) for scale in config["model"]["attention"]["lambdas"]),
            parameters=record.get("parameters"),
            environment=dict(record.get("environment", {})),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{run.path} is not a fold run of this version: config.yaml or run.json is absent, damaged or lacks an "
            f"entry ({type(error).__name__}: {error}). {anew(run.path)}"
        ) from error


def choose_data(runs: Sequence[FinishedRun], data: str | None, assignment: str | None) -> list[FinishedRun]:
    """The runs of one fold assignment.

    Args:
        runs: Of any data.
        data: Name of a data set; None: any.
        assignment: Beginning of the hash of a fold assignment; None: any, if there is only one.

    Raises:
        InputError: No assignment, or more than one, fits.
    """
    by_assignment: dict[str, list[FinishedRun]] = {}
    for run in runs:
        if data in (None, run.data_name) and run.assignment.startswith("" if assignment is None else str(assignment)):
            by_assignment.setdefault(run.assignment, []).append(run)
    if len(by_assignment) == 1:
        return next(iter(by_assignment.values()))
    if not by_assignment:
        found = sorted({f"{run.data_name} ({run.assignment[:12]})" for run in runs})
        wanted = f"data={data}" if assignment is None else f"assignment={assignment}"
        raise InputError(f"No finished run is of {wanted}. Found: {', '.join(found)}.")
    lines = [_described(found) for found in by_assignment.values()]
    raise InputListError(
        "The finished runs are of several data or fold assignments",
        sorted(lines),
        "Choose one: data=NAME or assignment=HASH",
    )


def _described(runs: Sequence[FinishedRun]) -> str:
    names = "/".join(sorted({run.data_name for run in runs}))
    kinds = len({tuple(sorted(run.settings.items())) for run in runs})
    return (
        f"{names}, assignment {runs[0].assignment[:12]}: {kinds} architecture(s) "
        f"({', '.join(sorted({run.experiment for run in runs}))}), {len(runs)} fold run(s)"
    )


def group_architectures(runs: Sequence[FinishedRun]) -> list[Architecture]:
    """Group the runs of one fold assignment, by label.

    Raises:
        InputError: Two runs are of the same architecture and cell, or the cells of one architecture were made from
            different images or labels, or with different inner splits.
    """
    groups: dict[tuple[tuple[str, str], ...], list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(run.settings.items())), []).append(run)
    labels = architecture_labels([(group[0].experiment, group[0].settings) for group in groups.values()])
    found = [_one_architecture(label, group) for label, group in zip(labels, groups.values(), strict=True)]
    return sorted(found, key=lambda architecture: architecture.label)


def _one_architecture(label: str, runs: Sequence[FinishedRun]) -> Architecture:
    cells: dict[tuple[bool, Cell], FinishedRun] = {}
    for run in runs:
        twin = cells.setdefault((run.is_inner, run.cell), run)
        if twin is not run:
            raise InputError(
                f"Two finished runs are the same training ({label}, repeat {run.cell[0]}, fold {run.cell[1]}), "
                f"whatever their names: {twin.folder.path} and {run.folder.path}. Move one of them away, or narrow the "
                "search with runs=..."
            )
        if run.fingerprint != runs[0].fingerprint:
            raise InputError(
                f"The fold runs of {label} were made from different images or labels: {runs[0].folder.path} from "
                f"{runs[0].fingerprint[:12]}, {run.folder.path} from {run.fingerprint[:12]}. Run the older ones again."
            )
    splits = {run.inner_folds: run.folder.path for run in runs if run.is_inner}
    if len(splits) > 1:
        found = ", ".join(f"protocol.inner_folds={number} in {path}" for number, path in splits.items())
        raise InputError(f"The fold runs of {label} have different inner splits: {found}. Move those of one away.")
    return Architecture(label, cells)
