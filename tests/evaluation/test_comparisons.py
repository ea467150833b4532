import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from liverattn.evaluation.comparisons import bootstrap_tests, corrected_t_test, holm
from liverattn.evaluation.delong import delong_test
from liverattn.evaluation.scores import Task

LESION = (Task("lesion", ("lesion",), 1.0, False),)


def test_corrected_t_by_hand() -> None:
    """Nine differences, three folds: variance times 1/9 + 1/2 instead of 1/9; 8 degrees of freedom."""
    differences = np.array([0.01, 0.02, 0.03, 0.00, 0.02, 0.04, 0.01, 0.03, 0.02])
    found = corrected_t_test(differences, 1 / 2)
    deviation = differences.std(ddof=1) * math.sqrt(1 / 9 + 1 / 2)
    assert found.difference == pytest.approx(0.02)
    assert (found.high - found.low) / 2 == pytest.approx(2.306004 * deviation, rel=1e-5)
    assert found.detectable == pytest.approx((2.306004 + 0.888890) * deviation, rel=1e-5)
    # Without the correction it is the plain test.
    assert corrected_t_test(differences, 0).p == pytest.approx(ttest_1samp(differences, 0).pvalue)
    assert found.p > corrected_t_test(differences, 0).p


def test_corrected_t_degenerate() -> None:
    assert math.isnan(corrected_t_test([0.1], 0.5).difference)
    same = corrected_t_test([0.1, 0.1, float("nan")], 0.5)
    assert same.difference == pytest.approx(0.1) and math.isnan(same.p)


def cross_validated(random: np.random.Generator, repeats: int = 3, folds: int = 3) -> np.ndarray:
    """Accuracies of two equally good learners in 3 x 3 folds: nearest centroids on one half of the features each."""
    labels = random.integers(0, 2, 120)
    features = random.normal(size=(120, 20)) + 0.35 * labels[:, None]
    differences = []
    for _ in range(repeats):
        for part in np.array_split(random.permutation(120), folds):
            train = np.setdiff1d(np.arange(120), part)
            accuracy = []
            for half in (features[:, :10], features[:, 10:]):
                one, other = (half[train][labels[train] == k].mean(axis=0) for k in (1, 0))
                score = half[part] @ (one - other) - (one @ one - other @ other) / 2
                accuracy.append(np.mean((score > 0) == labels[part]))
            differences.append(accuracy[0] - accuracy[1])
    return np.array(differences)


def test_corrected_t_type_one_error_on_real_cross_validation() -> None:
    """The plain t-test finds differences between equal learners far too often; the corrected one does not."""
    random = np.random.default_rng(5)
    runs = [cross_validated(random) for _ in range(1500)]
    plain = np.mean([corrected_t_test(run, 0).p < 0.05 for run in runs])
    corrected = np.mean([corrected_t_test(run, 1 / 2).p < 0.05 for run in runs])
    print(plain, corrected)
    assert plain > 0.12
    assert 0.03 <= corrected <= 0.07


def null(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = np.repeat([1.0, 0.0], [36, 86])[:, None]
    common = random.normal(size=(122, 1))
    first, second = (truth * 1.2 + 0.7 * common + 0.7 * random.normal(size=(122, 1)) for _ in range(2))
    return truth, first, second


def test_bootstrap_agrees_with_delong() -> None:
    random = np.random.default_rng(4)
    truth, first, second = null(random)
    ours = bootstrap_tests(truth, first, second + 0.4 * truth, np.arange(122), LESION)["lesion"]
    theirs = delong_test(truth[:, 0], first[:, 0], (second + 0.4 * truth)[:, 0])
    assert ours.difference == pytest.approx(theirs.difference)
    assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.1)
    assert ours.p == pytest.approx(theirs.p, abs=0.03)
    assert ours.detectable == pytest.approx(theirs.detectable, rel=0.1)


def test_bootstrap_type_one_error() -> None:
    random = np.random.default_rng(6)
    found = [
        bootstrap_tests(*null(random), np.arange(122), LESION, draws=400, seed=k)["lesion"].p < 0.05
        for k in range(1000)
    ]
    assert 0.03 <= np.mean(found) <= 0.07


def test_the_draws_are_paired() -> None:
    truth, first, _ = null(np.random.default_rng(0))
    same = bootstrap_tests(truth, first, first * 2 + 1, np.arange(122), LESION, draws=50)["lesion"]
    assert same.difference == 0 and math.isnan(same.p)


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": float("nan"), "d": 0.03})
    # Three count: .01 x 3, then .03 x 2, then .04 x 1 raised to what came before.
    assert (found["a"], found["d"], found["b"]) == pytest.approx((0.03, 0.06, 0.06))
    assert math.isnan(found["c"])
    assert holm({}) == {}
