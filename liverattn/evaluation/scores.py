"""AUCs and the challenge's score (paper: Table 2, Table 3, Eq. 4), NaN-aware, in float64.

NaN means undefined: a class is absent. It is never 0 and never selected. torchmetrics 1.9 would return 0 and average it
in, and its float32 sigmoid creates ties; scikit-learn's AUC on logits does neither.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import auc as area
from sklearn.metrics import roc_curve

from liverattn.errors import InputError, expect_boolean, expect_number


@dataclass(frozen=True)
class Task:
    """What a checkpoint is selected for.

    Attributes:
        name: Of the task and its copy.
        outputs: The output(s) whose AUCs are averaged.
        weight: In the score (Eq. 4).
        conditional: Evaluated on lesion images only.
    """

    name: str
    outputs: tuple[str, ...]
    weight: float
    conditional: bool


PAPER_TASKS = (
    Task("lesion", ("lesion",), 0.5, False),
    Task("malignancy", ("malignancy",), 0.3, True),
    Task("type", ("angioma", "hcc", "fnh", "cyst", "metastasis"), 0.2, True),
)


def chosen_tasks(options: Mapping[str, Mapping[str, Any] | None] | None) -> list[Task]:
    """The tasks of a configuration's ``data.tasks``; those that are null are left out.

    Raises:
        InputError: There is none, one is no such mapping or has no output, an output stands in several places, or
            weights are negative or all 0.
    """
    tasks = []
    for name, task in (options or {}).items():
        if task is None:
            continue
        if not isinstance(task, Mapping) or not {"outputs", "weight", "conditional"} <= set(task):
            raise InputError(
                f"Expected data.tasks.{name} to be null or to have outputs, weight and conditional, but got {task!r}."
            )
        outputs = task["outputs"]
        if not isinstance(outputs, list) or not outputs:
            raise InputError(f"Expected data.tasks.{name}.outputs to list one or more outputs, but got {outputs!r}.")
        expect_number(f"data.tasks.{name}.weight", task["weight"], 0)
        expect_boolean(f"data.tasks.{name}.conditional", task["conditional"])
        if task["conditional"] and "lesion" in outputs:
            raise InputError(
                f"data.tasks.{name}.conditional=true scores on lesion images only, where that output has one class. "
                "Leave it false."
            )
        tasks.append(Task(name, tuple(outputs), task["weight"], task["conditional"]))
    names = [output for task in tasks for output in task.outputs]
    if not names:
        raise InputError("data.tasks has no task. Leave at least one of lesion, malignancy and type.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"data.tasks lists the output(s) {', '.join(repeated)} more than once.")
    if sum(task.weight for task in tasks) == 0:
        raise InputError("Expected data.tasks to have a weight above 0, but all are 0.")
    return tasks


def auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve of one output.

    Args:
        truth: (n,) 0, 1 or NaN (unknown: left out).
        score: (n,) logits or probabilities, higher is more positive.

    Returns:
        AUC in [0, 1], ties counted half; NaN if a class is absent.

    Raises:
        ValueError: A score of a known case is not finite, a label is neither 0, 1 nor NaN, or the lengths differ.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if labels.shape != values.shape or labels.ndim != 1:
        raise ValueError(f"Expected `score` of shape {labels.shape} like `truth`, but got {values.shape}.")
    known = ~np.isnan(labels)
    labels, values = labels[known], values[known]
    if not np.isfinite(values).all():
        raise ValueError(f"Expected finite scores, but got {values[~np.isfinite(values)][0]}.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"Expected `truth` to be 0, 1 or NaN, but got {labels[~np.isin(labels, (0, 1))][0]}.")
    if not 0 < labels.sum() < len(labels):
        return math.nan
    false_positive, true_positive, _ = roc_curve(labels, values)  # roc_auc_score does the same, with more checks
    return float(area(false_positive, true_positive))


def output_aucs(
    truth: NDArray[np.floating], logits: NDArray[np.floating], tasks: Sequence[Task] = PAPER_TASKS
) -> dict[str, float]:
    """AUC of every output: over all images, or over lesion images only where its task is conditional.

    Args:
        truth: (n, K) 0, 1 or NaN, in the order of the tasks' outputs.
        logits: (n, K).
        tasks: With K outputs in all; an output named ``lesion`` tells which images show a lesion.

    Returns:
        AUC by output; NaN where undefined.
    """
    names = [name for task in tasks for name in task.outputs]
    conditional = [task.conditional for task in tasks for _ in task.outputs]
    if np.shape(truth) != np.shape(logits) or np.shape(truth)[1:] != (len(names),):
        raise ValueError(
            f"Expected `truth` and `logits` of shape (n, {len(names)}), but got {np.shape(truth)} and "
            f"{np.shape(logits)}."
        )
    shown = shows_lesion(truth, names)
    return {
        name: auc(truth[shown, k], logits[shown, k]) if only else auc(truth[:, k], logits[:, k])
        for k, (name, only) in enumerate(zip(names, conditional, strict=True))
    }


def shows_lesion(truth: NDArray[np.floating], outputs: Sequence[str]) -> NDArray[np.bool_]:
    """Which images conditional outputs are scored on.

    Args:
        truth: (n, K) 0, 1 or NaN.
        outputs: K names.

    Returns:
        (n,) True where the output ``lesion`` is 1; all True without such an output.
    """
    return truth[:, list(outputs).index("lesion")] == 1 if "lesion" in outputs else np.ones(len(truth), bool)


def task_aucs(
    truth: NDArray[np.floating], logits: NDArray[np.floating], tasks: Sequence[Task] = PAPER_TASKS
) -> dict[str, float]:
    """AUC of every task: the unweighted mean of its outputs' AUCs.

    An output that is undefined (its type is absent) is left out of the mean, so that a fold without hcc still selects
    by the four other types; :func:`output_aucs` tells which.

    Args:
        truth: (n, K) 0, 1 or NaN.
        logits: (n, K).
        tasks: With K outputs in all.

    Returns:
        AUC by task; NaN where none of its outputs is defined.
    """
    by_output = output_aucs(truth, logits, tasks)
    return {task.name: _mean_of_defined([by_output[name] for name in task.outputs]) for task in tasks}


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def weighted_score(aucs: Mapping[str, float], tasks: Sequence[Task] = PAPER_TASKS) -> float:
    """Eq. 4 for any tasks: the weighted mean of their AUCs, weights renormalized over the defined ones.

    Args:
        aucs: AUC by task, NaN where undefined.
        tasks: Give the weights.

    Returns:
        In [0, 1]; NaN if no task is defined.

    Raises:
        ValueError: A task has no entry, or an AUC lies outside [0, 1].
    """
    for task in tasks:
        if task.name not in aucs or aucs[task.name] < 0 or aucs[task.name] > 1:
            raise ValueError(f"Expected the AUC of {task.name} to be in [0, 1] or NaN, but got {aucs.get(task.name)}.")
    defined = [task for task in tasks if not math.isnan(aucs[task.name])]
    total = sum(task.weight for task in defined)
    return sum(task.weight * aucs[task.name] for task in defined) / total if total > 0 else math.nan


def challenge_score(lesion: float, malignancy: float, types: ArrayLike) -> float:
    r"""The score of the challenge, Eq. 4.

    .. math:: 0.5\,AUC_{lesion} + 0.3\,AUC_{malignancy} + 0.2\,\frac{1}{5}\sum_k AUC_k

    As printed, Eq. 4 sums over the types without dividing and would reach 1.67 for Table 2's numbers; the mean
    reproduces a weighted AUC.

    Args:
        lesion: AUC of lesion detection.
        malignancy: AUC of benign versus malignant.
        types: The per-type AUCs, or their mean; NaN ones are left out.

    Returns:
        In [0, 1]. Where a part is undefined (NaN, or no types), the other weights are renormalized.
    """
    type_mean = _mean_of_defined(np.atleast_1d(np.asarray(types, dtype=np.float64)).tolist())
    return weighted_score({"lesion": lesion, "malignancy": malignancy, "type": type_mean}, PAPER_TASKS)
