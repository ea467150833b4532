"""Boxes to mask to grid: nothing of a lesion is lost, in numbers."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from liverattn.data.targets import boxes_of_map, boxes_to_mask, mask_to_grid

SIZE, GRID = (240, 345), (8, 11)
masks = hnp.arrays(np.uint8, st.tuples(st.integers(12, 50), st.integers(12, 50)), elements=st.integers(0, 1))
grids = st.tuples(st.integers(1, 12), st.integers(1, 12))


def squares(side: int, count: int = 400) -> list[NDArray[np.uint8]]:
    corners = np.random.default_rng(side).uniform(0, 1, (count, 2)) * (SIZE[1] - side, SIZE[0] - side)
    return [boxes_to_mask(np.array([[x, y, x + side, y + side]]).round(), SIZE) for x, y in corners]


def test_a_box_covers_the_pixels_whose_centers_it_holds() -> None:
    mask = boxes_to_mask(np.array([[0.6, 0, 3.4, 2.5], [3.4, 2.6, 4.6, 3.5]]), (4, 6))
    expected = [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.uint8


def test_overlaps_count_once_and_no_boxes_mean_zeros() -> None:
    assert boxes_to_mask(np.array([[0, 0, 3, 3], [1, 1, 4, 4]]), (5, 5)).sum() == 9 + 9 - 4
    assert not boxes_to_mask(np.zeros((0, 4)), (5, 5)).any()


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_thin_boxes_never_vanish(x: float, y: float, width: float, height: float) -> None:
    x0, y0 = x * 19, y * 9
    mask = boxes_to_mask(np.array([[x0, y0, min(x0 + width, 20), min(y0 + height, 10)]]), (10, 20))
    assert 1 <= mask.sum() <= 4


@given(masks, grids)
def test_area_keeps_the_mean(mask: NDArray[np.uint8], grid: tuple[int, int]) -> None:
    target = mask_to_grid(mask, grid)
    assert target.shape == grid
    assert target.dtype == np.float32
    assert target.min() >= 0
    assert target.max() <= 1
    assert target.mean(dtype=np.float64) == pytest.approx(mask.mean(), abs=1e-6)


@given(masks, grids)
def test_area_is_what_opencv_computes(mask: NDArray[np.uint8], grid: tuple[int, int]) -> None:
    reference = cv2.resize(mask.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(mask_to_grid(mask, grid), reference, atol=2e-6)


@given(masks, grids)
def test_any_marks_exactly_the_cells_with_some_area(mask: NDArray[np.uint8], grid: tuple[int, int]) -> None:
    touched = mask_to_grid(mask, grid, "any")
    np.testing.assert_array_equal(touched, mask_to_grid(mask, grid) > 0)
    assert touched.dtype == np.float32


def test_hand_computed_cells() -> None:
    mask = boxes_to_mask(np.array([[1, 0, 3, 2]]), (4, 6))  # cells of 2x3 pixels, then of 2x2.4
    np.testing.assert_allclose(mask_to_grid(mask, (2, 2)), [[2 / 3, 0], [0, 0]], rtol=1e-6)
    mask = boxes_to_mask(np.array([[0, 0, 4, 1]]), (2, 5))  # two cells of 2.5 pixels
    np.testing.assert_allclose(mask_to_grid(mask, (1, 2)), [[0.5, 0.3]], rtol=1e-6)
    np.testing.assert_array_equal(mask_to_grid(mask, (1, 2), "any"), [[1, 1]])
    np.testing.assert_array_equal(mask_to_grid(mask, (2, 1), "nearest"), [[1], [0]])


@pytest.mark.parametrize(("width", "cells", "edge"), [(345, 21, 115), (690, 21, 230), (480, 22, 240), (240, 22, 120)])
def test_a_box_that_ends_where_a_cell_does_touches_no_neighbor(width: int, cells: int, edge: int) -> None:
    # width / cells times a number of cells rounds to a little less or more than the whole pixel where a cell ends.
    next_cell = edge * cells // width
    left, right = (boxes_to_mask(np.array([box]), (8, width)) for box in ([0, 0, edge, 8], [edge, 0, width, 8]))
    expected = np.arange(cells) < next_cell
    np.testing.assert_array_equal(mask_to_grid(left, (1, cells), "any")[0], expected)
    np.testing.assert_array_equal(mask_to_grid(right, (1, cells), "any")[0], ~expected)


def test_a_full_mask_gives_ones_and_an_empty_one_zeros() -> None:
    np.testing.assert_allclose(mask_to_grid(np.ones(SIZE, np.uint8), GRID), 1, atol=1e-6)
    for reduction in ("area", "any", "nearest"):
        np.testing.assert_array_equal(mask_to_grid(np.zeros(SIZE, np.uint8), GRID, reduction), np.zeros(GRID))


@pytest.mark.parametrize(("side", "lost"), [(15, 0.79), (20, 0.61)])
def test_nearest_loses_most_small_lesions_and_area_none(side: int, lost: float) -> None:
    drawn = squares(side)
    nearest = np.mean([not mask_to_grid(mask, GRID, "nearest").any() for mask in drawn])
    assert nearest == pytest.approx(lost, abs=0.03)
    area = np.array([mask_to_grid(mask, GRID) for mask in drawn])
    np.testing.assert_allclose(area.sum(axis=(1, 2)) * (240 / 8) * (345 / 11), side**2, rtol=1e-4)
    assert area.max() < 0.5  # a threshold of one half would lose all of them
    assert all(mask_to_grid(mask, GRID, "any").any() for mask in drawn)


def test_unknown_reductions_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="`reduction` to be one of area, any, nearest, but got 'max'"):
        mask_to_grid(np.zeros(SIZE, np.uint8), GRID, "max")


def test_a_part_becomes_a_box_in_original_pixels() -> None:
    attention = np.zeros((4, 6), np.float32)
    attention[1, 2:4] = 1
    # 6x4 cells over 120x80 pixels from (10, -5): cells of 20. A value of 0.5 lies half a cell beyond the centers.
    assert boxes_of_map(attention, 0.5, (10, -5, 130, 75)).tolist() == [[50, 15, 90, 35]]


def test_parts_are_apart_and_the_largest_comes_first() -> None:
    attention = np.zeros((5, 9), np.float32)
    attention[1, 1], attention[2:4, 5:8] = 1, 1
    large, small = boxes_of_map(attention, 0.5, (0, 0, 90, 50)).tolist()
    assert small == [10, 10, 20, 20] and large == [50, 20, 80, 40]


@pytest.mark.parametrize("attention", [np.zeros((3, 4)), np.full((3, 4), 0.5)])
def test_nothing_above_the_threshold_is_no_box(attention: np.ndarray) -> None:
    assert boxes_of_map(attention.astype(np.float32), 0.5, (0, 0, 40, 30)).shape == (0, 4)


def test_slivers_are_left_out() -> None:
    attention = np.zeros((3, 3), np.float32)
    attention[1, 1] = 0.51  # exceeds 0.5 within a sample or two of the center only
    assert len(boxes_of_map(attention, 0.5, (0, 0, 30, 30))) == 0


@given(st.integers(0, 3), st.integers(0, 5), st.integers(-40, 40), st.integers(1, 20))
def test_boxes_follow_the_window(row: int, column: int, offset: int, scale: int) -> None:
    attention = np.zeros((4, 6), np.float32)
    attention[row, column] = 1
    plain = boxes_of_map(attention, 0.5, (0, 0, 60, 40))
    moved = boxes_of_map(attention, 0.5, (offset, -offset, offset + 60 * scale, 40 * scale - offset))
    np.testing.assert_allclose(moved, plain * scale + (offset, -offset, offset, -offset))
