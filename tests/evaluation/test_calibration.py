import numpy as np
import pytest

from liverattn.evaluation.calibration import calibration_line, net_benefit, reliability, temperature, tempered


def test_two_bins_by_hand() -> None:
    probability = np.array([0.1, 0.2, 0.1, 0.2, 0.15, 0.8, 0.9, 0.8, 0.9, 0.85])
    truth = np.array([0, 0, 1, 0, 0, 1, 1, 1, 1, 0.0])
    found = reliability(truth, probability)
    assert found is not None
    np.testing.assert_allclose(found.predicted, [0.15, 0.85])
    assert [one.value for one in found.observed] == [0.2, 0.8]
    assert found.cases.tolist() == [5, 5]
    assert found.brier == pytest.approx(np.mean((truth - probability) ** 2))
    assert found.error == pytest.approx(0.05)  # .05 too low in one half of the cases, .05 too high in the other


def test_calibrated_probabilities_lie_on_the_diagonal() -> None:
    random = np.random.default_rng(0)
    probability = random.random(20_000)
    found = reliability(random.random(20_000) < probability, probability)
    assert found is not None
    np.testing.assert_allclose([one.value for one in found.observed], found.predicted, atol=0.03)


def test_unknown_ones_take_no_part_and_few_have_no_curve() -> None:
    assert reliability([0, 1] * 4, [0.5] * 8) is None
    nan = float("nan")
    with_unknown = reliability([*[0, 1] * 6, nan, 1], [*[0.1, 0.9] * 6, 0.5, nan])
    without = reliability([0, 1] * 6, [0.1, 0.9] * 6)
    assert with_unknown is not None and without is not None
    np.testing.assert_array_equal(with_unknown.predicted, without.predicted)
    assert with_unknown.brier == pytest.approx(0.01)


def test_equal_probabilities_share_a_bin_in_whatever_order_they_come() -> None:
    truth = np.repeat([1, 0], [30, 70])
    found = reliability(truth, np.full(100, 0.3))
    assert found is not None and found.error == pytest.approx(0) and found.cases.tolist() == [100]
    order = np.random.default_rng(0).permutation(200)
    truth, chance = np.tile(truth, 2), np.repeat([0.1, 0.2, 0.7, 0.9], 50)
    sorted_ones, mixed = reliability(truth, chance), reliability(truth[order], chance[order])
    assert sorted_ones is not None and mixed is not None
    assert sorted_ones.error == pytest.approx(mixed.error) and sorted_ones.cases.tolist() == [50] * 4


def test_one_class_only() -> None:
    found = reliability(np.zeros(20), np.linspace(0, 1, 20))
    assert found is not None and all(one.value == 0 for one in found.observed)


def drawn(slope: float, intercept: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Truth whose log odds are intercept + slope * logit(probability)."""
    random = np.random.default_rng(0)
    logits = random.normal(size=count)
    truth = random.random(count) < 1 / (1 + np.exp(-(intercept + slope * logits)))
    return truth.astype(float), 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.7])
def test_the_line_finds_what_was_put_in(slope: float) -> None:
    found = calibration_line(*drawn(slope, 0.0))
    assert found is not None
    assert found.slope.value == pytest.approx(slope, abs=0.06)
    assert found.slope.low < slope < found.slope.high
    assert found.intercept.value == pytest.approx(0, abs=0.06)


def test_too_high_probabilities_have_a_negative_intercept() -> None:
    found = calibration_line(*drawn(1.0, -0.7))
    assert found is not None
    assert found.intercept.value == pytest.approx(-0.7, abs=0.05) and found.intercept.high < 0
    assert found.slope.value == pytest.approx(1, abs=0.05)


def test_the_line_by_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    truth, probability = drawn(0.8, 0.3, count=400)
    logits = np.log(probability / (1 - probability))[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(logits, truth)
    found = calibration_line(truth, probability)
    assert found is not None and found.slope.value == pytest.approx(reference.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize(
    ("truth", "probability"),
    [
        ([0, 0], [0.1, 0.2]),
        ([0, 1], [0.3, 0.3]),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
        ([0, 0, 0, 1, 1, 1], [0.3, 0.5, 0.7, 0.7, 0.8, 0.9]),  # but for a tie
    ],
)
def test_no_line_fits(truth: list[float], probability: list[float]) -> None:
    assert calibration_line(truth, probability) is None


def test_temperature() -> None:
    truth, probability = drawn(0.5, 0.0)
    found = temperature(truth, probability)
    assert found == pytest.approx(2, abs=0.1)
    better, before = reliability(truth, tempered(probability, found)), reliability(truth, probability)
    assert better is not None and before is not None
    assert better.error < 0.02 < before.error
    assert np.isnan(temperature([1, 1], [0.4, 0.5]))
    np.testing.assert_allclose(tempered([0.2, 0.9], 1), [0.2, 0.9])


def test_net_benefit_by_hand() -> None:
    """Ten cases, three positive. At .2: two hits and one alarm give .2 - .1 / 4."""
    truth = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    probability = [0.9, 0.5, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    np.testing.assert_allclose(net_benefit(truth, probability, [0.2, 0.55]), [0.175, 0.1 - 0.1 * 0.55 / 0.45])
    everybody = net_benefit(truth, np.ones(10), [0.2])
    np.testing.assert_allclose(everybody, 0.3 - 0.7 / 4)
    assert net_benefit(truth, np.zeros(10), [0.2]) == 0
    assert np.isnan(net_benefit([np.nan], [0.5], [0.2])).all()


def test_a_line_of_patients_with_several_images_is_as_wide_as_their_clusters_are() -> None:
    import statsmodels.api as sm

    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(80), 5)
    logits = np.repeat(random.normal(size=80), 5)
    truth = (random.random(400) < 1 / (1 + np.exp(-logits - np.repeat(random.normal(size=80), 5)))).astype(float)
    probability = 1 / (1 + np.exp(-logits))
    alone, found = calibration_line(truth, probability), calibration_line(truth, probability, patients)
    assert alone is not None and found is not None
    assert calibration_line(truth, probability, np.arange(400)) == alone
    # The sandwich of clusters over that of images, by statsmodels, whose correction has coefficients in it.
    model = sm.GLM(truth, sm.add_constant(logits), family=sm.families.Binomial())
    clustered = model.fit(cov_type="cluster", cov_kwds={"groups": patients}).bse[1]
    ratio = (found.slope.high - found.slope.low) / (alone.slope.high - alone.slope.low)
    assert ratio == pytest.approx(clustered / model.fit(cov_type="HC0").bse[1], rel=0.02)
    assert ratio > 1.2 and found.slope.value == alone.slope.value
