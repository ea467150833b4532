"""Intervals of AUCs and rates: patients are drawn again, rates are counted. Pure functions on arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from liverattn.evaluation.crossvalidation import group_numbers
from liverattn.evaluation.scores import Task, shows_lesion

DRAWS = 2000
LEVEL = 0.95
SCORE = "score"  # the name of Eq. 4 among outputs and tasks


@dataclass(frozen=True)
class Interval:
    """A number with the limits of its interval.

    Attributes:
        value: NaN where undefined.
        low: Lower limit.
        high: Upper limit.
    """

    value: float
    low: float
    high: float


def rate_interval(right: ArrayLike, patients: ArrayLike | None = None, level: float = LEVEL) -> Interval:
    r"""A rate with Wilson's interval (Wilson 1927, by statsmodels) for as many trials as its images are worth.

    Images of one patient resemble each other, so n of them are worth :math:`n / D` independent ones (Rao and Scott
    1992), with D of :func:`inflation`. Where that cannot be told, because all are right or wrong or of one patient,
    a patient's images are taken to be alike: n are worth
    :math:`n^2 / \sum n_i^2`, with :math:`n_i` of patient i.

    Args:
        right: (n,) 0 or 1, or in between where each is a mean over repeats; NaN is left out. Of none, all is NaN.
        patients: (n,) whom each image shows; None: each another one, which is Wilson's own interval.
        level: Coverage.
    """
    from statsmodels.stats.proportion import proportion_confint

    found = np.asarray(right, dtype=np.float64)
    known = ~np.isnan(found)
    found, worth = found[known], 1.0
    if not len(found):
        return Interval(float("nan"), float("nan"), float("nan"))
    successes, trials = float(found.sum()), len(found)
    rate = successes / trials
    if patients is not None:
        who, _ = pd.factorize(np.asarray(patients)[known])
        factor, images = inflation(found - rate, who, level), np.bincount(who)
        worth = trials / float((images**2).sum()) if np.isnan(factor) else 1 / factor
    low, high = proportion_confint(successes * worth, trials * worth, alpha=1 - level, method="wilson")
    # In its last digits, a limit of 0 or 1 can lie on the wrong side of the rate.
    return Interval(rate, min(max(0.0, float(low)), rate), max(min(1.0, float(high)), rate))


def inflation(influence: ArrayLike, patients: ArrayLike, level: float = LEVEL) -> float:
    r"""By what the variance of a mean over images grows because patients have several.

    The clustered variance over that of independent images, with :math:`u` the n deviations and :math:`U_i` their sums
    over the images of patient i, of I patients:

    .. math::
        D = \max\left(1, \frac{I \, (n - 1) \sum U_i^2}{(I - 1) \, n \sum u^2}\right) \frac{t_{I - 1}^2}{t_{n - 1}^2}

    The quantiles are there because I patients tell the variance only with I - 1 degrees of freedom (Korn and Graubard
    1998). Where each patient has one image D is 1. A ratio below 1 is noise: a patient's images are no less alike than
    those of different patients.

    Args:
        influence: (n,) deviations, their sum 0.
        patients: (n,) whom each image shows.
        level: Coverage that is meant, for the quantiles.

    Returns:
        At least 1; NaN where several images are of one patient only, or all deviations are 0.
    """
    deviations = np.asarray(influence, dtype=np.float64)
    person, _ = pd.factorize(np.asarray(patients))
    sums = np.bincount(person, deviations)
    people, images, square = len(sums), len(deviations), float(deviations @ deviations)
    if people == images:
        return 1.0
    if people < 2 or square == 0:
        return float("nan")
    ratio = people / (people - 1) * float(sums @ sums) / (images / (images - 1) * square)
    wider = student.ppf((1 + level) / 2, people - 1) / student.ppf((1 + level) / 2, images - 1)
    return float(max(1.0, ratio) * wider**2)


def patient_draws(patients: ArrayLike, strata: ArrayLike, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float32]:
    """How often each case counts when patients are drawn with replacement, as many of each stratum as there are.

    Args:
        patients: (n,) of the cases; the cases of one patient are drawn together.
        strata: (n,) such as the lesion label; a patient belongs to the largest of its cases.
        draws: D.
        seed: Of the draws: two models on the same cases get the same ones, so their differences are paired.

    Returns:
        (D, n) float32 counts.
    """
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    stratum = np.full(patient.max() + 1, -np.inf)
    np.maximum.at(stratum, patient, np.nan_to_num(np.asarray(strata, dtype=np.float64), nan=-1.0))
    random = np.random.default_rng(seed)
    counts = np.zeros((draws, len(stratum)), np.float32)
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        drawn = random.integers(len(members), size=(draws, len(members)))
        drawn += len(members) * np.arange(draws)[:, None]
        counts[:, members] = np.bincount(drawn.ravel(), minlength=draws * len(members)).reshape(draws, -1)
    return np.asarray(counts[:, patient])


def weighted_aucs(truth: ArrayLike, score: ArrayLike, weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """AUC of one output under many weightings of the cases, at once.

    The AUC is the share of pairs of a positive and a negative case that are ranked rightly, ties by half; a pair weighs
    the product of its cases' weights.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        score: (n,) higher is more positive; NaN is left out.
        weights: (D, n), >= 0.

    Returns:
        (D,) float64; NaN where a weighting leaves a class empty.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    rows = np.flatnonzero(~np.isnan(labels) & ~np.isnan(values))
    rows = rows[np.argsort(values[rows], kind="stable")]
    labels, values, drawn = labels[rows], values[rows], np.asarray(weights, dtype=np.float64)[:, rows]
    if not len(rows):
        return np.full(len(drawn), np.nan)
    positive, negative = drawn * (labels == 1), drawn * (labels == 0)
    starts = np.flatnonzero(np.r_[True, np.diff(values) > 0])  # of runs of equal scores
    tied_positive = np.add.reduceat(positive, starts, axis=1)
    tied_negative = np.add.reduceat(negative, starts, axis=1)
    below = np.cumsum(tied_negative, axis=1) - tied_negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((tied_positive * (below + tied_negative / 2)).sum(axis=1) / pairs)


