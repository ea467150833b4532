"""Numbers over fold runs: AUCs of each, their mean and deviation, ensembles, differences (paper: Tables 2 and 3).

A number that a fold run cannot define (a class is absent from the held-out cases, or the task has no copy) is NaN: it
is left out of means and deviations, and counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from liverattn.errors import InputError
from liverattn.evaluation.scores import Task, auc, shows_lesion, weighted_score


@dataclass(frozen=True)
class Summary:
    """A number over fold runs.

    Attributes:
        mean: Of the values that are defined; NaN without any.
        deviation: Sample standard deviation (ddof 1) of those values; NaN with fewer than two.
        undefined: How many fold runs do not define it.
        deviation_of_outputs: Of a task with several outputs: the mean of their deviations. Table 2's and Table 3's
            deviation of "AUC type" is this one (.0584), not that of the mean.
    """

    mean: float
    deviation: float
    undefined: int = 0
    deviation_of_outputs: float | None = None


def summarize(values: ArrayLike) -> Summary:
    """Mean, sample deviation, and how many of (G,) values are NaN."""
    found = np.asarray(values, dtype=np.float64)
    defined = found[~np.isnan(found)]
    return Summary(
        mean=float(defined.mean()) if len(defined) else math.nan,
        deviation=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        undefined=len(found) - len(defined),
    )


@dataclass(frozen=True)
class Numbers:
    """AUCs and scores of G groups of cases: fold runs, or whole repeats.

    Attributes:
        outputs: (G,) AUC by output.
        tasks: (G,) by task: the mean over its defined outputs.
        score: (G,) Eq. 4, weights renormalized over the defined tasks.
    """

    outputs: Mapping[str, NDArray[np.float64]]
    tasks: Mapping[str, NDArray[np.float64]]
    score: NDArray[np.float64]

    def minus(self, other: "Numbers") -> "Numbers":
        """Paired differences; NaN where either side is undefined."""
        return Numbers(
            {name: values - other.outputs[name] for name, values in self.outputs.items()},
            {name: values - other.tasks[name] for name, values in self.tasks.items()},
            self.score - other.score,
        )

    def summaries(self, tasks: Sequence[Task]) -> dict[str, Summary]:
        """Mean and deviation over the groups: of every output and task by name, and of ``score``."""
        by_output = {name: summarize(values) for name, values in self.outputs.items()}
        found = {**by_output, "score": summarize(self.score)}
        for task in tasks:
            whole = summarize(self.tasks[task.name])
            parts = None
            if len(task.outputs) > 1:
                parts = summarize([by_output[name].deviation for name in task.outputs]).mean
            found[task.name] = Summary(whole.mean, whole.deviation, whole.undefined, parts)
        return found


def group_numbers(
    truth: NDArray[np.floating], probability: NDArray[np.floating], groups: NDArray[np.integer], tasks: Sequence[Task]
) -> Numbers:
    """AUCs and scores of every group of cases.

    With one group per fold run, these are the values that Table 2 averages; with one group per repeat, the pooled
    out-of-fold AUCs.

    Args:
        truth: (n, K) 0, 1 or NaN, in the order of the tasks' outputs.
        probability: (n, K) or logits; NaN where there is no copy of the task: the case takes no part in its AUC.
        groups: (n,) group of every case; the result is in ascending order of them.
        tasks: With K outputs in all.
    """
    names = [name for task in tasks for name in task.outputs]
    members = [groups == group for group in np.unique(groups)]
    by_group = [_output_aucs(truth[rows], probability[rows], tasks) for rows in members]
    task_values = [
        {task.name: summarize([found[name] for name in task.outputs]).mean for task in tasks} for found in by_group
    ]
    return Numbers(
        outputs={name: np.array([found[name] for found in by_group]) for name in names},
        tasks={task.name: np.array([found[task.name] for found in task_values]) for task in tasks},
        score=np.array([weighted_score(found, tasks) for found in task_values]),
    )


def _output_aucs(
    truth: NDArray[np.floating], probability: NDArray[np.floating], tasks: Sequence[Task]
) -> dict[str, float]:
    names = [(name, task.conditional) for task in tasks for name in task.outputs]
    lesion_images = shows_lesion(truth, [name for name, _ in names])
    aucs = {}
    for k, (name, conditional) in enumerate(names):
        rows = ~np.isnan(probability[:, k]) & (lesion_images if conditional else True)
        aucs[name] = auc(truth[rows, k], probability[rows, k])
    return aucs


def member_weights(weights: Sequence[float] | None, members: Sequence[str]) -> NDArray[np.float64]:
    """Weights of an ensemble's members, adding up to 1.

    Args:
        weights: One number >= 0 per member, not all 0; None: equal.
        members: Names.

    Returns:
        (M,) float64.

    Raises:
        InputError: Too few, too many, negative, all 0, or no numbers.
    """
    if weights is None:
        return np.full(len(members), 1 / len(members))
    try:
        found = np.array([float(weight) for weight in weights], dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"Expected weights to be a list of numbers, but got {weights!r}.") from None
    if len(found) != len(members):
        raise InputError(f"Expected weights for {len(members)} members ({', '.join(members)}), but got {len(found)}.")
    if not np.isfinite(found).all() or (found < 0).any() or not found.sum() > 0:
        raise InputError(f"Expected weights to be at least 0 and not all 0, but got {', '.join(map(str, weights))}.")
    return np.asarray(found / found.sum())


def average_probabilities(
    members: Sequence[NDArray[np.floating]], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The paper's ensemble: the mean of the members' probabilities for the same cases.

    Args:
        members: M arrays (n, K) of probabilities, NaN where a member has no copy of the task: so is the ensemble there.
        weights: (M,) adding up to 1; what a member of weight 0 lacks is not missed.

    Returns:
        (n, K) float64.
    """
    counted = [member for member, weight in zip(members, weights, strict=True) if weight > 0]
    return np.asarray(np.tensordot(weights[weights > 0], np.stack(counted).astype(np.float64), axes=1))


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Names from the best score to the worst; equal ones by name, undefined ones last."""

    def key(name: str) -> tuple[bool, float, str]:
        undefined = math.isnan(scores[name])
        return undefined, 0.0 if undefined else -scores[name], name

    return sorted(scores, key=key)
