"""Overlays show the image where it is and the map where it lies."""

from pathlib import Path

import cv2
import numpy as np

from liverattn.reporting.overlay import (
    COLORS,
    KNOWN,
    OPACITY,
    STRIP,
    TILE_SIZE,
    Overlay,
    Tile,
    draw_overlay,
    write_sheet,
    write_thumbnail,
)

NONE = np.zeros((0, 4))


def test_without_attention_the_image_stays_grey() -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 700), dtype=np.uint8)
    picture = draw_overlay(Overlay(image, np.zeros((60, 700)), None, NONE))
    np.testing.assert_array_equal(picture[:60, :700], np.dstack([image] * 3))
    assert picture.shape == (60 + STRIP, 700, 3)


def test_colors_by_hand_on_a_fixed_scale() -> None:
    """One bright pixel elsewhere does not change the color of this one."""
    attention = np.zeros((40, 600))
    attention[10, 20] = 0.4
    alone = draw_overlay(Overlay(np.full((40, 600), 100, np.uint8), attention, None, NONE))[10, 20]
    attention[30, 30] = 1
    beside = draw_overlay(Overlay(np.full((40, 600), 100, np.uint8), attention, None, NONE))[10, 20]
    np.testing.assert_array_equal(alone, beside)
    level = round(0.4 * 255)
    expected = 100 * (1 - OPACITY[level]) + COLORS[level] * OPACITY[level]
    np.testing.assert_allclose(alone, expected, atol=1.01)  # two tables are rounded


def test_boxes_lie_on_their_pixels() -> None:
    image = np.zeros((50, 600), np.uint8)
    picture = draw_overlay(
        Overlay(image, np.zeros((50, 600)), np.array([[10, 5, 30, 25]]), np.array([[40, 8, 80, 40]]))
    )
    assert tuple(picture[5, 10]) == tuple(picture[24, 29]) == KNOWN
    assert not picture[4, 10].any() and not picture[25, 29].any()
    assert picture[8, 40].any() and picture[39, 79].any()
    assert not picture[8, 60].any()  # corners only


def test_a_narrow_image_keeps_its_place_and_gets_a_whole_legend() -> None:
    picture = draw_overlay(Overlay(np.full((30, 40), 7, np.uint8), np.zeros((30, 40)), None, NONE))
    assert picture.shape[1] == 560
    assert (picture[:30, :40] == 7).all() and (picture[:30, 40:] == 255).all()


def test_thumbnails(tmp_path: Path) -> None:
    attention = np.zeros((300, 400), np.float32)
    attention[100:200, 200:300] = 1
    write_thumbnail(Overlay(np.full((300, 400), 90, np.uint8), attention, None, NONE), tmp_path / "000001", 200)
    assert cv2.imread(str(tmp_path / "000001.jpg")).shape == (150, 200, 3)
    layer = cv2.imread(str(tmp_path / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert layer.shape == (72, 96, 4)
    assert layer[36, 60, 3] == round(255 * 0.65) and layer[5, 5, 3] == 0


def test_a_sheet(tmp_path: Path) -> None:
    for number, shape in enumerate([(120, 200), (300, 100), (90, 90)]):
        attention = np.zeros(shape, np.float32)
        write_thumbnail(Overlay(np.full(shape, 90, np.uint8), attention, None, NONE), tmp_path / str(number), 360)
    boxes = np.array([[0.25, 0.25, 0.75, 0.75]])
    tiles = [Tile(tmp_path / str(number), f"#{number}", boxes if number == 0 else NONE, NONE) for number in range(3)]
    write_sheet(tiles, tmp_path / "sheet.png", columns=2)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * TILE_SIZE[1] + STRIP, 2 * TILE_SIZE[0], 3)
    middle = sheet[TILE_SIZE[1] // 2, TILE_SIZE[0] // 2]
    assert abs(int(middle[0]) - 90) <= 2  # the first image, in the middle of its tile
    column = 4 + 292 // 4  # 292 x 175 pixels of the first image
    assert tuple(sheet[22 + 175 // 2, column]) == KNOWN and tuple(sheet[22 + 175 // 8, column]) != KNOWN
    assert (sheet[TILE_SIZE[1] + 100 : TILE_SIZE[1] + 140, TILE_SIZE[0] + 20 : -20] == 255).all()  # no fourth one
