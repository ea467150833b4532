"""Thresholds for a wanted sensitivity or specificity, chosen on predictions of cases that were not trained on."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from liverattn.evaluation.intervals import Interval, rate_interval

WANTED: tuple[tuple[Literal["sensitivity", "specificity"], float], ...] = (
    ("sensitivity", 0.90),
    ("sensitivity", 0.95),
    ("specificity", 0.90),
    ("specificity", 0.95),
)
POINT_NAMES = tuple(f"{kind}_{round(100 * level)}" for kind, level in WANTED)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold of one output and what it gives on the cases that it was chosen on.

    Attributes:
        name: Such as ``sensitivity_90``.
        threshold: A case is called positive where the probability is at least this.
        sensitivity: With its interval.
        specificity: With its interval.
        positives: Cases.
        negatives: Cases.
    """

    name: str
    threshold: float
    sensitivity: Interval
    specificity: Interval
    positives: int
    negatives: int


def thresholds(truth: ArrayLike, score: ArrayLike) -> list[float]:
    """Those of the points of :data:`WANTED` for one output; none where a class is absent.

    Of all thresholds that reach the wanted rate, the one with the best other rate is taken. It lies in the middle
    between two scores that occur, so that the last digits of a score decide nothing.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        score: (n,) probabilities; NaN is left out.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    known = ~np.isnan(values)
    positive, negative = values[known & (labels == 1)], values[known & (labels == 0)]
    if not len(positive) or not len(negative):
        return []
    return [_threshold(kind, level, positive, negative) for kind, level in WANTED]


def operating_points(truth: ArrayLike, score: ArrayLike, patients: ArrayLike | None = None) -> list[OperatingPoint]:
    """What :func:`thresholds` reach, with intervals; none where a class is absent.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        score: (n,) probabilities; NaN is left out.
        patients: (n,) whom each case shows, for the intervals; None: each another one.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    is_positive, is_negative = ((labels == one) & ~np.isnan(values) for one in (1, 0))
    points = []
    for name, threshold in zip(POINT_NAMES, thresholds(labels, values), strict=False):  # or none
        called = (values >= threshold).astype(np.float64)
        sensitivity = rate_interval(np.where(is_positive, called, np.nan), patients)
        specificity = rate_interval(np.where(is_negative, 1 - called, np.nan), patients)
        counts = int(is_positive.sum()), int(is_negative.sum())
        points.append(OperatingPoint(name, threshold, sensitivity, specificity, *counts))
    return points


def _threshold(kind: str, level: float, positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    observed = np.unique(np.concatenate([positive, negative]))
    if kind == "sensitivity":  # the positive case that must still be called, from the highest score down
        limit = np.sort(positive)[::-1][_needed(level, len(positive)) - 1]
        lower = observed[observed < limit]
        threshold = _between(lower[-1], limit) if len(lower) else limit
    else:  # the negative case that must not be called, from the lowest score up
        limit = np.sort(negative)[_needed(level, len(negative)) - 1]
        higher = observed[observed > limit]
        threshold = _between(limit, higher[0]) if len(higher) else np.nextafter(limit, np.inf)
    return float(threshold)


def _between(lower: float, higher: float) -> float:
    """Their middle, above the lower one: of neighbors among floats, such as probabilities near 1, the higher one."""
    middle = (lower + higher) / 2
    return middle if middle > lower else higher


def _needed(level: float, count: int) -> int:
    return max(1, math.ceil(level * count - 1e-9))  # 0.9 * 10 is a little more than 9 in binary
