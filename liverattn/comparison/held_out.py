"""Held-out predictions of finished fold runs, read and checked: nobody is judged on a patient it has seen."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from liverattn.comparison.architectures import Architecture, Cell, FinishedRun
from liverattn.errors import InputError, InputListError
from liverattn.evaluation.scores import Task

SERVED = {False: ("paper", "last"), True: ("inner", "paper", "last")}
REMEDY = "Remove the run folder(s) and run the fold(s) again."


@dataclass(frozen=True)
class HeldOut:
    """Out-of-fold predictions.

    Attributes:
        keys: n rows: repeat, fold, image_id, patient_id, in this order.
        truth: (n, K) 0, 1, or NaN where unknown, in the order of the tasks' outputs.
        probabilities: (n, K) by protocol, each output from the copy of its task; NaN where there is no copy.
    """

    keys: pd.DataFrame
    truth: NDArray[np.float64]
    probabilities: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class OutOfFold:
    """Every image once: its predictions averaged over repeats, for intervals and tests.

    Attributes:
        images: (n,) image_ids, ascending.
        patients: (n,).
        truth: (n, K) 0, 1, or NaN where unknown.
        probability: (n, K) of one protocol; NaN where no fold run has a copy of the task.
    """

    images: NDArray[np.str_]
    patients: NDArray[np.str_]
    truth: NDArray[np.float64]
    probability: NDArray[np.float64]


def out_of_fold(held_out: HeldOut, protocol: str) -> OutOfFold:
    """Average over repeats."""
    images, first, places = np.unique(
        held_out.keys["image_id"].to_numpy(dtype=str), return_index=True, return_inverse=True
    )
    probability = pd.DataFrame(held_out.probabilities[protocol]).groupby(places).mean().to_numpy(np.float64)
    patients = held_out.keys["patient_id"].to_numpy(dtype=str)[first]
    return OutOfFold(images, patients, held_out.truth[first], probability)


@dataclass(frozen=True)
class FoldPredictions:
    """Of one fold run.

    Attributes:
        name: For messages.
        cell: Repeat and held-out fold.
        held_out: Its predictions, by image_id.
        trained_on: image_ids that the weights or the choice of the epoch have seen.
    """

    name: str
    cell: Cell
    held_out: HeldOut
    trained_on: frozenset[str]


def read_folds(architecture: Architecture, cells: Iterable[Cell], *, inner: bool) -> list[FoldPredictions]:
    """Read the fold runs of one architecture, and check each by itself.

    Args:
        architecture: Whose runs.
        cells: Those that it has.
        inner: The runs with an inner split, or those without.

    Raises:
        InputError: A file is damaged, contradicts itself or ``split.json``, or holds a number that is not finite.
    """
    return [
        _read_fold(f"{architecture.label}, repeat {cell[0]}, fold {cell[1]}", architecture.runs[inner, cell])
        for cell in sorted(cells)
    ]


def join(folds: Sequence[FoldPredictions]) -> HeldOut:
    """The predictions of several fold runs in one table."""
    parts = [fold.held_out for fold in folds]
    protocols = parts[0].probabilities
    return HeldOut(
        keys=pd.concat([part.keys for part in parts], ignore_index=True),
        truth=np.concatenate([part.truth for part in parts]),
        probabilities={name: np.concatenate([part.probabilities[name] for part in parts]) for name in protocols},
    )


def _read_fold(name: str, run: FinishedRun) -> FoldPredictions:
    name = f"{name} ({run.folder.path})"
    split, table = _read_split(run), run.folder.read_predictions()
    outputs = [output for task in run.tasks for output in task.outputs]
    missing = [c for o in outputs for c in (f"truth_{o}", f"logit_{o}") if c not in table]
    if missing:
        raise InputError(f"{run.folder.predictions} lacks the column(s) {', '.join(missing)}. {REMEDY}")
    cases = table.drop_duplicates("image_id").set_index("image_id").sort_index()
    if set(cases.index) != set(split["held_out"]):
        strange = sorted(set(cases.index) ^ set(split["held_out"]))
        raise InputError(
            f"{name}: predictions.parquet and the held_out of split.json differ in {len(strange)} image(s): "
            f"{', '.join(map(repr, strange[:5]))}. {REMEDY}"
        )
    truth = cases[[f"truth_{output}" for output in outputs]].to_numpy(np.float64)
    _check_truth(name, table, cases.index, truth, outputs)
    keys = pd.DataFrame({"repeat": run.cell[0], "fold": run.cell[1], "image_id": cases.index})
    keys["patient_id"] = cases["patient_id"].to_numpy()
    probabilities = {
        protocol: _probabilities(name, table[table["protocol"] == protocol], cases.index, run.tasks)
        for protocol in SERVED[run.is_inner]
    }
    trained_on = frozenset(split["train"]) | frozenset(split["selection"])
    return FoldPredictions(name, run.cell, HeldOut(keys, truth, probabilities), trained_on)


def _read_split(run: FinishedRun) -> dict[str, list[str]]:
    path = run.folder.split
    try:
        content = json.loads(path.read_text())
        parts = {part: [str(image) for image in content[part]] for part in ("held_out", "train", "selection")}
        assignment = content["assignment"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be used ({type(error).__name__}: {error}). {REMEDY}") from error
    if assignment != run.assignment:
        raise InputError(
            f"{path} is of the fold assignment {str(assignment)[:12]}, but run.json beside it of "
            f"{run.assignment[:12]}. {REMEDY}"
        )
    return parts


def _check_truth(
    name: str, table: pd.DataFrame, images: pd.Index, truth: NDArray[np.float64], outputs: Sequence[str]
) -> None:
    strange = truth[~(np.isnan(truth) | (truth == 0) | (truth == 1))]
    if len(strange):
        raise InputError(f"{name}: predictions.parquet holds the label {strange[0]:g}, not 0, 1 or unknown. {REMEDY}")
    rows = images.get_indexer(table["image_id"])
    everywhere = table[[f"truth_{output}" for output in outputs]].to_numpy(np.float64)
    same = np.isclose(everywhere, truth[rows], equal_nan=True).all(axis=1)
    if not same.all():
        image = table["image_id"].to_numpy()[~same][0]
        raise InputError(f"{name}: predictions.parquet gives the image {image!r} different labels. {REMEDY}")


def _probabilities(name: str, table: pd.DataFrame, images: pd.Index, tasks: Sequence[Task]) -> NDArray[np.float64]:
    """(n, K) in float64, each output from the rows of its task; NaN without such rows."""
    parts = []
    for task in tasks:
        rows = table[table["task"] == task.name]
        if rows.empty:
            parts.append(np.full((len(images), len(task.outputs)), np.nan))
            continue
        places = images.get_indexer(rows["image_id"])
        if not np.array_equal(np.sort(places), np.arange(len(images))):
            raise InputError(
                f"{name}: predictions.parquet does not hold every held-out image once for the task {task.name}. "
                f"{REMEDY}"
            )
        columns = [f"logit_{output}" for output in task.outputs]
        logits = rows[columns].to_numpy(np.float64)[np.argsort(places)]
        if not np.isfinite(logits).all():
            row, column = np.argwhere(~np.isfinite(logits))[0]
            raise InputError(
                f"{name}: predictions.parquet holds {columns[column]}={logits[row, column]} for the image "
                f"{images[row]!r}. {REMEDY}"
            )
        parts.append(expit(logits))
    return np.concatenate(parts, axis=1)


def check_folds(folds: Sequence[FoldPredictions]) -> None:
    """Check the fold runs of all architectures against each other.

    Raises:
        InputError: The same cell holds out different images, an image is held out twice in a repeat or never, it has
            different labels or patients, or a fold run was trained or selected on a patient that it holds out.
    """
    by_cell: dict[Cell, FoldPredictions] = {}
    problems = [
        problem for fold in folds for problem in _differences(by_cell.setdefault(fold.cell, fold), fold) if problem
    ]
    if not problems:
        problems = [*_repeated(list(by_cell.values())), *_contradictions(folds)]
    if not problems:
        problems = _leaks(folds)
    if problems:
        raise InputListError("These fold runs cannot be compared", problems, REMEDY)


def _differences(first: FoldPredictions, second: FoldPredictions) -> Iterable[str]:
    here, there = set(first.held_out.keys["image_id"]), set(second.held_out.keys["image_id"])
    if here != there:
        strange = sorted(here ^ there)
        yield (
            f"{second.name} holds out other images than {first.name}: they differ in {len(strange)}, such as "
            f"{strange[0]!r}"
        )


def _repeated(folds: Sequence[FoldPredictions]) -> Iterable[str]:
    """Images that a repeat holds out twice, or not at all, given one fold run per cell."""
    everything = frozenset().union(*(fold.trained_on.union(fold.held_out.keys["image_id"]) for fold in folds))
    for repeat in sorted({fold.cell[0] for fold in folds}):
        seen: dict[str, FoldPredictions] = {}
        for fold in (fold for fold in folds if fold.cell[0] == repeat):
            twice = [image for image in fold.held_out.keys["image_id"] if image in seen]
            if twice:
                yield (
                    f"{fold.name} holds out {twice[0]!r}, which {seen[twice[0]].name} holds out as well "
                    f"({len(twice)} image(s))"
                )
            seen.update(dict.fromkeys(fold.held_out.keys["image_id"], fold))
        never = sorted(everything - seen.keys())
        if never:
            yield f"repeat {repeat}: {len(never)} image(s) are never held out, such as {never[0]!r}"


def _contradictions(folds: Sequence[FoldPredictions]) -> Iterable[str]:
    """Images with other labels or another patient in one fold run than in an earlier one."""
    known: dict[str, tuple[str, NDArray[np.float64], FoldPredictions]] = {}
    for fold in folds:
        images, patients = fold.held_out.keys["image_id"], fold.held_out.keys["patient_id"]
        for image, patient, truth in zip(images, patients, fold.held_out.truth, strict=True):
            told_patient, told_truth, first = known.setdefault(image, (patient, truth, fold))
            if told_patient != patient or not np.array_equal(told_truth, truth, equal_nan=True):
                what = "another patient" if told_patient != patient else "other labels"
                yield f"{fold.name} gives the image {image!r} {what} than {first.name}"
                break


def _leaks(folds: Sequence[FoldPredictions]) -> list[str]:
    patient_of: dict[str, str] = {}
    for fold in folds:
        patient_of.update(zip(fold.held_out.keys["image_id"], fold.held_out.keys["patient_id"], strict=True))
    problems = []
    for fold in folds:
        # An image that no fold run holds out is of an unknown patient: only its own name can be recognized.
        seen = {patient_of.get(image) for image in fold.trained_on}
        for image, patient in zip(fold.held_out.keys["image_id"], fold.held_out.keys["patient_id"], strict=True):
            if image in fold.trained_on or patient in seen:
                problems.append(f"{fold.name} was trained on the patient of {image!r}, which it holds out")
                break
    return problems
