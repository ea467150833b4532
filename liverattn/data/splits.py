"""Repeated, stratified, patient-grouped folds, saved to a file with a hash (paper: "Implementation"; Table 2)."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from liverattn.data.manifest import Manifest
from liverattn.errors import InputError, InputListError
from liverattn.files import digest, write_json


@dataclass(frozen=True)
class Folds:
    """An assignment of every case to one fold in each repeat.

    Attributes:
        image_ids: n names, in the manifest's order.
        patient_ids: n names; the cases of one patient share a fold.
        assignment: (repeats, n) int, the fold in which a case is held out.
        folds: Number of folds.
        seed: What the assignment was drawn with.
    """

    image_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    assignment: NDArray[np.int64]
    folds: int
    seed: int

    @property
    def hash(self) -> str:
        """SHA-256 of the assignment: equal if and only if every case is held out in the same fold of each repeat."""
        return digest([list(self.image_ids), self.assignment.tolist(), self.folds])

    def split(self, repeat: int, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers of the cases to train on and of the held-out cases of one fold run.

        Raises:
            InputError: The repeat or fold does not exist.
        """
        for name, value, count in (("repeat", repeat, len(self.assignment)), ("fold", fold, self.folds)):
            if not 0 <= value < count:
                raise InputError(f"Expected protocol.{name} to be one of 0 to {count - 1}, but got {value}.")
        held_out = self.assignment[repeat] == fold
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def strata(table: pd.DataFrame) -> list[str]:
    """What a fold is stratified on: ``none``, the lesion's type, or what else is known of it (n names)."""
    kinds = {1: "malignant", 0: "benign"}
    malignant = [None if pd.isna(value) else kinds[int(value)] for value in table["malignant"]]
    return [
        "none" if lesion == 0 else (kind or dignity or "lesion")
        for lesion, kind, dignity in zip(table["lesion"], table["type"], malignant, strict=True)
    ]


def make_folds(manifest: Manifest, repeats: int, folds: int, seed: int) -> Folds:
    """Draw repeated, shuffled k-fold cross-validation, stratified on {none, five types} and grouped by patient.

    The paper: three shuffled three-fold cross-validations, 245 images to train and 122 to evaluate. Unstratified folds
    would leave some fold without any of the 6 hcc in 59 % of three repeats; we stratify.

    Args:
        manifest: n cases.
        repeats: >= 1.
        folds: >= 2.
        seed: Repeat r is drawn with (seed, r). Where every patient has one image, by scikit-learn's StratifiedKFold
            (every stratum and the whole divided as evenly as possible: 122, 122 and 123 of Table 1's 367), else by its
            StratifiedGroupKFold, which is a little less even.

    Raises:
        InputError: Fewer patients than folds, or too few repeats or folds.
    """
    patients = manifest.table["patient_id"].tolist()
    if repeats < 1 or folds < 2:
        raise InputError(f"Expected protocol.repeats >= 1 and protocol.folds >= 2, but got {repeats} and {folds}.")
    if len(set(patients)) < folds:
        remedy = "lower protocol.folds" if len(set(patients)) > 1 else "cross-validation needs two or more"
        raise InputError(f"{len(set(patients))} patient(s) cannot be divided into {folds} folds: {remedy}.")
    labels = strata(manifest.table)
    made = Folds(
        image_ids=tuple(manifest.table["image_id"]),
        patient_ids=tuple(patients),
        assignment=np.stack([_one_repeat(labels, patients, folds, [seed, repeat]) for repeat in range(repeats)]),
        folds=folds,
        seed=seed,
    )
    _check_disjoint(made, "The new fold assignment")
    return made


