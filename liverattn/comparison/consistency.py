"""Fold runs checked against each other: the same images and labels, and nobody is judged on a patient it has seen."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from liverattn.comparison.architectures import Cell
from liverattn.comparison.held_out import REMEDY, FoldPredictions
from liverattn.errors import InputListError


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
