import math

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from liverattn.evaluation.comparisons import bootstrap_tests
from liverattn.evaluation.intervals import (
    bootstrap_scores,
    bootstrap_statistic,
    inflation,
    patient_draws,
    rate_interval,
    weighted_aucs,
)
from liverattn.evaluation.scores import PAPER_TASKS, Task


def test_wilson_by_hand() -> None:
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) for 9 of 10, z = 1.959964
    found = rate_interval([1] * 9 + [0, math.nan])
    assert found.value == 0.9
    assert found.low == pytest.approx(0.5958, abs=1e-4)
    assert found.high == pytest.approx(0.9821, abs=1e-4)
    assert math.isnan(rate_interval([math.nan]).value)
    assert rate_interval([0] * 5).low == 0


def test_wilson_of_patients_with_one_image_each_is_wilson() -> None:
    right = np.random.default_rng(0).random(37).round(1)
    assert rate_interval(right, np.arange(37)[::-1]) == rate_interval(right)
    assert rate_interval([1.0, 1.0], ["a", "b"]) == rate_interval([1.0, 1.0])


def test_images_of_one_patient_that_are_all_alike_count_once() -> None:
    once = np.repeat([1.0, 0.0], [9, 6])
    right, patients = np.repeat(once, 4), np.repeat(np.arange(15), 4)
    # 60 images of 15 patients: D = 15 / 14 * 59 / 60 * 4, and the quantiles of 14 and 59 degrees of freedom.
    expected = 15 / 14 * 59 / 60 * 4 * (student.ppf(0.975, 14) / student.ppf(0.975, 59)) ** 2
    assert inflation(right - right.mean(), patients) == pytest.approx(expected)
    trials = 60 / expected
    z = norm.isf(0.025)
    center, half = 0.6 + z**2 / 2 / trials, z * math.sqrt(0.24 / trials + z**2 / 4 / trials**2)
    found = rate_interval(right, patients)
    assert (found.low, found.high) == pytest.approx(
        ((center - half) / (1 + z**2 / trials), (center + half) / (1 + z**2 / trials))
    )
    # All right, which says nothing of how alike they are: as many trials as patients.
    assert rate_interval(np.ones(60), patients).low == pytest.approx(rate_interval(np.ones(15)).low)
    assert rate_interval([1.0, 1.0, 0.0], ["a"] * 3).low == pytest.approx(0.0942, abs=1e-4)  # one trial


def test_images_that_are_less_alike_than_chance_are_not_worth_more() -> None:
    right, patients = np.tile([1.0, 0.0], 30), np.repeat(np.arange(30), 2)
    assert inflation(right - 0.5, patients) == pytest.approx((student.ppf(0.975, 29) / student.ppf(0.975, 59)) ** 2)
    assert rate_interval(right, patients).low < rate_interval(right).low


@pytest.mark.parametrize(("count", "images", "alike"), [(60, 5, 0.5), (20, 5, 0.1), (20, 1, 0.5)])
def test_rates_of_patients_with_several_images_are_covered(count: int, images: int, alike: float) -> None:
    random, rate = np.random.default_rng(0), 0.8
    a, b = (share * (1 - alike) / alike for share in (rate, 1 - rate))
    patients = np.repeat(np.arange(count), images)
    covered = np.zeros(2)
    for _ in range(600):
        right = (random.random(len(patients)) < random.beta(a, b, count)[patients]).astype(float)
        covered += [one.low <= rate <= one.high for one in (rate_interval(right), rate_interval(right, patients))]
    independent, clustered = covered / 600
    assert 0.925 < clustered < 0.975
    assert (independent < 0.9) == (images > 1)


def test_weighted_auc_is_that_of_repeated_cases() -> None:
    random = np.random.default_rng(0)
    truth, score = random.integers(0, 2, 40).astype(float), random.integers(0, 8, 40) / 8
    weights = random.integers(0, 3, (5, 40))
    expected = [roc_auc_score(np.repeat(truth, w), np.repeat(score, w)) for w in weights]
    np.testing.assert_allclose(weighted_aucs(truth, score, weights), expected, rtol=1e-12)


