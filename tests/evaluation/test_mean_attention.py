"""Maps of several networks on one grid: nothing is lost, nothing is invented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from liverattn.evaluation.mean_attention import Attention, mean_attention, regridded

WINDOW = (0.0, 0.0, 60.0, 40.0)


def attention(seed: int, shape: tuple[int, int], window: tuple[float, ...] = WINDOW, share: float = 1.0) -> Attention:
    random = np.random.default_rng(seed)
    weights = random.uniform(size=shape)
    return Attention(weights / weights.sum(), random.normal(0, 3, shape), window, share)  # type: ignore[arg-type]


def test_by_hand() -> None:
    values = np.array([[1.0, 3.0]])
    np.testing.assert_allclose(regridded(values, (0, 0, 2, 1), (1, 4), (0, 0, 2, 1)), [[1, 1, 3, 3]])
    np.testing.assert_allclose(regridded(values, (0, 0, 2, 1), (2, 1), (0, 0, 2, 1)), [[2], [2]])
    # Cells of 3/4 pixel, each within one of the old cells.
    found = regridded(values, (0, 0, 2, 1), (1, 2), (0.25, 0, 1.75, 1))
    np.testing.assert_allclose(found, [[1, 3]])
    np.testing.assert_allclose(regridded(values, (0, 0, 2, 1), (1, 2), (0, 0, 4, 1)), [[2, 0]])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_the_mean_over_the_image_stays(h: int, w: int, new_h: int, new_w: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(h, w))
    found = regridded(values, WINDOW, (new_h, new_w), WINDOW)
    assert found.shape == (new_h, new_w)
    assert found.mean() == pytest.approx(values.mean(), abs=1e-12)


def test_one_network_is_left_as_it_is() -> None:
    part = attention(0, (3, 5), share=0.3)
    part.scores[0, 0], part.scores[0, 1] = 90, -300  # sigmoid is 1, and nearly 0
    weights, scores = mean_attention([part], (3, 5), WINDOW)
    np.testing.assert_allclose(weights, part.weights, rtol=1e-12)
    np.testing.assert_allclose(scores, part.scores, rtol=1e-12)


def test_the_mean_of_two_networks_on_one_grid() -> None:
    first, second = attention(1, (3, 5), share=1), attention(2, (3, 5), share=3)
    weights, scores = mean_attention([first, second], (3, 5), WINDOW)
    np.testing.assert_allclose(weights, 0.25 * first.weights + 0.75 * second.weights, rtol=1e-12)
    np.testing.assert_allclose(expit(scores), 0.25 * expit(first.scores) + 0.75 * expit(second.scores), rtol=1e-12)


@pytest.mark.parametrize("grid", [(3, 5), (6, 10), (7, 9)])
def test_maps_of_other_grids_sum_to_one_and_count_by_share(grid: tuple[int, int]) -> None:
    first, second = attention(1, (3, 5), share=1), attention(2, (2, 4), share=1)
    weights, scores = mean_attention([first, second], grid, WINDOW)
    assert weights.sum() == pytest.approx(1)
    assert expit(scores).mean() == pytest.approx((expit(first.scores).mean() + expit(second.scores).mean()) / 2)


def test_what_a_network_did_not_see_it_does_not_attend_to() -> None:
    left = attention(1, (2, 2), (0.0, 0.0, 30.0, 40.0))
    weights, scores = mean_attention([left], (2, 4), WINDOW)
    np.testing.assert_allclose(weights[:, :2], left.weights)
    assert (weights[:, 2:] == 0).all()
    np.testing.assert_allclose(scores[:, :2], left.scores, rtol=1e-9)
    assert (scores[:, 2:] < -500).all() and np.isfinite(scores).all()


def test_networks_that_saw_other_parts_count_alike() -> None:
    left, whole = attention(1, (2, 2), (0.0, 0.0, 30.0, 40.0)), attention(2, (2, 4))
    weights, _ = mean_attention([left, whole], (2, 4), WINDOW)
    np.testing.assert_allclose(weights[:, 2:], whole.weights[:, 2:] / 2)
    np.testing.assert_allclose(weights[:, :2], (left.weights + whole.weights[:, :2]) / 2)