def bootstrap_scores(
    truth: NDArray[np.floating],
    score: NDArray[np.floating],
    patients: ArrayLike,
    tasks: Sequence[Task],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """AUC of every output and task, and Eq. 4, with expanded percentile intervals over drawn patients.

    Args:
        truth: (n, K) 0, 1 or NaN.
        score: (n, K) probabilities or logits, one row per image (averaged over repeats); NaN: no prediction.
        patients: (n,).
        tasks: With K outputs in all.
        draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        By name of output and task, and ``score``.
    """
    weights = patient_draws(patients, score_strata(truth, tasks), draws, seed)
    drawn, sizes = drawn_scores(truth, score, weights, tasks), _smaller_classes(truth, score, patients, tasks)
    values = score_values(truth, score, tasks)
    return {name: percentiles(value, drawn[name], sizes[name]) for name, value in values.items()}


def _smaller_classes(
    truth: NDArray[np.floating], score: NDArray[np.floating], patients: ArrayLike, tasks: Sequence[Task]
) -> dict[str, float]:
    """Patients in the smaller class of every output; of a mean, the mean of its parts."""
    names = [(name, task.conditional) for task in tasks for name in task.outputs]
    shown, who = shows_lesion(truth, [name for name, _ in names]), np.asarray(patients)
    sizes: dict[str, float] = {}
    for k, (name, only) in enumerate(names):
        judged = ~np.isnan(score[:, k]) & (shown | (not only))
        sizes[name] = min(len(set(who[judged & (truth[:, k] == label)].tolist())) for label in (0, 1))
    by_task = {task.name: float(np.mean([sizes[name] for name in task.outputs])) for task in tasks}
    total = sum(task.weight for task in tasks)
    return {**sizes, **by_task, SCORE: sum(task.weight * by_task[task.name] for task in tasks) / total}


def score_strata(truth: NDArray[np.floating], tasks: Sequence[Task]) -> NDArray[np.float64]:
    """(n,) what patients are drawn within: whether an image shows a lesion, or else the first output."""
    shown = shows_lesion(truth, [name for task in tasks for name in task.outputs])
    return np.asarray(truth[:, 0] if shown.all() else shown, dtype=np.float64)


def drawn_scores(
    truth: NDArray[np.floating], score: NDArray[np.floating], weights: NDArray[np.floating], tasks: Sequence[Task]
) -> dict[str, NDArray[np.float64]]:
    """AUC of every output and task, and Eq. 4, under many weightings of the cases.

    Args:
        truth: (n, K) 0, 1 or NaN.
        score: (n, K); NaN: no prediction.
        weights: (D, n), as :func:`patient_draws` gives them.
        tasks: With K outputs in all.

    Returns:
        (D,) by name of output and task, and ``score``.
    """
    names = [(name, task.conditional) for task in tasks for name in task.outputs]
    shown = shows_lesion(truth, [name for name, _ in names])
    by_output = {
        name: weighted_aucs(np.where(shown | (not only), truth[:, k], np.nan), score[:, k], weights)
        for k, (name, only) in enumerate(names)
    }
    # A draw without any case of a rare type has no AUC of it: the mean is then over the others, as in Table 2.
    by_task = {task.name: _mean_of_defined([by_output[name] for name in task.outputs]) for task in tasks}
    share = np.array([task.weight for task in tasks])[:, None] * ~np.isnan(list(by_task.values()))
    with np.errstate(invalid="ignore"):
        whole = np.nansum(share * np.array(list(by_task.values())), axis=0) / share.sum(axis=0)
    return {**by_output, **by_task, SCORE: whole}


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.floating]], NDArray[np.floating]],
    patients: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Any number that weighted cases have, with an expanded percentile interval over drawn patients.

    Args:
        statistic: From weights (D, n) to (D,) numbers; NaN where undefined, such as a mean over no case.
        patients: (n,) of the cases.
        strata: (n,) see :func:`patient_draws`; None: all cases are alike.
        draws: Bootstrap samples.
        seed: Of the draws.
    """
    count = len(np.asarray(patients))
    if not count:
        return Interval(float("nan"), float("nan"), float("nan"))
    stratum = np.zeros(count) if strata is None else np.asarray(strata)
    weights = patient_draws(patients, stratum, draws, seed)
    who = np.asarray(patients)
    smallest = min(len(set(who[stratum == value].tolist())) for value in np.unique(stratum))
    with np.errstate(invalid="ignore", divide="ignore"):
        value, drawn = float(statistic(np.ones((1, count)))[0]), np.asarray(statistic(weights), np.float64)
    return percentiles(value, drawn, smallest)


def score_values(
    truth: NDArray[np.floating], score: NDArray[np.floating], tasks: Sequence[Task]
) -> Mapping[str, float]:
    """AUC of every output and task, and ``score`` (Eq. 4), of the cases as they are; NaN scores take no part."""
    whole = group_numbers(truth, score, np.zeros(len(truth), np.int64), tasks)
    return {name: float(values[0]) for name, values in {**whole.outputs, **whole.tasks, SCORE: whole.score}.items()}


def _mean_of_defined(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    stacked = np.stack(values)
    count = (~np.isnan(stacked)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, np.nansum(stacked, axis=0) / count, np.nan))


def percentiles(value: float, drawn: NDArray[np.float64], size: float, level: float = LEVEL) -> Interval:
    r"""An expanded percentile interval (Hesterberg 2015, Eq. 8).

    Drawn samples spread less than new ones would, by :math:`\sqrt{(n - 1) / n}`, and know nothing of Student's t. So
    the quantiles :math:`\Phi(\pm t_{n - 1} \sqrt{n / (n - 1)})` are taken instead of 2.5 and 97.5 %. With 36 positive
    and 86 negative cases this covers an AUC of .92 with 94 instead of 93 %.

    Args:
        value: Of the cases as they are; NaN: no limits.
        drawn: (D,); NaN ones are left out.
        size: n, the patients of the smallest class; with fewer than 2 there are no limits.
        level: Coverage.
    """
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(defined) or size < 2:
        return Interval(value, float("nan"), float("nan"))
    tail = norm.cdf(student.ppf((1 - level) / 2, size - 1) * np.sqrt(size / (size - 1)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