def test_unknown_labels_and_scores_take_no_part() -> None:
    truth, score = np.array([0, 1, 1, np.nan, 0]), np.array([0.1, 0.9, 0.05, 0.5, np.nan])
    np.testing.assert_allclose(weighted_aucs(truth, score, np.ones((1, 5))), [0.5])


def test_a_class_that_is_absent_has_no_auc() -> None:
    found = weighted_aucs([0, 1, 1], [0.1, 0.2, 0.3], np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0]]))
    assert found[0] == 1
    assert np.isnan(found[1:]).all()
    assert np.isnan(weighted_aucs([np.nan], [0.1], np.ones((2, 1)))).all()


def test_draws_keep_patients_together_and_strata_full() -> None:
    patients = ["a", "a", "b", "c", "d", "d"]
    strata = [0, 1, 0, 1, 0, 0]  # a and c are lesion patients, b and d are not
    counts = patient_draws(patients, strata, 200, seed=1)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 4] == counts[:, 5]).all()
    assert (counts[:, 0] + counts[:, 3] == 2).all()
    assert (counts[:, 2] + counts[:, 4] == 2).all()
    assert counts[:, 0].std() > 0
    np.testing.assert_array_equal(counts, patient_draws(patients, strata, 200, seed=1))


def test_bootstrap_values_are_the_scores_and_lie_inside() -> None:
    random = np.random.default_rng(0)
    kinds = random.choice(6, 200, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    truth = np.column_stack([kinds > 0, np.isin(kinds, (2, 5)), *(kinds == k for k in range(1, 6))]).astype(float)
    score = truth + random.normal(size=truth.shape)
    found = bootstrap_scores(truth, score, np.arange(200), PAPER_TASKS, draws=300)
    assert found["lesion"].value == pytest.approx(roc_auc_score(truth[:, 0], score[:, 0]))
    lesions = truth[:, 0] == 1
    assert found["malignancy"].value == pytest.approx(roc_auc_score(truth[lesions, 1], score[lesions, 1]))
    parts = [found[task.name].value for task in PAPER_TASKS]
    assert found["score"].value == pytest.approx(np.dot([0.5, 0.3, 0.2], parts))
    for one in found.values():
        assert one.low < one.value < one.high


def test_bootstrap_standard_error_is_hanley_and_mcneils() -> None:
    """Their formula for two normal distributions, AUC 0.76, 40 and 80 cases; the half width is 1.96 of it."""
    random = np.random.default_rng(3)
    truth = np.repeat([1.0, 0.0], [40, 80])[:, None]
    task = (Task("lesion", ("lesion",), 1.0, False),)
    widths, values = [], []
    for _ in range(40):
        score = random.normal(size=(120, 1)) + truth
        one = bootstrap_scores(truth, score, np.arange(120), task, draws=300)["lesion"]
        widths.append((one.high - one.low) / (2 * 1.96))
        values.append(one.value)
    auc = 0.7602
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    expected = math.sqrt((auc * (1 - auc) + 39 * (q1 - auc**2) + 79 * (q2 - auc**2)) / (40 * 80))
    assert np.mean(values) == pytest.approx(auc, abs=0.02)
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)


def test_coverage_of_the_bootstrap_interval_at_the_papers_size() -> None:
    """Nominal 95 %: within 92 to 97 % at AUCs of .76 and .92, over 1 000 simulated folds of 36 and 86 cases."""
    random, truth = np.random.default_rng(7), np.repeat([1.0, 0.0], [36, 86])[:, None]
    task = (Task("lesion", ("lesion",), 1.0, False),)
    for separation in (1.0, 2.0):
        true, covered = norm.cdf(separation / math.sqrt(2)), 0
        for seed in range(1000):
            score = random.normal(size=(122, 1)) + separation * truth
            one = bootstrap_scores(truth, score, np.arange(122), task, draws=500, seed=seed)["lesion"]
            covered += one.low <= true <= one.high
        assert 0.92 <= covered / 1000 <= 0.97, (separation, covered)


