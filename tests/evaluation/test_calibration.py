import numpy as np
import pytest

from liverattn.evaluation.calibration import reliability


def test_two_bins_by_hand() -> None:
    probability = np.array([0.1, 0.2, 0.1, 0.2, 0.15, 0.8, 0.9, 0.8, 0.9, 0.85])
    truth = np.array([0, 0, 1, 0, 0, 1, 1, 1, 1, 0.0])
    found = reliability(truth, probability)
    assert found is not None
    np.testing.assert_allclose(found.predicted, [0.15, 0.85])
    assert [one.value for one in found.observed] == [0.2, 0.8]
    assert found.cases.tolist() == [5, 5]
    assert found.brier == pytest.approx(np.mean((truth - probability) ** 2))


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


def test_one_class_only() -> None:
    found = reliability(np.zeros(20), np.linspace(0, 1, 20))
    assert found is not None and all(one.value == 0 for one in found.observed)
