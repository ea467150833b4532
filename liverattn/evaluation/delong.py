"""DeLong's variance of correlated AUCs: intervals and paired tests. Pure functions on arrays."""

import math
from dataclasses import dataclass
from typing import Literal

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


def delong_covariance(truth: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""AUCs of several scores on the same cases, and the covariance of these AUCs.

    DeLong, DeLong and Clarke-Pearson 1988, Eq. 4 to 8, by the midranks of Sun and Xu 2014. With m positive and n
    negative cases, :math:`V_{10}` (m,) is the share of negatives that each positive outranks, :math:`V_{01}` (n,) the
    share of positives that outrank each negative, ties by half:

    .. math:: S = \frac{cov(V_{10})}{m} + \frac{cov(V_{01})}{n}

    Args:
        truth: (N,) 0 or 1; both occur, each at least twice.
        scores: (M, N), higher is more positive.

    Returns:
        (M,) AUCs and (M, M) covariance.

    Raises:
        ValueError: Fewer than two cases of a class, or labels or scores that are not finite.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if not np.isin(labels, (0, 1)).all() or not np.isfinite(values).all():
        raise ValueError("Expected `truth` of 0 and 1 and finite `scores`; leave unknown cases out.")
    positive, negative = values[:, labels == 1], values[:, labels == 0]
    m, n = positive.shape[1], negative.shape[1]
    if min(m, n) < 2:
        raise ValueError(f"Expected at least two cases of each class, but got {m} positive and {n} negative.")
    together = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    outranked = (together[:, :m] - rankdata(positive, axis=1)) / n
    outranking = 1 - (together[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.atleast_2d(np.cov(outranked)) / m + np.atleast_2d(np.cov(outranking)) / n
    return outranked.mean(axis=1), covariance


def delong_interval(
    truth: ArrayLike, score: ArrayLike, *, scale: Literal["logit", "linear"] = "logit", level: float = LEVEL
) -> Interval:
    """An AUC with DeLong's interval.

    Args:
        truth: (N,) 0, 1 or NaN (left out).
        score: (N,); NaN is left out.
        scale: On which the AUC is taken to be normal. ``logit`` stays inside (0, 1) and covers better where the AUC is
            high; ``linear`` is what pROC prints.
        level: Coverage.

    Returns:
        Limits are NaN where the variance is 0 (an AUC of 0 or 1); all is NaN with fewer than two cases of a class.
    """
    labels, (values,) = _known(truth, score)
    if min((labels == 1).sum(), (labels == 0).sum()) < 2:
        return Interval(math.nan, math.nan, math.nan)
    (area,), ((variance,),) = delong_covariance(labels, values)
    if variance <= 0 or not 0 < area < 1:
        return Interval(float(area), math.nan, math.nan)
    half = norm.isf((1 - level) / 2) * math.sqrt(variance)
    if scale == "linear":
        return Interval(float(area), float(max(area - half, 0)), float(min(area + half, 1)))
    center, half = math.log(area / (1 - area)), half / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-limit)) for limit in (center - half, center + half))
    return Interval(float(area), low, high)


def delong_test(truth: ArrayLike, first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> PairedTest:
    """Are two AUCs on the same cases different?

    Args:
        truth: (N,) 0, 1 or NaN (left out).
        first: (N,) scores; NaN is left out.
        second: (N,) scores of the same cases.
        level: Coverage of the interval.

    Returns:
        Everything but the difference is NaN where its variance is 0 (the scores rank alike); all is NaN with fewer than
        two cases of a class.
    """
    labels, values = _known(truth, first, second)
    if min((labels == 1).sum(), (labels == 0).sum()) < 2:
        return UNDEFINED
    (one, other), covariance = delong_covariance(labels, values)
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


def _known(truth: ArrayLike, *scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    labels = np.asarray(truth, dtype=np.float64)
    values = np.stack([np.asarray(score, dtype=np.float64) for score in scores])
    rows = ~np.isnan(labels) & ~np.isnan(values).any(axis=0)
    return labels[rows], values[:, rows]