def test_coverage_where_patients_have_several_images() -> None:
    """61 patients of two images that are nearly alike: drawn as patients they cover, drawn as images they do not."""
    random, truth = np.random.default_rng(8), np.repeat([1.0, 0.0], [36, 86])[:, None]
    task, patients = (Task("lesion", ("lesion",), 1.0, False),), np.arange(122) // 2
    covered = {"patients": 0, "images": 0}
    for seed in range(400):
        score = np.repeat(random.normal(size=(61, 1)), 2, axis=0) + 0.1 * random.normal(size=(122, 1)) + truth
        for name, groups in (("patients", patients), ("images", np.arange(122))):
            one = bootstrap_scores(truth, score, groups, task, draws=400, seed=seed)["lesion"]
            covered[name] += one.low <= norm.cdf(1 / math.sqrt(2 * 1.01)) <= one.high
    assert covered["patients"] / 400 >= 0.91 and covered["images"] / 400 < 0.87, covered


def test_missing_predictions_and_undefined_tasks() -> None:
    truth = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    score = np.array([[0.1, np.nan], [0.8, np.nan], [0.9, np.nan], [0.2, np.nan], [0.7, np.nan]])
    tasks = (Task("lesion", ("lesion",), 0.6, False), Task("malignancy", ("malignancy",), 0.4, True))
    found = bootstrap_scores(truth, score, np.arange(5), tasks, draws=50)
    assert found["lesion"].value == 1
    assert math.isnan(found["malignancy"].value)
    assert found["score"].value == 1


def test_conditional_outputs_do_not_need_a_prediction_of_the_lesion() -> None:
    # Of lesion images only, the AUC of lesion is undefined: it has no copy, and the others keep theirs.
    random = np.random.default_rng(0)
    truth = np.column_stack([np.ones(40), random.integers(0, 2, 40)]).astype(float)
    score = np.column_stack([np.full(40, np.nan), truth[:, 1] + random.normal(size=40)])
    tasks = (Task("lesion", ("lesion",), 0.6, False), Task("malignancy", ("malignancy",), 0.4, True))
    found = bootstrap_scores(truth, score, np.arange(40), tasks, draws=50)
    assert math.isnan(found["lesion"].value)
    assert found["malignancy"].value == found["score"].value == roc_auc_score(truth[:, 1], score[:, 1])
    assert found["malignancy"].low < found["malignancy"].value < found["malignancy"].high
    difference = bootstrap_tests(truth, score, -score, np.arange(40), tasks, draws=50)["malignancy"]
    assert difference.difference == pytest.approx(2 * found["malignancy"].value - 1)


def test_any_statistic_has_an_interval_over_patients() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap_statistic(lambda drawn: drawn @ values / drawn.sum(axis=1), np.arange(400))
    assert found.value == pytest.approx(values.mean())
    error = 1.96 * values.std() / math.sqrt(400)  # the central limit theorem
    assert found.low == pytest.approx(values.mean() - error, abs=0.04)
    assert found.high == pytest.approx(values.mean() + error, abs=0.04)
    twins = bootstrap_statistic(lambda drawn: drawn @ values / drawn.sum(axis=1), np.arange(400) // 4)
    assert twins.value == found.value and twins.high - twins.low > 0
    constant = bootstrap_statistic(lambda drawn: drawn.sum(axis=1), ["a", "a", "b", "b"])  # as many as there are
    assert (constant.value, constant.low, constant.high) == (4, 4, 4)


def test_an_undefined_statistic_has_no_interval() -> None:
    nothing = bootstrap_statistic(lambda drawn: drawn @ np.zeros(0), [])
    assert all(math.isnan(value) for value in vars(nothing).values())
    undefined = bootstrap_statistic(lambda drawn: drawn[:, 0] * 0 / 0, ["a", "b"])
    assert all(math.isnan(value) for value in vars(undefined).values())
