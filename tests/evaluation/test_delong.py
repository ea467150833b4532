import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from liverattn.evaluation.delong import delong_covariance, delong_interval, delong_test

TRUTH = np.repeat([1.0, 0.0], [12, 18])
A = np.array([
    0.74, 0.8, 0.68, 0.56, 0.64, 0.54, 0.76, 1.0, 0.64, 0.62, 0.84, 0.82, 0.52, 0.32, 0.5, 0.64, 0.24, 0.4, 0.12, 0.24,
    0.14, 0.46, 0.24, 0.56, 0.54, 0.46, 0.0, 0.4, 0.5, 0.52,
])  # fmt: skip
B = np.array([
    0.39, 0.61, 0.45, 0.39, 0.8, 0.39, 0.68, 1.0, 0.5, 0.57, 0.75, 0.73, 0.18, 0.27, 0.64, 0.2, 0.36, 0.34, 0.0, 0.57,
    0.27, 0.14, 0.23, 0.52, 0.39, 0.48, 0.02, 0.43, 0.66, 0.27,
])  # fmt: skip


def test_by_hand() -> None:
    """Positives 3 and 1, negatives 2 and 0: each positive outranks 1 and 1/2 of the negatives, and so backwards."""
    (area,), ((variance,),) = delong_covariance([1, 1, 0, 0], [3, 1, 2, 0])
    assert area == 0.75
    # cov(1, .5) = .125 for the positives, and (.5, 1) the same for the negatives; each over 2 cases.
    assert variance == pytest.approx(0.125 / 2 + 0.125 / 2)


def test_a_published_implementation() -> None:
    """MLstatkit 0.1.91 on these cases, with many ties: z -1.8095731593655855, variance .00477164069892828."""
    found = delong_test(TRUTH, A, B)
    assert found.difference == pytest.approx(0.9722222222222221 - 0.8472222222222221)
    assert found.p == pytest.approx(0.07036200538827751, rel=1e-9)
    half = norm.isf(0.025) * math.sqrt(0.00477164069892828)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-9)
    one, other = (delong_interval(TRUTH, score, scale="linear") for score in (A, B))
    assert (one.low, one.high) == pytest.approx((0.9267557419780754, 1.0))
    assert (other.low, other.high) == pytest.approx((0.7119507922387674, 0.9824936522056767))


def test_areas_are_scikit_learns_and_the_order_of_cases_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(30)
    areas, covariance = delong_covariance(TRUTH[order], np.stack([A, B])[:, order])
    np.testing.assert_allclose(areas, [roc_auc_score(TRUTH, A), roc_auc_score(TRUTH, B)])
    np.testing.assert_allclose(covariance, delong_covariance(TRUTH, [A, B])[1])


def test_any_monotone_scale_and_the_sign_of_the_difference() -> None:
    assert delong_test(TRUTH, A, B) == delong_test(TRUTH, np.exp(A), B)
    one, other = delong_test(TRUTH, A, B), delong_test(TRUTH, B, A)
    assert (one.difference, one.low, one.p) == pytest.approx((-other.difference, -other.high, other.p))


def test_unknown_cases_are_left_out() -> None:
    nan = float("nan")
    longer = delong_test([*TRUTH, nan, 1], [*A, 0.5, nan], [*B, 0.5, 0.5])
    assert longer == delong_test(TRUTH, A, B)


def test_degenerate_cases_are_nan_not_zero() -> None:
    assert math.isnan(delong_interval([1, 0, 0], [1, 2, 3]).value)
    perfect = delong_interval([1, 1, 0, 0], [4, 3, 2, 1])
    assert perfect.value == 1 and math.isnan(perfect.low)
    same = delong_test(TRUTH, A, 2 * A)
    assert same.difference == 0 and math.isnan(same.p)
    assert math.isnan(delong_test([1, 0], [1, 2], [2, 1]).difference)


@pytest.mark.parametrize(
    ("truth", "score", "message"),
    [
        ([0, 1, 2], [1, 2, 3], "truth` of 0 and 1"),
        ([0, 1, 1], [1, np.nan, 3], "finite"),
        ([0, 1, 1], [1, 2, 3], "two cases"),
    ],
)
def test_illegal_input(truth: list[float], score: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delong_covariance(truth, score)


def simulated(random: np.random.Generator, correlation: float, separations: tuple[float, float]) -> np.ndarray:
    """Two correlated normal scores of 36 positive and 86 negative cases, as in the paper's folds."""
    noise = random.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=122).T
    noise[:, :36] += np.array(separations)[:, None]
    return noise


def test_coverage_of_the_interval_at_the_papers_size() -> None:
    """Nominal 95 %: within 92 to 97 % at AUCs of .76 and .92, over 2 000 simulated folds."""
    random, truth = np.random.default_rng(1), np.repeat([1, 0], [36, 86])
    for separation in (1.0, 2.0):
        true = norm.cdf(separation / math.sqrt(2))
        covered = 0
        for _ in range(2000):
            found = delong_interval(truth, simulated(random, 0, (separation, 0))[0])
            covered += found.low <= true <= found.high
        assert 0.92 <= covered / 2000 <= 0.97, (separation, covered)


def test_type_one_error_and_power() -> None:
    """Under the null 3 to 7 % are significant; at the smallest detectable difference about 80 %."""
    random, truth = np.random.default_rng(2), np.repeat([1, 0], [36, 86])
    tests = [delong_test(truth, *simulated(random, 0.6, (1.0, 1.0))) for _ in range(2000)]
    assert 0.03 <= np.mean([test.p < 0.05 for test in tests]) <= 0.07
    wanted = np.median([test.detectable for test in tests])
    better = math.sqrt(2) * norm.ppf(norm.cdf(1 / math.sqrt(2)) + wanted)
    power = np.mean([delong_test(truth, *simulated(random, 0.6, (better, 1.0))).p < 0.05 for _ in range(1000)])
    assert 0.72 <= power <= 0.9