def inner_split(
    manifest: Manifest, train_rows: NDArray[np.int64], inner_folds: int, seed: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide the training cases of a fold run into those to train on and those that select the copies.

    Not in the paper, which selects on the fold that it scores: with ``protocol=inner`` the held-out fold only scores.

    Args:
        manifest: n cases.
        train_rows: Rows of the training folds.
        inner_folds: k >= 2: one k-th is put aside, stratified and grouped like the folds themselves.
        seed: Of the draw: the assignment's seed, the repeat and the fold.

    Returns:
        Rows to train on and rows that select, both ascending.

    Raises:
        InputError: Too few cases, or ``inner_folds`` < 2.
    """
    if inner_folds < 2:
        raise InputError(f"Expected protocol.inner_folds to be null or at least 2, but got {inner_folds}.")
    part = manifest.table.iloc[train_rows]
    # The last number keeps this draw apart from that of the folds.
    drawn = _one_repeat(strata(part), part["patient_id"].tolist(), inner_folds, [*seed, 1], "protocol.inner_folds")
    return train_rows[drawn != 0], train_rows[drawn == 0]


def _one_repeat(
    labels: Sequence[str], patients: Sequence[str], folds: int, seed: list[int], option: str = "protocol.folds"
) -> NDArray[np.int64]:
    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    grouped = len(set(patients)) < len(patients)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(folds, shuffle=True, random_state=state)
    assignment = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # A stratum smaller than the number of folds is legitimate: its AUC is undefined (NaN) where it is absent.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        try:
            splits = list(splitter.split(np.zeros(len(labels)), labels, patients if grouped else None))
        except ValueError as error:
            raise InputError(
                f"The cases cannot be divided into {folds} folds: {error} Lower {option} or add cases."
            ) from None
    for fold, (_, held_out) in enumerate(splits):
        assignment[held_out] = fold
    return assignment


def _check_disjoint(folds: Folds, name: str) -> None:
    """Refuse an assignment with a patient on both sides of a split, naming every such patient."""
    problems = []
    for repeat, row in enumerate(folds.assignment):
        held_out: dict[str, set[int]] = {}
        for patient, fold in zip(folds.patient_ids, row, strict=True):
            held_out.setdefault(patient, set()).add(int(fold))
        problems += [
            f"repeat {repeat}: patient {patient!r} is in folds {', '.join(map(str, sorted(found)))}"
            for patient, found in held_out.items()
            if len(found) > 1
        ]
    if problems:
        remedy = "Put all images of a patient into one fold, or remove the file to have a new assignment drawn."
        raise InputListError(f"{name} has patients on both sides of a split", problems, remedy)


def write_folds(folds: Folds, path: Path) -> None:
    """Save an assignment with its hash as JSON, after checking it."""
    _check_disjoint(folds, f"The split file {path}")
    cases = {
        image: {"patient_id": patient, "fold": [int(fold) for fold in column]}
        for image, patient, column in zip(folds.image_ids, folds.patient_ids, folds.assignment.T, strict=True)
    }
    write_json(path, {"hash": folds.hash, "folds": folds.folds, "seed": folds.seed, "cases": cases})


def read_folds(path: Path, manifest: Manifest) -> Folds:
    """Read an assignment that :func:`write_folds` saved, or that a person wrote in its form, and check it.

    Args:
        path: JSON: ``{"folds": 3, "cases": {image_id: {"patient_id": ..., "fold": [one per repeat]}}}``; ``hash`` and
            ``seed`` are optional.
        manifest: The cases that it must assign, no fewer and no more. Its patients count, not the file's.

    Raises:
        InputError: Absent, not of this form, altered (the hash does not fit), other cases, a fold out of range or
            empty, or a patient on both sides of a split.
    """
    try:
        content = json.loads(path.read_text())
        count, cases, seed = int(content["folds"]), content["cases"], int(content.get("seed", 0))
        columns = {str(image): [int(fold) for fold in case["fold"]] for image, case in cases.items()}
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("the cases have different numbers of repeats")
    except FileNotFoundError:
        raise InputError(f"The split file {path} does not exist. Correct protocol.split_file.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The split file {path} is not of the expected form ({type(error).__name__}: {error})."
        ) from None
    ids = manifest.table["image_id"].tolist()
    strangers = [f"{image!r} has no fold" for image in ids if image not in columns]
    strangers += [f"{image!r} is not in the data" for image in columns.keys() - set(ids)]
    strangers += [
        f"{image!r} is in fold {fold}, but there are {count}"
        for image, column in columns.items()
        for fold in column
        if not 0 <= fold < count
    ]
    for repeat, held_out in enumerate(zip(*columns.values(), strict=True)):
        strangers += [f"repeat {repeat} holds no case out in fold {fold}" for fold in set(range(count)) - set(held_out)]
    if strangers:
        raise InputListError(f"The split file {path} does not fit the data", sorted(strangers))
    assignment = np.array([columns[image] for image in ids], dtype=np.int64).T
    folds = Folds(tuple(ids), tuple(manifest.table["patient_id"]), assignment, count, seed)
    if content.get("hash", folds.hash) != folds.hash:
        raise InputError(f"The split file {path} was altered: its hash does not fit. Remove the hash if you meant to.")
    _check_disjoint(folds, f"The split file {path}")
    return folds
