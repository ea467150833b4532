"""Attention quality: every measure by hand on a 2x3 grid, uniform maps, edges, ranges."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from liverattn.evaluation.localization import (
    ON_LESIONS,
    attention_quality,
    center_prior,
    normalized_entropy,
    points_into_box,
)

Float = NDArray[np.float64]
SIZE = (20, 30)  # two rows and three columns of cells of 10 x 10 pixels
# The box fills cell (0, 1), and half of cell (0, 2).
BOXES = np.array([[10.0, 0.0, 25.0, 10.0]])
TARGET = np.array([[0, 1, 0.5], [0, 0, 0]])


def weights_of(scores: Float) -> Float:
    p: Float = 1 / (1 + np.exp(-scores))
    return p / p.sum()


def test_every_measure_by_hand() -> None:
    weights = np.array([[0.1, 0.4, 0.2], [0.1, 0.1, 0.1]])
    ln3 = math.log(3)
    scores = np.array([[ln3, 2 * ln3, -ln3], [-2 * ln3, -3 * ln3, -4 * ln3]])  # p = 3/4, 9/10, 1/4, ...
    quality = attention_quality(weights, scores, TARGET, BOXES, SIZE)
    assert quality.energy == pytest.approx(0.4 + 0.5 * 0.2)
    assert quality.chance == pytest.approx(1.5 / 6)
    assert quality.lift == pytest.approx(0.5 / 0.25)
    assert quality.pointing == 1
    # Cells by s: (0, 1) touched, (0, 0) not, (0, 2) touched: precision 1 at the first, 2/3 at the second.
    assert quality.average_precision == pytest.approx((1 + 2 / 3) / 2)
    # Cells (0, 0) and (0, 1) have p >= 1/2: 1 cell of area in common, 2 + 1.5 - 1 in the union.
    assert quality.iou == pytest.approx(1 / 2.5)
    assert quality.peak == pytest.approx(0.9)
    nats = -(0.4 * math.log(0.4) + 0.2 * math.log(0.2) + 4 * 0.1 * math.log(0.1))
    assert quality.entropy == pytest.approx(nats / math.log(6))


def test_a_uniform_map_is_what_plain_averaging_gets() -> None:
    for kind in (np.float32, np.float64):
        quality = attention_quality(np.full((2, 3), 1 / 6, kind), np.zeros((2, 3), kind), TARGET, BOXES, SIZE)
        assert quality.lift == pytest.approx(1, abs=1e-6)
        assert quality.energy == pytest.approx(quality.chance, abs=1e-6)
        assert quality.entropy == pytest.approx(1, abs=1e-6)
        assert quality.entropy <= 1
        assert quality.peak == 0.5
        assert quality.average_precision == pytest.approx(2 / 6)  # the share of touched cells
        assert quality.iou == pytest.approx(1.5 / 6)  # every cell is called, at p = 1/2
        assert math.isnan(quality.pointing)  # there is no peak


def test_all_attention_on_the_lesion() -> None:
    weights = np.array([[0.0, 1, 0], [0, 0, 0]])
    scores = np.array([[-900.0, 900, 800], [-800, -900, -950]])  # beyond what a plain exponential bears
    quality = attention_quality(weights, scores, TARGET, BOXES, SIZE)
    assert (quality.energy, quality.lift, quality.pointing) == (1, pytest.approx(4), 1)
    assert (quality.average_precision, quality.peak) == (pytest.approx(1), 1)
    assert quality.iou == pytest.approx(1.5 / 2)
    assert quality.entropy == 0
    assert math.copysign(1, quality.entropy) == 1  # not printed as -0.000


@pytest.mark.parametrize("boxes", [None, np.zeros((0, 4))])
def test_without_a_box_only_peak_and_entropy_are_defined(boxes: Float | None) -> None:
    scores = np.array([[1.0, 0, 0], [0, 0, -1]])
    target = None if boxes is None else np.zeros((2, 3))
    quality = asdict(attention_quality(weights_of(scores), scores, target, boxes, SIZE))
    assert {name for name, value in quality.items() if math.isnan(value)} == set(ON_LESIONS)
    assert quality["peak"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert quality["entropy"] == pytest.approx(normalized_entropy(weights_of(scores)))


def test_a_box_that_left_the_image_counts_as_none() -> None:
    scores = np.array([[1.0, 0, 0], [0, 0, -1]])
    quality = attention_quality(weights_of(scores), scores, np.zeros((2, 3)), BOXES + 100, SIZE)
    assert math.isnan(quality.lift)
    assert quality.peak > 0.5


def test_the_pointing_game_looks_at_cell_centers() -> None:
    scores = np.zeros((2, 3))
    scores[1, 2] = 1  # center at x = 25, y = 15
    for box, inside in (
        ([25, 15, 26, 16], True),
        ([24, 14, 25, 16], False),  # half-open: the right edge is outside
        ([24, 14, 26, 15], False),
        ([20, 10, 30, 20], True),
        ([0, 0, 10, 10], False),
    ):
        assert points_into_box(scores, np.array([box], dtype=float), SIZE) is inside
    assert points_into_box(scores, np.array([[0.0, 0, 5, 5], [20, 10, 30, 20]]), SIZE)  # any of several
    assert not points_into_box(scores, np.zeros((0, 4)), SIZE)
    assert not points_into_box(scores.T, np.array([[24.0, 14, 26, 16]]), SIZE)  # rows are not columns


def test_entropy() -> None:
    assert normalized_entropy(np.full((8, 11), 1 / 88)) == pytest.approx(1)
    assert normalized_entropy(np.eye(1, 6)) == 0
    assert normalized_entropy(np.array([[0.5, 0.5, 0, 0]])) == pytest.approx(math.log(2) / math.log(4))
    assert normalized_entropy(np.ones((1, 1))) == 0
    even, uneven = np.array([[0.3, 0.3, 0.4]]), np.array([[0.1, 0.1, 0.8]])
    assert normalized_entropy(even) > normalized_entropy(uneven)


@given(st.integers(0, 100_000), st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_ranges_and_independent_references(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    scores = spread * random.standard_normal((4, 5))
    weights = weights_of(scores)
    target = np.where(random.random((4, 5)) < 0.3, random.random((4, 5)), 0)
    target[1, 1] = 1
    quality = attention_quality(weights, scores, target, np.array([[6.0, 5, 12, 10]]), (20, 30))
    values = asdict(quality)
    assert all(-1e-12 <= value <= 1 + 1e-12 for name, value in values.items() if name != "lift")
    assert quality.energy == pytest.approx(sum(weights[i, j] * target[i, j] for i in range(4) for j in range(5)))
    assert quality.lift == pytest.approx(quality.energy / target.mean())
    touched = target.ravel()[np.argsort(-scores.ravel())] > 0
    precision = np.cumsum(touched) / np.arange(1, 21)
    assert quality.average_precision == pytest.approx(precision[touched].mean())
    called = (scores >= 0).astype(float)
    expected = np.minimum(called, target).sum() / np.maximum(called, target).sum()  # of a 0/1 mask and fractions
    assert quality.iou == pytest.approx(expected)


def test_attention_that_moves_into_the_box_raises_every_measure() -> None:
    outside = np.array([[-2.0, -3, -4], [3, -4, -5]])
    inside = np.array([[-2.0, 3, -1], [-3, -4, -5]])
    worse, better = (asdict(attention_quality(weights_of(s), s, TARGET, BOXES, SIZE)) for s in (outside, inside))
    for name in ("energy", "lift", "pointing", "average_precision", "iou"):
        assert better[name] > worse[name], name
    assert better["chance"] == worse["chance"]


def test_illegal_input_is_refused() -> None:
    scores = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"one shape \(h, w\), but got \[\(2, 3\), \(2, 3\), \(1, 3\)\]"):
        attention_quality(weights_of(scores), scores, np.zeros((1, 3)), BOXES, SIZE)  # would broadcast
    with pytest.raises(ValueError, match=r"one shape"):
        attention_quality(weights_of(scores)[:1], scores, TARGET, BOXES, SIZE)
    with pytest.raises(ValueError, match="finite `scores`, but got nan"):
        attention_quality(weights_of(scores), scores + math.nan, TARGET, BOXES, SIZE)


def test_the_center_prior_is_the_mean_of_the_training_targets() -> None:
    targets = [np.array([[1.0, 0.5], [0, 0]]), np.zeros((2, 2)), np.array([[1.0, 0], [0, 0.5]])]
    center = center_prior(iter(targets))
    assert center is not None
    weights, scores = center
    np.testing.assert_allclose(weights, np.array([[1.0, 0.25], [0, 0.25]]) / 1.5)
    assert scores[0, 1] == pytest.approx(math.log(0.25 / 0.75)) == scores[1, 1]
    assert np.isfinite(scores).all() and scores.argmax() == 0 and scores.argmin() == 2
    # On the mean target itself no other fixed map has more energy than its peak; on each it is a plain weighted sum.
    quality = attention_quality(weights, scores, np.array([[1.0, 0.5], [0, 0]]), np.array([[0.0, 0, 20, 15]]), (30, 40))
    assert quality.energy == pytest.approx((1.0 + 0.25 * 0.5) / 1.5) and quality.pointing == 1


@pytest.mark.parametrize("targets", [[], [np.zeros((2, 3))]])
def test_without_boxes_there_is_no_center_prior(targets: list[np.ndarray]) -> None:
    assert center_prior(targets) is None
