import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.evaluation.operating_points import POINT_NAMES, operating_points

TRUTH = np.repeat([1.0, 0.0], 10)
SCORE = np.concatenate([np.arange(11, 21), np.arange(1, 11)]) / 20.0  # positives .55 to 1, negatives .05 to .5


def test_by_hand() -> None:
    score = SCORE.copy()
    score[0] = 0.12  # one positive among the negatives
    found = {point.name: point for point in operating_points(TRUTH, score)}
    assert tuple(found) == POINT_NAMES
    # 9 of 10 positives lie at .6 and above; the next score below is .5.
    assert found["sensitivity_90"].threshold == pytest.approx(0.55)
    assert found["sensitivity_90"].sensitivity.value == 0.9
    assert found["sensitivity_90"].specificity.value == 1
    # All 10 are needed for 95 %: .12, between .1 and .12; 2 of 10 negatives lie below.
    assert found["sensitivity_95"].threshold == pytest.approx(0.11)
    assert found["sensitivity_95"].specificity.value == 0.2
    # 9 of 10 negatives lie at .45 and below; the next score above is .5.
    assert found["specificity_90"].threshold == pytest.approx(0.475)
    assert found["specificity_90"].specificity.value == 0.9
    assert found["specificity_95"].threshold == pytest.approx(0.55)
    assert (found["sensitivity_90"].positives, found["sensitivity_90"].negatives) == (10, 10)


def test_one_class_only_has_no_points() -> None:
    assert operating_points([1, 1, np.nan], [0.1, 0.2, 0.3]) == []


def test_neighbors_among_floats_are_told_apart() -> None:
    # The middle of these two rounds to the lower one, on which both rates hang.
    low = 1 - 2**-52
    high = float(np.nextafter(low, 1))
    assert (low + high) / 2 == low
    truth = np.repeat([0.0, 1.0], 10)
    negatives, positives = [0.1] * 8 + [low, high], [low] + [high] * 9
    found = {point.name: point for point in operating_points(truth, [*negatives, *positives])}
    assert found["specificity_90"].threshold == found["sensitivity_90"].threshold == high
    assert found["specificity_90"].specificity.value == found["sensitivity_90"].specificity.value == 0.9
    assert found["sensitivity_90"].sensitivity.value == 0.9


def test_all_scores_equal() -> None:
    found = {point.name: point for point in operating_points([0, 1], [0.5, 0.5])}
    assert found["sensitivity_90"].sensitivity.value == 1
    assert found["specificity_90"].specificity.value == 1
    assert found["specificity_90"].threshold > 0.5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=4, max_size=60))
def test_wanted_rates_are_reached_and_nothing_is_given_away(cases: list[tuple[bool, int]]) -> None:
    truth, score = np.array([c[0] for c in cases], float), np.array([c[1] for c in cases]) / 9
    for point in operating_points(truth, score):
        kind, level = point.name.split("_")
        reached = point.sensitivity if kind == "sensitivity" else point.specificity
        assert reached.value >= int(level) / 100 - 1e-9
        # No other threshold that reaches the level has a better other rate.
        for threshold in np.r_[np.unique(score), 2.0]:
            sensitivity = (score[truth == 1] >= threshold).mean()
            specificity = (score[truth == 0] < threshold).mean()
            this, other = (sensitivity, specificity) if kind == "sensitivity" else (specificity, sensitivity)
            if this >= int(level) / 100 - 1e-9:
                best = point.specificity if kind == "sensitivity" else point.sensitivity
                assert other <= best.value + 1e-9
