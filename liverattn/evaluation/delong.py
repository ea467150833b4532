"""DeLong's variance of correlated AUCs: intervals and paired tests. Pure functions on arrays."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from liverattn.evaluation.intervals import LEVEL, Interval


@dataclass(frozen=True)
class PairedTest:
    """A difference of two numbers on the same cases, or over the same fold runs.

    Attributes:
        difference: First minus second.
        low: Lower limit of its 95 % interval.
        high: Upper limit.
        p: Two-sided; NaN where undefined.
        detectable: The smallest true difference that such data would show (p < .05) with a probability of 80 %.
    """

    difference: float
    low: float
    high: float
    p: float
    detectable: float


UNDEFINED = PairedTest(*[math.nan] * 5)


def delong_covariance(
    truth: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""AUCs of several scores on the same cases, and the covariance of these AUCs.

    DeLong, DeLong and Clarke-Pearson 1988, Eq. 4 to 8, by the midranks of Sun and Xu 2014. With m positive and n
    negative cases, :math:`V_{10}` (m,) is the share of negatives that each positive outranks, :math:`V_{01}` (n,) the
    share of positives that outrank each negative, ties by half:

    .. math:: S = \frac{cov(V_{10})}{m} + \frac{cov(V_{01})}{n}

    Images of one patient resemble each other. Obuchowski 1997 therefore sums over each patient's images before
    squaring: with :math:`P_i` and :math:`Q_i` the sums of :math:`V_{10} - AUC` and :math:`V_{01} - AUC` over those of
    patient i, of I patients, :math:`I_{10}` with positive and :math:`I_{01}` with negative images,

    .. math::
        S = \frac{I_{10}}{I_{10} - 1} \frac{\sum P_i P_i^T}{m^2} + \frac{I_{01}}{I_{01} - 1} \frac{\sum Q_i Q_i^T}{n^2}
            + \frac{I}{I - 1} \frac{\sum P_i Q_i^T + Q_i P_i^T}{m n}

    which is DeLong's where each patient has one image.

    Args:
        truth: (N,) 0 or 1; both occur, each with at least two patients.
        scores: (M, N), higher is more positive.
        patients: (N,) whom each case shows; None: each another one.

    Returns:
        (M,) AUCs and (M, M) covariance.

    Raises:
        ValueError: Fewer than two patients with a class, or labels or scores that are not finite.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if not np.isin(labels, (0, 1)).all() or not np.isfinite(values).all():
        raise ValueError("Expected `truth` of 0 and 1 and finite `scores`; leave unknown cases out.")
    positive, negative = values[:, labels == 1], values[:, labels == 0]
    m, n = positive.shape[1], negative.shape[1]
    people, person = np.unique(np.arange(len(labels)) if patients is None else patients, return_inverse=True)
    with_positive, with_negative = (len(np.unique(person[labels == value])) for value in (1, 0))
    if min(with_positive, with_negative) < 2:
        raise ValueError(
            f"Expected at least two patients of each class, but got {with_positive} positive and {with_negative} "
            "negative."
        )
    together = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    outranked = (together[:, :m] - rankdata(positive, axis=1)) / n
    outranking = 1 - (together[:, m:] - rankdata(negative, axis=1)) / m
    areas = outranked.mean(axis=1)
    of_positive, of_negative = (
        np.stack([np.bincount(person[rows], row, len(people)) for row in deviations - areas[:, None]]) / rows.sum()
        for deviations, rows in ((outranked, labels == 1), (outranking, labels == 0))
    )
    both = of_positive @ of_negative.T
    covariance = (
        _unbiased(with_positive) * of_positive @ of_positive.T
        + _unbiased(with_negative) * of_negative @ of_negative.T
        + _unbiased(len(people)) * (both + both.T)
    )
    return areas, covariance


def _unbiased(count: int) -> float:
    return count / (count - 1)


def delong_interval(
    truth: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    scale: Literal["logit", "linear"] = "logit",
    level: float = LEVEL,
) -> Interval:
    """An AUC with DeLong's interval.

    Args:
        truth: (N,) 0, 1 or NaN (left out).
        score: (N,); NaN is left out.
        patients: (N,) whom each case shows; None: each another one.
        scale: On which the AUC is taken to be normal. ``logit`` stays inside (0, 1) and covers better where the AUC is
            high; ``linear`` is what pROC prints.
        level: Coverage.

    Returns:
        Limits are NaN where the variance is 0 (an AUC of 0 or 1); all is NaN with fewer than two patients of a class.
    """
    labels, (values,), people = _known(truth, patients, score)
    if _too_few(labels, people):
        return Interval(math.nan, math.nan, math.nan)
    (area,), ((variance,),) = delong_covariance(labels, values, people)
    if variance <= 0 or not 0 < area < 1:
        return Interval(float(area), math.nan, math.nan)
    half = norm.isf((1 - level) / 2) * math.sqrt(variance)
    if scale == "linear":
        return Interval(float(area), float(max(area - half, 0)), float(min(area + half, 1)))
    center, half = math.log(area / (1 - area)), half / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-limit)) for limit in (center - half, center + half))
    return Interval(float(area), low, high)


def delong_test(
    truth: ArrayLike, first: ArrayLike, second: ArrayLike, patients: ArrayLike | None = None, *, level: float = LEVEL
) -> PairedTest:
    """Are two AUCs on the same cases different?

    Args:
        truth: (N,) 0, 1 or NaN (left out).
        first: (N,) scores; NaN is left out.
        second: (N,) scores of the same cases.
        patients: (N,) whom each case shows; None: each another one.
        level: Coverage of the interval.

    Returns:
        Everything but the difference is NaN where its variance is 0 (the scores rank alike); all is NaN with fewer than
        two patients of a class.
    """
    labels, values, people = _known(truth, patients, first, second)
    if _too_few(labels, people):
        return UNDEFINED
    (one, other), covariance = delong_covariance(labels, values, people)
    deviation = math.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
    difference = float(one - other)
    if deviation < 1e-12:
        return PairedTest(difference, *[math.nan] * 4)
    half = norm.isf((1 - level) / 2) * deviation
    return PairedTest(
        difference=difference,
        low=float(difference - half),
        high=float(difference + half),
        p=float(2 * norm.sf(abs(difference) / deviation)),
        detectable=float((norm.isf(0.025) + norm.isf(0.2)) * deviation),
    )


def _known(
    truth: ArrayLike, patients: ArrayLike | None, *scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    labels = np.asarray(truth, dtype=np.float64)
    values = np.stack([np.asarray(score, dtype=np.float64) for score in scores])
    people = np.arange(len(labels)) if patients is None else np.asarray(patients)
    rows = ~np.isnan(labels) & ~np.isnan(values).any(axis=0)
    return labels[rows], values[:, rows], people[rows]


def _too_few(labels: NDArray[np.float64], people: NDArray[Any]) -> bool:
    return min(len(np.unique(people[labels == value])) for value in (0, 1)) < 2
