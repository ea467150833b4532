"""A point in the map is the point in the original image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.data.preprocessing import Preprocessing
from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.prediction.maps import PlacedMap, place, proposals


def test_one_cell_by_hand() -> None:
    """2x2 cells over 40x20 pixels from (10, 0): centers at x 20 and 40, y 5 and 15."""
    attention = np.array([[0, 1], [0, 0]], np.float32)
    found = place([PlacedMap(attention, (10, 0, 50, 20), 1.0)], (60, 20), (20, 60))
    assert found[5, 45] == pytest.approx(1 - 0.05, abs=1e-6)  # pixel center y 5.5: a twentieth of the way down
    assert found[0, 49] == pytest.approx(1)
    assert found[4, 29] == pytest.approx(0.475)  # x 29.5 between 20 and 40
    assert (found[:, :10] == 0).all() and (found[:, 50:] == 0).all()  # cropped away
    assert found[9, 45] == pytest.approx(0.55)


def test_maps_of_other_grids_and_windows_meet_where_they_lie() -> None:
    """A linear ramp in the original is the same ramp on every grid and window, away from the rims."""
    maps = []
    for (rows, columns), window in (((8, 12), (0, 0, 120, 80)), ((4, 6), (0, 0, 120, 80)), ((8, 10), (20, 0, 120, 80))):
        x0, _, x1, _ = window
        centers = x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns
        maps.append(PlacedMap(np.tile(centers / 120, (rows, 1)).astype(np.float32), window, 1 / 3))
    found = place(maps, (120, 80), (80, 120))
    expected = (np.arange(120) + 0.5) / 120
    np.testing.assert_allclose(found[40, 30:110], expected[30:110], atol=1e-5)


def test_any_resolution_shows_the_same_place() -> None:
    attention = np.zeros((8, 11), np.float32)
    attention[2, 7] = 1
    one = PlacedMap(attention, (-12, 30, 400, 330), 1.0)
    for size in ((360, 420), (90, 105), (720, 840)):
        found = place([one], (420, 360), size)
        y, x = np.unravel_index(found.argmax(), found.shape)
        assert ((x + 0.5) * 420 / size[1], (y + 0.5) * 360 / size[0]) == pytest.approx(
            (-12 + 7.5 * 412 / 11, 30 + 2.5 * 300 / 8), abs=420 / size[1]
        )


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(0, 40), st.integers(0, 40),
    st.sampled_from(["pad", "crop", "stretch"]), st.integers(0, 10_000),
)  # fmt: skip
def test_a_synthetic_lesion_comes_back_where_it_is(
    left: int, right: int, top: int, bottom: int, aspect: str, seed: int
) -> None:
    """Through crop, aspect and resize to the grid of its box, and back: the map's center of mass is the lesion's."""
    random = np.random.default_rng(seed)
    width, height = 260, 200
    image = np.zeros((height + top + bottom, width + left + right), np.uint8)
    image[top : top + height, left : left + width] = 80
    x0, y0 = random.integers(60, 150), random.integers(50, 110)
    box = np.array([[left + x0, top + y0, left + x0 + 50, top + y0 + 40]], np.float64)
    prepared = Preprocessing(height=240, width=345, aspect=aspect).apply(image, box)  # type: ignore[arg-type]
    target = mask_to_grid(boxes_to_mask(prepared.boxes, (240, 345)), (15, 22))
    one = PlacedMap(target, prepared.window, 1.0)
    found = place([one], (image.shape[1], image.shape[0]), (image.shape[0], image.shape[1]))
    y, x = np.indices(found.shape) + 0.5
    total = found.sum()
    # Cells are 12 to 17 pixels; interpolation and rounding of the window leave about a pixel.
    assert (found * x).sum() / total == pytest.approx(left + x0 + 25, abs=1.5)
    assert (found * y).sum() / total == pytest.approx(top + y0 + 20, abs=1.5)
    boxes, peaks = proposals([one], (image.shape[1], image.shape[0]), 0.5)
    assert len(boxes) == 1 and peaks[0] == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(boxes[0], box[0], atol=9)


def test_proposals_stay_inside_and_are_whole() -> None:
    attention = np.zeros((4, 5), np.float32)
    attention[0, 0] = attention[3, 4] = 0.9
    boxes, peaks = proposals([PlacedMap(attention, (-40, -30, 160, 130), 1.0)], (120, 100), 0.5)
    assert (boxes == np.rint(boxes)).all()
    assert (boxes >= 0).all() and (boxes <= [120, 100, 120, 100]).all()
    assert len(boxes) == len(peaks)
    assert len(proposals([PlacedMap(attention, (0, 0, 100, 80), 0.5)], (100, 80), 0.5)[0]) == 0


def test_a_box_at_the_edge_of_a_tiny_canvas() -> None:
    attention = np.ones((1, 1), np.float32)
    boxes, peaks = proposals([PlacedMap(attention, (0, 0, 4000, 30), 1.0)], (4000, 30), 0.5)
    np.testing.assert_array_equal(boxes, [[0, 0, 4000, 30]])
    assert peaks[0] == pytest.approx(1)
