"""What a report is on: one finished fold run, or the fold runs of an ensemble."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from liverattn.comparison.architectures import Architecture, Cell, FinishedRun, finished_runs
from liverattn.comparison.held_out import SERVED
from liverattn.comparison.members import PROTOCOLS
from liverattn.errors import InputError, InputListError
from liverattn.evaluation.crossvalidation import member_weights
from liverattn.evaluation.scores import Task
from liverattn.runs import RunFolder

AGAIN = "Make it again: python -m liverattn.ensemble"


@dataclass(frozen=True)
class Member:
    """An architecture and its part in the mean.

    Attributes:
        label: Of the architecture.
        weight: > 0; those of all members add up to 1.
        runs: One per cell, all with an inner split or all without.
    """

    label: str
    weight: float
    runs: Mapping[Cell, FinishedRun]

    @property
    def any_run(self) -> FinishedRun:
        """One of its runs: they agree in everything but the cell."""
        return next(iter(self.runs.values()))

    @property
    def architecture(self) -> Architecture:
        """The same runs, as predictions are read by."""
        return Architecture(self.label, {(run.is_inner, cell): run for cell, run in self.runs.items()})

    def configuration(self) -> dict[str, Any]:
        """Composed configuration of one of its runs, plain."""
        content: dict[str, Any] = yaml.safe_load(self.any_run.folder.config.read_text())
        return content


@dataclass(frozen=True)
class Subject:
    """What is reported on.

    Attributes:
        folder: Of the run or of the ensemble.
        kind: ``run`` or ``ensemble``.
        protocol: That chooses the epochs.
        members: At least one, over the same cells.
    """

    folder: Path
    kind: str
    protocol: str
    members: tuple[Member, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The same for all members."""
        return self.members[0].any_run.tasks

    @property
    def outputs(self) -> list[str]:
        """Names of the K outputs."""
        return [output for task in self.tasks for output in task.outputs]

    @property
    def cells(self) -> list[Cell]:
        """Repeat and fold of all fold runs of a member, ascending."""
        return sorted(self.members[0].runs)


def one_run(folder: Path, protocol: str | None = None) -> Subject:
    """A finished fold run.

    Args:
        folder: Of the run.
        protocol: None: the one that it was trained for.

    Raises:
        InputError: It is no run, not finished or damaged, or the protocol is not one that it serves.
    """
    run = RunFolder(folder)
    if not (folder / "run.json").exists():
        raise InputError(
            f"{folder} is not a run folder: it has no run.json. run=... is the folder that training printed, such as "
            "outputs/runs/quickstart/phantom-r0-f0-s0-33b5f841; the folder of an ensemble is given as ensemble=..."
        )
    if not run.is_finished:
        raise InputError(
            f"The run {folder} is not finished (it is {run.state}). The command that began it goes on with it."
        )
    finished = finished_runs(folder)[0]
    member = Member(finished.experiment, 1.0, {finished.cell: finished})
    chosen = str(member.configuration()["protocol"].get("name")) if protocol is None else protocol
    _check_protocol(chosen, SERVED[finished.is_inner], f"The run {folder}")
    return Subject(folder, "run", chosen, (member,))


def _check_protocol(protocol: str, served: Sequence[str], name: str) -> None:
    if protocol not in served:
        raise InputError(f"{name} has no results of protocol={protocol}. Choose one of {', '.join(served)}.")


def one_ensemble(folder: Path, protocol: str | None = None) -> Subject:
    """The fold runs of an ensemble that ``liverattn.ensemble`` made.

    Args:
        folder: Of the ensemble.
        protocol: None: the one that it was made with.

    Raises:
        InputError: It is no ensemble or damaged, its fold runs are gone, or none serve the protocol.
    """
    path = folder / "metrics.json"
    try:
        record = json.loads(path.read_text())
        chosen = str(record["protocol"]) if protocol is None else protocol
        cells = [(int(repeat), int(fold)) for repeat, fold in record["cells"]]
        parts = {
            str(label): (float(weight), [_folder_of(run, chosen) for run in record["results"][label]["runs"]])
            for label, weight in zip(record["members"], record["weights"], strict=True)
        }
    except FileNotFoundError:
        raise InputError(
            f"{folder} is not the folder of an ensemble: it has no metrics.json. ensemble=... is the folder that "
            "python -m liverattn.ensemble printed; a run folder is given as run=..."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not that of an ensemble of this version, or damaged ({type(error).__name__}: {error}). {AGAIN} "
            "(A run folder is given as run=...)"
        ) from None
    _check_protocol(chosen, PROTOCOLS, f"The ensemble {folder}")
    runs = {label: _runs([run for run in listed if run is not None], folder) for label, (_, listed) in parts.items()}
    found = {label: {cell: run for cell, run in of_label.items() if cell in cells} for label, of_label in runs.items()}
    if not cells or not all(set(of_label) == set(cells) for of_label in found.values()):
        raise InputError(
            f"{path} does not name a fold run of every cell that serves protocol={chosen}. Choose the protocol that it "
            f"was made with, or train what is missing. {AGAIN}"
        )
    weights = member_weights([weight for weight, _ in parts.values()], list(parts))
    members = zip(found.items(), weights, strict=True)
    kept = tuple(Member(label, float(weight), of_label) for (label, of_label), weight in members if weight > 0)
    return Subject(folder, "ensemble", chosen, kept)


def _folder_of(run: Mapping[str, Any], protocol: str) -> Path | None:
    """None for a run that is not at home in the protocol."""
    return Path(run["folder"]) if bool(run["inner"]) == (protocol == "inner") else None


def _runs(folders: Sequence[Path], ensemble: Path) -> dict[Cell, FinishedRun]:
    gone = [str(folder) for folder in folders if not RunFolder(folder).is_finished]
    if gone:
        remedy = f"Put them back (relative paths begin where the ensemble was made), or go without them. {AGAIN}"
        raise InputListError(f"Fold runs of the ensemble {ensemble} are gone or not finished", gone, remedy)
    return {run.cell: run for folder in folders for run in finished_runs(folder)}
