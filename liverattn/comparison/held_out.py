"""Held-out predictions of finished fold runs, read and checked one by one."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from liverattn.comparison.architectures import Architecture, Cell, FinishedRun
from liverattn.errors import InputError, told_together
from liverattn.evaluation.localization import AttentionQuality
from liverattn.evaluation.scores import Task, shows_lesion

SERVED = {False: ("paper", "last"), True: ("inner", "paper", "last")}
REMEDY = "Remove the run folder(s) and run the fold(s) again."
QUALITY = [one.name for one in fields(AttentionQuality)]


@dataclass(frozen=True)
class HeldOut:
    """Out-of-fold predictions.

    Attributes:
        keys: n rows: repeat, fold, image_id, patient_id, in this order.
        truth: (n, K) 0, 1, or NaN where unknown, in the order of the tasks' outputs.
        probabilities: (n, K) by protocol, each output from the copy of its task; NaN where there is no copy.
        trained: Images that these fold runs were trained on, added up.
        quality: By protocol n rows of attention quality, from the copy of the first task that has one; empty where
            there are no single maps to measure (an ensemble's, or none was recorded).
        cases: n rows of ``cases.parquet``; None where a run has none.
        selection: Predictions of the cases that selected the epochs under protocol ``inner``, by that protocol and
            ``last``: neither trained on nor held out; None without an inner split, or where a run has none.
    """

    keys: pd.DataFrame
    truth: NDArray[np.float64]
    probabilities: Mapping[str, NDArray[np.float64]]
    trained: int
    quality: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    cases: pd.DataFrame | None = None
    selection: "HeldOut | None" = None


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


def on_one_scale(held_out: HeldOut, tasks: Sequence[Task]) -> HeldOut:
    """Ranks within each fold run in the place of probabilities, so that fold runs can be put together.

    Each fold run has a scale of its own: it ended in another epoch, on other cases. One AUC over several of them
    compares across these scales and comes out too low, by more for one architecture than for another (Forman and Scholz
    2010, "Apples-to-apples in cross-validation studies"). Folds are stratified, so equal ranks mean alike.

    Args:
        held_out: Probabilities by protocol.
        tasks: With K outputs in all.

    Returns:
        The same with shares of the judged cases of the fold run that a case outranks, ties by half: in (0, 1). NaN
        where an output is not judged (lesion-free images, if its task is conditional) or has no copy.
    """
    conditional = np.array([task.conditional for task in tasks for _ in task.outputs])
    shown = shows_lesion(held_out.truth, [name for task in tasks for name in task.outputs])
    judged, run = shown[:, None] | ~conditional, held_out.keys.groupby(["repeat", "fold"]).ngroup()
    ranks = {
        protocol: pd.DataFrame(np.where(judged, values, np.nan)).groupby(run.to_numpy())
        for protocol, values in held_out.probabilities.items()
    }
    return replace(
        held_out,
        probabilities={
            protocol: np.asarray((groups.rank() - 0.5) / groups.transform("count"), dtype=np.float64)
            for protocol, groups in ranks.items()
        },
    )


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
    label, runs = architecture.label, architecture.runs
    return told_together(
        functools.partial(_read_fold, f"{label}, repeat {cell[0]}, fold {cell[1]}", runs[inner, cell])
        for cell in sorted(cells)
    )


def join(folds: Sequence[FoldPredictions]) -> HeldOut:
    """The predictions of several fold runs in one table."""
    return _joined([fold.held_out for fold in folds])


def _joined(parts: Sequence[HeldOut]) -> HeldOut:
    cases = [part.cases for part in parts if part.cases is not None]
    selections = [part.selection for part in parts if part.selection is not None]
    return HeldOut(
        keys=pd.concat([part.keys for part in parts], ignore_index=True),
        truth=np.concatenate([part.truth for part in parts]),
        probabilities={
            name: np.concatenate([part.probabilities[name] for part in parts]) for name in parts[0].probabilities
        },
        trained=sum(part.trained for part in parts),
        quality={
            name: pd.concat([part.quality[name] for part in parts], ignore_index=True) for name in parts[0].quality
        },
        cases=pd.concat(cases, ignore_index=True) if len(cases) == len(parts) else None,
        selection=_joined(selections) if len(selections) == len(parts) else None,
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
    _check_truth(name, table, cases, outputs)
    trained = len(split["train"])
    known, selection = run.folder.read_cases(), run.folder.read_selection()
    held_out = replace(
        _predictions(name, run, table, cases, trained, SERVED[run.is_inner]),
        quality={
            protocol: _quality(table[table["protocol"] == protocol], cases.index, run.tasks)
            for protocol in SERVED[run.is_inner]
        },
        cases=None if known is None else known.reindex(cases.index).reset_index(drop=True),
        selection=None if selection is None else _read_selection(name, run, selection, trained, split["selection"]),
    )
    trained_on = frozenset(split["train"]) | frozenset(split["selection"])
    return FoldPredictions(name, run.cell, held_out, trained_on)


def _predictions(
    name: str, run: FinishedRun, table: pd.DataFrame, cases: pd.DataFrame, trained: int, protocols: Sequence[str]
) -> HeldOut:
    """Of the images of ``cases``, which are rows of the table by image_id."""
    keys = pd.DataFrame({"repeat": run.cell[0], "fold": run.cell[1], "image_id": cases.index})
    keys["patient_id"] = cases["patient_id"].to_numpy()
    return HeldOut(
        keys=keys,
        truth=cases[_truth_columns(run)].to_numpy(np.float64),
        probabilities={
            protocol: _probabilities(name, table[table["protocol"] == protocol], cases.index, run.tasks)
            for protocol in protocols
        },
        trained=trained,
    )


def _read_selection(name: str, run: FinishedRun, table: pd.DataFrame, trained: int, images: Sequence[str]) -> HeldOut:
    cases = table.drop_duplicates("image_id").set_index("image_id").sort_index()
    if set(cases.index) != set(images):
        raise InputError(f"{name}: selection.parquet and the selection of split.json differ. {REMEDY}")
    protocols = [name for name in ("inner", "last") if (table["protocol"] == name).any()]
    return _predictions(name, run, table, cases, trained, protocols)


def _truth_columns(run: FinishedRun) -> list[str]:
    return [f"truth_{output}" for task in run.tasks for output in task.outputs]


def _quality(table: pd.DataFrame, images: pd.Index, tasks: Sequence[Task]) -> pd.DataFrame:
    found = [rows for task in tasks if len(rows := table[table["task"] == task.name])]
    if not found:
        return pd.DataFrame(np.nan, index=range(len(images)), columns=QUALITY)
    return found[0].set_index("image_id").reindex(index=images, columns=QUALITY).reset_index(drop=True)


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


def _check_truth(name: str, table: pd.DataFrame, cases: pd.DataFrame, outputs: Sequence[str]) -> None:
    columns = [f"truth_{output}" for output in outputs]
    truth = cases[columns].to_numpy(np.float64)
    strange = truth[~(np.isnan(truth) | (truth == 0) | (truth == 1))]
    if len(strange):
        raise InputError(f"{name}: predictions.parquet holds the label {strange[0]:g}, not 0, 1 or unknown. {REMEDY}")
    rows = cases.index.get_indexer(table["image_id"])
    same = np.isclose(table[columns].to_numpy(np.float64), truth[rows], equal_nan=True).all(axis=1)
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
