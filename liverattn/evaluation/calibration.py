"""Are probabilities what they say? Reliability of bins of cases, and Brier's score. Pure functions on arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import brier_score_loss

from liverattn.evaluation.intervals import Interval, wilson

BINS = 10
FEWEST = 5  # cases of a bin


@dataclass(frozen=True)
class Reliability:
    """A reliability curve.

    Attributes:
        predicted: (N,) mean probability of every bin, ascending.
        observed: N shares of positive cases, with Wilson's intervals.
        cases: (N,) of every bin.
        brier: Brier's score: the mean squared difference of probability and truth.
    """

    predicted: NDArray[np.float64]
    observed: tuple[Interval, ...]
    cases: NDArray[np.int64]
    brier: float


def reliability(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> Reliability | None:
    """Compare probabilities with what came true, in bins of equally many cases.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        probability: (n,) in [0, 1]; NaN is left out.
        bins: At most; fewer where a bin would have less than 5 cases.

    Returns:
        None without two bins' worth of cases.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    known = ~np.isnan(labels) & ~np.isnan(values)
    labels, values = labels[known], values[known]
    count = min(bins, len(values) // FEWEST)
    if count < 2:
        return None
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, count)
    return Reliability(
        predicted=np.array([values[part].mean() for part in parts]),
        observed=tuple(wilson(int(labels[part].sum()), len(part)) for part in parts),
        cases=np.array([len(part) for part in parts]),
        brier=float(brier_score_loss(labels, values, pos_label=1)),
    )
