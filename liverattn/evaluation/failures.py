"""Which cases a task gets most wrong, and in which way. Pure functions on arrays."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liverattn.evaluation.scores import Task, shows_lesion

FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_TYPE, RIGHT = "false positive", "false negative", "wrong type", "right"


@dataclass(frozen=True)
class Call:
    """What one task says of one case.

    Attributes:
        case: Row of the arrays that it was made from.
        kind: ``false positive``, ``false negative``, ``wrong type`` or ``right``.
        true: What the case shows: an output, or ``not OUTPUT``.
        called: What it was called.
        probability: Of the output; with several outputs, of the one that it was called.
        error: In [0, 1]. With one output |truth - probability|; with several, 1 minus the share of the true output in
            the sum of their probabilities.
    """

    case: int
    kind: str
    true: str
    called: str
    probability: float
    error: float


def task_calls(
    truth: NDArray[np.floating],
    probability: NDArray[np.floating],
    task: Task,
    outputs: Sequence[str],
    threshold: float = 0.5,
) -> list[Call]:
    """All cases that take part in a task, the most wrong ones first.

    A case whose truth is unknown, or that the task has no copy for, takes no part; of a conditional task, neither does
    a lesion-free image. A task with several outputs calls the most probable one; a case that shows none of them takes
    no part.

    Args:
        truth: (n, K) 0, 1, or NaN where unknown.
        probability: (n, K); NaN where there is no copy.
        task: Some of the outputs.
        outputs: K names.
        threshold: Called positive where the probability is at least this; for a task with one output.
    """
    columns = np.array([list(outputs).index(name) for name in task.outputs])
    known = ~np.isnan(truth[:, columns]).any(axis=1) & ~np.isnan(probability[:, columns]).any(axis=1)
    if task.conditional:
        known &= shows_lesion(truth, outputs)
    if len(columns) > 1:
        known &= truth[:, columns].sum(axis=1) == 1
    rows = np.flatnonzero(known)
    labels, chances = truth[np.ix_(rows, columns)], probability[np.ix_(rows, columns)]
    if len(columns) == 1:
        found = [
            _single(int(row), task.outputs[0], label == 1, float(chance), threshold)
            for row, label, chance in zip(rows, labels[:, 0], chances[:, 0], strict=True)
        ]
    else:
        found = [
            _several(int(row), task.outputs, int(label.argmax()), chance)
            for row, label, chance in zip(rows, labels, chances, strict=True)
        ]
    return sorted(found, key=lambda call: -call.error)


def _single(case: int, output: str, is_positive: bool, probability: float, threshold: float) -> Call:
    is_called = probability >= threshold
    wrong = FALSE_POSITIVE if is_called else FALSE_NEGATIVE
    names = {True: output, False: f"not {output}"}
    return Call(
        case=case,
        kind=RIGHT if is_called == is_positive else wrong,
        true=names[bool(is_positive)],
        called=names[is_called],
        probability=probability,
        error=1 - probability if is_positive else probability,
    )


def _several(case: int, outputs: Sequence[str], true: int, probability: NDArray[np.floating]) -> Call:
    called, total = int(probability.argmax()), float(probability.sum())
    return Call(
        case=case,
        kind=RIGHT if called == true else WRONG_TYPE,
        true=outputs[true],
        called=outputs[called],
        probability=float(probability[called]),
        error=1 - float(probability[true]) / total if total > 0 else 1 - 1 / len(outputs),
    )


def most_wrong(calls: Sequence[Call], count: int) -> list[Call]:
    """The wrong calls with the largest errors, as many of each kind as there are, so that one kind cannot hide another.

    Args:
        calls: From the most wrong on.
        count: At most so many; what one kind does not need goes to the others.

    Returns:
        From the most wrong on.
    """
    before: Counter[str] = Counter()
    in_turn = []
    for place, call in enumerate(call for call in calls if call.kind != RIGHT):
        in_turn.append((before[call.kind], place, call))
        before[call.kind] += 1
    chosen = sorted(in_turn, key=lambda entry: entry[:2])[:count]
    return [call for _, _, call in sorted(chosen, key=lambda entry: entry[1])]
