"""Is one architecture better than another? Paired tests on out-of-fold scores and on fold runs. Pure functions."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from liverattn.evaluation.delong import UNDEFINED, PairedTest
from liverattn.evaluation.intervals import DRAWS, LEVEL, drawn_scores, patient_draws, score_strata, score_values
from liverattn.evaluation.scores import Task

DETECTED = 0.8  # probability with which the smallest detectable difference is significant


def corrected_t_test(differences: ArrayLike, test_share: float, level: float = LEVEL) -> PairedTest:
    r"""The corrected resampled t-test over fold runs (Nadeau and Bengio 2003).

    Fold runs share training cases, so their differences are correlated and the plain t-test finds too much. The
    variance of the mean of J differences is taken as the following, with J - 1 degrees of freedom:

    .. math:: \left(\frac{1}{J} + \frac{n_{test}}{n_{train}}\right) \hat\sigma^2

    Args:
        differences: (J,) of a number of two architectures in the same fold runs; NaN ones are left out.
        test_share: n_test / n_train; 1/2 for three folds.
        level: Coverage of the interval.

    Returns:
        NaN with fewer than two differences; p is NaN where all are equal.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    count = len(values)
    if count < 2:
        return UNDEFINED
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) * math.sqrt(1 / count + test_share)
    if deviation < 1e-15:
        return PairedTest(mean, *[math.nan] * 4)
    free = count - 1
    half = float(student.isf((1 - level) / 2, free)) * deviation
    detectable = float(student.isf(0.025, free) + student.isf(1 - DETECTED, free)) * deviation
    return PairedTest(mean, mean - half, mean + half, float(2 * student.sf(abs(mean) / deviation, free)), detectable)


def bootstrap_tests(
    truth: NDArray[np.floating],
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    patients: ArrayLike,
    tasks: Sequence[Task],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, PairedTest]:
    """Differences of every AUC and of Eq. 4 on the same drawn patients.

    Args:
        truth: (n, K) 0, 1 or NaN.
        first: (n, K) scores, one row per image (averaged over repeats).
        second: (n, K) of the same images.
        patients: (n,).
        tasks: With K outputs in all.
        draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        By name of output and task, and ``score``: percentile interval; p is twice the smaller share of draws on one
        side of 0.
    """
    weights = patient_draws(patients, score_strata(truth, tasks), draws, seed)
    one, other = (drawn_scores(truth, scores, weights, tasks) for scores in (first, second))
    values, others = (score_values(truth, scores, tasks) for scores in (first, second))
    return {name: _drawn_test(values[name] - others[name], one[name] - other[name]) for name in values}


def _drawn_test(difference: float, drawn: NDArray[np.float64], level: float = LEVEL) -> PairedTest:
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(difference) or not len(defined):
        return UNDEFINED
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    side = min((defined <= 0).sum(), (defined >= 0).sum()) + 1
    deviation = float(defined.std())
    if deviation < 1e-15:
        return PairedTest(difference, *[math.nan] * 4)
    p = min(1.0, 2 * side / (len(defined) + 1))
    return PairedTest(difference, float(low), float(high), float(p), float((1.959964 + 0.841621) * deviation))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for several comparisons (Holm 1979); NaN stays NaN and does not count.

    Four lines of our own: statsmodels' ``multipletests`` collects garbage in every call, .4 s each.
    """
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    factors = np.arange(len(known), 0, -1)
    adjusted = np.maximum.accumulate(factors * np.array([p for p, _ in known])).clip(max=1)
    return {**p_values, **{name: float(p) for (_, name), p in zip(known, adjusted, strict=True)}}
