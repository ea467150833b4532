"""Are probabilities what they say, and what is acting on them worth? Pure functions on arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import brier_score_loss

from liverattn.evaluation.intervals import LEVEL, Interval, inflation, rate_interval

BINS = 10
FEWEST = 5  # cases of a bin


@dataclass(frozen=True)
class Reliability:
    """A reliability curve.

    Attributes:
        predicted: (N,) mean probability of every bin, ascending.
        observed: N shares of positive cases, each with :func:`~liverattn.evaluation.intervals.rate_interval`.
        cases: (N,) of every bin.
        brier: Brier's score: the mean squared difference of probability and truth.
        error: Expected calibration error: the mean over cases of their bin's absolute difference of the two.
    """

    predicted: NDArray[np.float64]
    observed: tuple[Interval, ...]
    cases: NDArray[np.int64]
    brier: float
    error: float


def reliability(
    truth: ArrayLike, probability: ArrayLike, patients: ArrayLike | None = None, *, bins: int = BINS
) -> Reliability | None:
    """Compare probabilities with what came true, in bins of equally many cases, but for ties.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        probability: (n,) in [0, 1]; NaN is left out.
        patients: (n,) whom each case shows; None: each another one.
        bins: At most; fewer where a bin would have less than 5 cases.

    Returns:
        None without two bins' worth of cases.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    known = ~np.isnan(labels) & ~np.isnan(values)
    labels, values, people = labels[known], values[known], _people(patients, known)
    count = min(bins, len(values) // FEWEST)
    if count < 2:
        return None
    lowest = [part[0] for part in np.array_split(np.sort(values), count)]
    bins_of = np.searchsorted(lowest[1:], values, side="right")  # equal probabilities share a bin: order says nothing
    parts = [np.flatnonzero(bins_of == one) for one in np.unique(bins_of)]
    predicted = np.array([values[part].mean() for part in parts])
    differences = predicted - [labels[part].mean() for part in parts]
    cases = np.array([len(part) for part in parts])
    return Reliability(
        predicted=predicted,
        observed=tuple(rate_interval(labels[part], people[part]) for part in parts),
        cases=cases,
        error=float(np.abs(differences) @ cases / cases.sum()),
        brier=float(brier_score_loss(labels, values, pos_label=1)),
    )


@dataclass(frozen=True)
class CalibrationLine:
    """Logistic recalibration (Cox 1958): logit P(truth) = intercept + slope * logit(probability).

    Attributes:
        slope: With its 95 % interval (Wald's, but of patients); 1 is right, below 1 the probabilities are too extreme.
        intercept: Of the line with slope 1 (calibration in the large), with its interval; 0 is right, below 0 they are
            too high.
    """

    slope: Interval
    intercept: Interval


def calibration_line(
    truth: ArrayLike, probability: ArrayLike, patients: ArrayLike | None = None
) -> CalibrationLine | None:
    """Fit the line by statsmodels' logistic regression.

    Its variances grow by :func:`~liverattn.evaluation.intervals.inflation`, of the cases' influence on a coefficient.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        probability: (n,) in (0, 1); NaN is left out.
        patients: (n,) whom each case shows; None: each another one.

    Returns:
        None where a class is absent, all probabilities are equal, or they separate the classes, so that no line fits.
    """
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    labels, logits, known = _known_logits(truth, probability)
    if not 0 < labels.sum() < len(labels) or np.ptp(logits) == 0 or _separates(labels, logits):
        return None
    try:
        with np.errstate(over="ignore"):  # of probabilities near 0 and 1
            line = sm.GLM(labels, sm.add_constant(logits), family=sm.families.Binomial()).fit()
            level = sm.GLM(labels, np.ones((len(labels), 1)), family=sm.families.Binomial(), offset=logits).fit()
            people = _people(patients, known)
            return CalibrationLine(slope=_wald(line, 1, people), intercept=_wald(level, 0, people))
    except PerfectSeparationError:
        return None


def _wald(fit: Any, k: int, people: NDArray[Any]) -> Interval:
    """Of a fitted model's coefficient k."""
    influence = (fit.model.exog * fit.resid_response[:, None]) @ fit.cov_params()[:, k]
    value = float(fit.params[k])
    half = norm.isf((1 - LEVEL) / 2) * float(fit.bse[k]) * inflation(influence, people) ** 0.5
    return Interval(value, value - half, value + half)


def _people(patients: ArrayLike | None, known: NDArray[np.bool_]) -> NDArray[Any]:
    return (np.arange(len(known)) if patients is None else np.asarray(patients))[known]


def _separates(labels: NDArray[np.float64], logits: NDArray[np.float64]) -> bool:
    positive, negative = logits[labels == 1], logits[labels == 0]
    return bool(positive.min() >= negative.max() or positive.max() <= negative.min())


def temperature(truth: ArrayLike, probability: ArrayLike) -> float:
    """The T that makes sigmoid(logit / T) most likely (Guo et al. 2017); to be used on other cases.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        probability: (n,) in (0, 1); NaN is left out.

    Returns:
        In [0.05, 20]; above 1 the probabilities were too extreme. NaN where a class is absent.
    """
    labels, logits, _ = _known_logits(truth, probability)
    if not 0 < labels.sum() < len(labels):
        return float("nan")

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - labels * scaled))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def tempered(probability: ArrayLike, value: float) -> NDArray[np.float64]:
    """Probabilities at a temperature."""
    return np.asarray(expit(logit(_inside(probability)) / value), dtype=np.float64)


def net_benefit(truth: ArrayLike, probability: ArrayLike, thresholds: ArrayLike) -> NDArray[np.float64]:
    r"""The decision curve (Vickers and Elkin 2006).

    .. math:: \frac{TP}{n} - \frac{FP}{n} \frac{p_t}{1 - p_t}

    A false positive costs as much as the threshold :math:`p_t` says: whoever acts from 20 % on holds one missed lesion
    as bad as four needless work-ups. Acting on everybody has the net benefit of probability 1 for all cases, acting on
    nobody has 0.

    Args:
        truth: (n,) 0, 1 or NaN (left out).
        probability: (n,); NaN is left out.
        thresholds: (T,) in (0, 1).

    Returns:
        (T,) net benefit per case; NaN without cases.
    """
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    known = ~np.isnan(labels) & ~np.isnan(values)
    limits = np.asarray(thresholds, dtype=np.float64)
    called = values[known][None] >= limits[:, None]
    hits, count = called @ (labels[known] == 1).astype(np.float64), max(int(known.sum()), 1)
    alarms = called @ (labels[known] == 0).astype(np.float64)
    benefit = (hits - alarms * limits / (1 - limits)) / count
    return np.asarray(benefit if known.any() else np.full(len(limits), np.nan))


def _known_logits(
    truth: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    labels, values = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    known = ~np.isnan(labels) & ~np.isnan(values)
    return labels[known], logit(_inside(values[known])), known


def _inside(probability: ArrayLike) -> NDArray[np.float64]:
    return np.clip(np.asarray(probability, dtype=np.float64), 1e-12, 1 - 1e-12)
