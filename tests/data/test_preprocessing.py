"""Crop, Eq. 1, resize: exact properties, hand-computed geometry, and boxes that stay on their pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from liverattn.data.preprocessing import (
    Preprocessing,
    aspect_window,
    border_window,
    crop_borders,
    fit_aspect,
    intensity_factor,
    intensity_median,
    resize,
    take_window,
)
from liverattn.errors import InputError

NONE = np.zeros((0, 4))
ASPECT = 345 / 240


def field(height: int = 200, width: int = 300, level: int = 100) -> NDArray[np.uint8]:
    """Gray with a black border of 20 rows and 30 columns."""
    image = np.zeros((height, width), np.uint8)
    image[20:-20, 30:-30] = level
    return image


def boxed(*boxes: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def rescaled(image: NDArray[np.floating]) -> NDArray[np.floating]:
    return image * intensity_factor(image)


tissue = hnp.arrays(np.float64, (10, 4), elements=st.integers(11, 255).map(float))


@given(tissue, st.floats(1, 50))
def test_rescaling_does_not_see_a_common_factor(image: NDArray[np.float64], factor: float) -> None:
    np.testing.assert_allclose(rescaled(factor * image), rescaled(image), rtol=1e-12)


@given(tissue.map(lambda image: image + 60))  # no pixel falls to 10 or below: at most 315 / 71 apart
def test_rescaling_twice_is_rescaling_once_and_gives_70(image: NDArray[np.float64]) -> None:
    once = rescaled(image)
    assert intensity_median(once) == pytest.approx(70, rel=1e-12)
    np.testing.assert_allclose(rescaled(once), once, rtol=1e-12)


def test_the_factor_is_70_over_the_median_of_the_nonblack_top_fifth() -> None:
    image = np.full((10, 6), 200, np.uint8)
    image[:2] = [[0, 10, 11, 20, 30, 40], [50, 60, 70, 80, 90, 100]]  # 10 is black, 11 is not
    assert intensity_median(image) == 55  # of 11, 20, ..., 100
    assert intensity_factor(image) == pytest.approx(70 / 55)
    assert intensity_median(image[:, 2:]) == pytest.approx((40 + 70) / 2)


def test_a_fifth_of_the_rows_is_rounded_up() -> None:
    image = np.arange(20, 31, dtype=np.uint8)[:, None].repeat(4, axis=1)  # 11 rows: the topmost 3
    assert intensity_median(image) == 21


def test_brightest_region_is_the_other_reading() -> None:
    image = np.arange(1, 111, dtype=np.uint8).reshape(10, 11)  # 100 pixels exceed 10: the brightest are 91 to 110
    assert intensity_median(image, "brightest") == 100.5
    assert intensity_factor(image, "brightest") == pytest.approx(70 / 100.5)
    assert intensity_median(np.zeros((9, 9), np.uint8), "brightest") is None


def test_a_black_top_leaves_the_intensities() -> None:
    image = np.full((10, 8), 90, np.uint8)
    image[:2] = 10
    assert intensity_median(image) is None
    assert intensity_factor(image) == 1.0


def test_borders_are_cut_to_the_pixel() -> None:
    cropped, boxes = crop_borders(field(), boxed((40, 30, 60.5, 50)))
    np.testing.assert_array_equal(cropped, np.full((160, 240), 100))
    np.testing.assert_array_equal(boxes, [[10, 10, 30.5, 30]])


def test_text_and_noise_do_not_hold_the_border() -> None:
    image = field()
    image[5:8, 100:105] = 255  # a short word: 5 of 300 pixels in a row
    image[100:104, 3:20] = 255  # a scale bar: 4 of 200 pixels in a column
    noise = np.random.default_rng(0).integers(0, 11, image.shape).astype(np.uint8)
    assert border_window(np.maximum(image, noise), NONE) == (30, 20, 270, 180)


def test_a_row_counts_from_just_above_two_percent() -> None:
    image = field()
    image[3, 50:56] = 11  # 6 of 300 pixels are 2 %, not more
    assert border_window(image, NONE)[1] == 20
    image[3, 56] = 11
    assert border_window(image, NONE)[1] == 3


def test_gaps_inside_are_kept() -> None:
    image = field()
    image[60:140] = 0
    assert border_window(image, NONE) == (30, 20, 270, 180)


@given(
    st.lists(st.tuples(*[st.floats(0, 1) for _ in range(4)]), max_size=3),
    st.tuples(*[st.integers(0, 90) for _ in range(4)]),
)
def test_a_crop_never_cuts_a_box(corners: list[tuple[float, ...]], border: tuple[int, int, int, int]) -> None:
    height, width = 200, 300
    image = np.zeros((height, width), np.uint8)
    image[border[0] : height - border[1], border[2] : width - border[3]] = 100
    boxes = boxed(*corners)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    boxes = np.hstack([low * (width - 1, height - 1), high * (width - 1, height - 1) + 1])
    cropped, moved = crop_borders(image, boxes)
    np.testing.assert_allclose(moved[:, 2:] - moved[:, :2], boxes[:, 2:] - boxes[:, :2], rtol=0, atol=1e-9)
    assert (moved >= 0).all()
    assert (moved <= np.tile(cropped.shape[::-1], 2)).all()
    x0, y0, *_ = border_window(image, boxes)
    np.testing.assert_allclose(moved + np.array([x0, y0, x0, y0]), boxes, rtol=0, atol=1e-9)


def test_an_image_without_anything_bright_is_returned_whole() -> None:
    image = np.full((40, 50), 10, np.uint8)
    image[7, 7] = 255
    cropped, boxes = crop_borders(image, boxed((1, 2, 3, 4)))
    np.testing.assert_array_equal(cropped, image)
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("size", "mode", "window"),
    [
        ((100, 100), "pad", (-50, 0, 150, 100)),  # too narrow for 2: both sides alike
        ((300, 100), "pad", (0, 0, 300, 150)),  # too wide: below, the skin stays at the top
        ((200, 100), "pad", (0, 0, 200, 100)),
        ((100, 100), "crop", (0, 0, 100, 50)),
        ((300, 100), "crop", (50, 0, 250, 100)),
        ((200, 100), "crop", (0, 0, 200, 100)),
        ((300, 100), "stretch", (0, 0, 300, 100)),
    ],
)
def test_aspect_windows(size: tuple[int, int], mode: str, window: tuple[int, ...]) -> None:
    assert aspect_window(*size, 2.0, mode) == window


def test_padding_is_black_and_moves_the_boxes() -> None:
    image = np.full((100, 100), 50, np.uint8)
    padded, boxes = fit_aspect(image, boxed((10, 20, 30, 40)), 2.0)
    assert padded.shape == (100, 200)
    np.testing.assert_array_equal(padded.any(axis=0).nonzero()[0], np.arange(50, 150))
    np.testing.assert_array_equal(boxes, [[60, 20, 80, 40]])


def test_cropping_cuts_boxes_and_drops_those_outside() -> None:
    image = np.arange(30000, dtype=np.uint32).reshape(100, 300).astype(np.uint8)
    cut, boxes = fit_aspect(image, boxed((10, 20, 70, 40), (0, 0, 50, 9), (100, 5, 120, 9)), 2.0, "crop")
    np.testing.assert_array_equal(cut, image[:, 50:250])
    np.testing.assert_array_equal(boxes, [[0, 20, 20, 40], [50, 5, 70, 9]])


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from(["pad", "crop"]))
def test_windows_have_the_aspect_to_half_a_pixel(width: int, height: int, mode: str) -> None:
    x0, y0, x1, y1 = aspect_window(width, height, ASPECT, mode)
    assert min(x1 - x0, y1 - y0) >= 1
    assert abs((x1 - x0) - ASPECT * (y1 - y0)) <= max(0.5 * ASPECT, 0.5) + 1e-9 or min(x1 - x0, y1 - y0) == 1
    covers = x0 <= 0 and y0 <= 0 and x1 >= width and y1 >= height
    lies_inside = x0 >= 0 and y0 >= 0 and x1 <= max(width, 1) and y1 <= max(height, 1)
    assert covers if mode == "pad" else lies_inside


def test_windows_beyond_all_edges() -> None:
    out, _ = take_window(np.full((2, 3), 7, np.uint8), NONE, (-1, -2, 5, 3))
    expected = np.zeros((5, 6))
    expected[2:4, 1:4] = 7
    np.testing.assert_array_equal(out, expected)


def test_shrinking_averages_areas() -> None:
    image = np.array([[0, 100, 10, 30], [100, 200, 50, 70]], np.uint8)
    small, boxes = resize(image, boxed((1, 1, 3, 2)), 1, 2)
    np.testing.assert_array_equal(small, [[100, 40]])
    np.testing.assert_array_equal(boxes, [[0.5, 0.5, 1.5, 1]])


@pytest.mark.parametrize("size", [(240, 345), (480, 690)])
@pytest.mark.parametrize("aspect", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(600, 700), (300, 800), (120, 130)])
def test_boxes_stay_on_their_pixels(size: tuple[int, int], aspect: str, shape: tuple[int, int]) -> None:
    height, width = shape
    image = np.zeros(shape, np.uint8)
    image[10:-10, 15:-15] = 60
    box = (width // 2 - 20, 20, width // 2 + 30, 60)
    image[box[1] : box[3], box[0] : box[2]] = 250
    steps = Preprocessing(height=size[0], width=size[1], aspect=aspect)
    prepared = steps.apply(image, boxed(box))
    assert prepared.image.shape == size
    assert prepared.original == (width, height)
    bright = prepared.image > 155
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(prepared.boxes, [found], atol=1.01)


def test_the_window_is_the_part_of_the_original_that_is_shown() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((500, 600), np.uint8)
    image[50:460, 100:480] = rng.integers(40, 200, (410, 380))
    for aspect in ("pad", "crop"):
        prepared = Preprocessing(aspect=aspect).apply(image, NONE)
        shown, _ = take_window(image, NONE, prepared.window)
        np.testing.assert_array_equal(resize(shown, NONE, 240, 345)[0], prepared.image)
    assert prepared.window == (100, 50, 480, 50 + round(380 / ASPECT))
    assert Preprocessing().apply(image, NONE).window == (-5, 50, 584, 460)  # 410 x 1.4375 = 589 columns


def test_steps_can_be_switched_off_and_nothing_is_clipped() -> None:
    image = field(level=20)
    image[100:, 30:-30] = 240
    plain = Preprocessing(crop=False, intensity="off", aspect="stretch").apply(image, NONE)
    assert plain.window == (0, 0, 300, 200)
    assert (plain.factor, plain.median) == (1.0, None)
    prepared = Preprocessing().apply(image, NONE)
    assert (prepared.factor, prepared.median) == (3.5, 20.0)
    assert prepared.image.max() == 240  # the factor is not applied yet: 240 x 3.5 = 840 does not fit 8 bits
    assert Preprocessing(intensity="brightest").apply(image, NONE).median == 240


def test_a_black_top_is_told() -> None:
    image = field()
    image[20:60, 36:-36] = 0  # the sides hold the border
    prepared = Preprocessing().apply(image, NONE)
    assert prepared.median == 100
    image[20:60, 30:34] = image[20:60, -36:-30] = 10
    image[20:60, 34:36] = 0
    image[20, 30:40] = 11
    assert Preprocessing().apply(image, NONE).median == 11
    image[20, 30:40] = 0
    image[5, 40:60] = 10
    prepared = Preprocessing(crop=False).apply(image, NONE)
    assert (prepared.median, prepared.factor) == (None, 1.0)


def test_settings_name_what_pixels_depend_on() -> None:
    settings = Preprocessing().settings()
    assert settings == {"height": 240, "width": 345, "crop": True, "aspect": "pad", "intensity": "top"}
    assert Preprocessing(clip=True).settings() == settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aspect": "zoom"}, "data.preprocessing.aspect to be pad, crop or stretch, but got zoom"),
        ({"intensity": "mean"}, "data.preprocessing.intensity to be top, brightest or off, but got mean"),
        ({"height": 31}, "at least 32x32 pixels, but got 31x345"),
        ({"height": 60.5}, "data.preprocessing.height to be a whole number of at least 1, but got 60.5"),
        ({"width": "wide"}, "data.preprocessing.width to be a whole number of at least 1, but got wide"),
        ({"crop": "no"}, "data.preprocessing.crop to be true or false, but got no"),
        ({"clip": 1}, "data.preprocessing.clip to be true or false, but got 1"),
    ],
)
def test_illegal_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing(**options)
