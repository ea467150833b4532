import itertools
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
        ([0, 1, 1], [1, 2, 3], "two patients"),
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


def test_images_shown_twice_say_nothing_new() -> None:
    once = delong_covariance(TRUTH, [A, B])
    people = np.tile(np.arange(len(TRUTH)), 2)
    twice = delong_covariance(np.tile(TRUTH, 2), np.tile([A, B], 2), people)
    for values, expected in zip(twice, once, strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    named = delong_test(np.tile(TRUTH, 2), np.tile(A, 2), np.tile(B, 2), [f"patient {person}" for person in people])
    assert named.p == pytest.approx(delong_test(TRUTH, A, B).p)
    assert delong_test(np.tile(TRUTH, 2), np.tile(A, 2), np.tile(B, 2)).p < named.p
    assert math.isnan(delong_interval([1, 1, 0, 0], [3, 1, 2, 0], ["a", "a", "b", "c"]).value)


def test_patients_with_several_images_of_both_classes() -> None:
    """Obuchowski's terms, one pair of images at a time."""
    random = np.random.default_rng(0)
    truth, people, scores = random.integers(0, 2, 40), random.integers(0, 12, 40), random.normal(size=(2, 40)).round(1)
    pairs = np.array([[np.sign(s[:, None] - s[None]) / 2 + 0.5 for s in scores]])[0]
    m, n = (truth == 1).sum(), (truth == 0).sum()
    areas = [kernel[np.ix_(truth == 1, truth == 0)].mean() for kernel in pairs]
    expected = np.zeros((2, 2))
    sums = np.zeros((2, 2, 12))  # score, side, patient
    for (k, kernel), person in itertools.product(enumerate(pairs), range(12)):
        for case in np.flatnonzero(people == person):
            against = kernel[case, truth == 0] if truth[case] else kernel[truth == 1, case]
            sums[k, 1 - truth[case], person] += against.mean() - areas[k]
    for first, second in itertools.product(range(2), range(2)):
        for side, count in ((0, m), (1, n)):
            of_class = len(set(people[truth == 1 - side]))
            expected[first, second] += of_class / (of_class - 1) * sums[first, side] @ sums[second, side] / count**2
        of_all = len(set(people))
        crossed = sums[first, 0] @ sums[second, 1] + sums[first, 1] @ sums[second, 0]
        expected[first, second] += of_all / (of_all - 1) * crossed / (m * n)
    found = delong_covariance(truth, scores, people)
    np.testing.assert_allclose(found[0], areas)
    np.testing.assert_allclose(found[1], expected)


def test_type_one_error_with_five_images_of_each_patient() -> None:
    """60 patients, 18 of them positive: 3 to 9 % significant; with images taken as independent more than 20 %."""
    random = np.random.default_rng(3)
    people, truth = np.repeat(np.arange(60), 5), np.repeat([1, 0], [90, 210])
    counted = np.zeros(2)
    for _ in range(600):
        first, second = truth + random.normal(size=(2, 60))[:, people] + random.normal(size=(2, 300))
        counted += [delong_test(truth, first, second, by).p < 0.05 for by in (people, None)]
    clustered, independent = counted / 600
    assert 0.03 <= clustered <= 0.09
    assert independent > 0.2


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
