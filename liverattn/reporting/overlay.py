"""Attention over the image that it belongs to, pixel by pixel, on one fixed scale (paper: Fig. 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from liverattn.files import replacing
from liverattn.reporting.figures import RESEARCH_ONLY

Boxes = NDArray[np.float64]
NONE: Boxes = np.zeros((0, 4))
KNOWN, PROPOSED = (255, 255, 0), (0, 230, 255)  # cyan and yellow, in OpenCV's order of channels
STRIP, NARROWEST = 26, 560  # pixels: height of the legend below the image, and the width that it needs
STRONGEST = 0.65  # opacity where the attention is 1
TILE_SIZE = (300, 250)  # width and height on a sheet
FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
LEVELS = np.arange(256) / 255
OPACITY = STRONGEST * np.sqrt(LEVELS)
COLORS = 255 * colormaps["plasma"](LEVELS)[:, 2::-1]
# What is left of the image at every level of attention, and what is added to it; tables, because pictures are many.
LEFT = np.rint(255 * (1 - OPACITY)).astype(np.uint8)
ADDED = np.rint(COLORS * OPACITY[:, None]).astype(np.uint8)[:, None]


@dataclass(frozen=True, eq=False)
class Overlay:
    """An image with its map.

    Attributes:
        image: (H, W) uint8.
        attention: Sigmoid(s) over the whole image, at any resolution, in [0, 1].
        known: (N, 4) annotated lesions in its pixels; None where unknown.
        proposed: (N, 4) boxes that the map proposes.
    """

    image: NDArray[np.uint8]
    attention: NDArray[np.floating]
    known: Boxes | None
    proposed: Boxes


@dataclass(frozen=True, eq=False)
class Tile:
    """An image on a sheet.

    Attributes:
        picture: Path without suffix, as :func:`write_thumbnail` takes it.
        caption: Above it.
        known: (N, 4) annotated lesions, as shares of its width and height.
        proposed: (N, 4) the same of the boxes that the map proposes.
    """

    picture: Path
    caption: str
    known: Boxes
    proposed: Boxes


def draw_overlay(overlay: Overlay) -> NDArray[np.uint8]:
    """Color an image by its attention, with boxes, and a legend below.

    Returns:
        (H + 26, max(W, 560), 3) uint8 in OpenCV's order of channels; pixel (x, y) of the image stays at (x, y).
    """
    height, width = overlay.image.shape
    picture = np.full((height + STRIP, max(width, NARROWEST), 3), 255, np.uint8)
    level = cv2.resize(_levels(overlay.attention), (width, height), interpolation=cv2.INTER_LINEAR)
    left = cv2.multiply(overlay.image, cv2.LUT(level, LEFT), scale=1 / 255)
    picture[:height, :width] = cv2.add(cv2.merge([left] * 3), cv2.LUT(cv2.merge([level] * 3), ADDED))
    _draw_boxes(picture, NONE if overlay.known is None else overlay.known, overlay.proposed)
    _draw_legend(picture[height:], annotated=overlay.known is not None)
    return picture


def _levels(attention: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(attention, 0, 1) * 255), dtype=np.uint8)


def _draw_boxes(picture: NDArray[np.uint8], known: Boxes, proposed: Boxes) -> None:
    for box in known:
        cv2.rectangle(picture, *_corners(box), KNOWN, 1)
    for box in proposed:
        _draw_brackets(picture, *_corners(box))


def _corners(box: NDArray[np.float64]) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, y0, x1, y1 = (int(edge) for edge in np.rint(box))
    return (x0, y0), (x1 - 1, y1 - 1)


def _draw_brackets(picture: NDArray[np.uint8], low: tuple[int, int], high: tuple[int, int]) -> None:
    """Corners only: a proposal is not to be taken for an annotation."""
    reach = max(3, round(0.25 * min(high[0] - low[0], high[1] - low[1])))
    for x, inward in ((low[0], reach), (high[0], -reach)):
        for y, down in ((low[1], reach), (high[1], -reach)):
            cv2.line(picture, (x, y), (x + inward, y), PROPOSED, 2)
            cv2.line(picture, (x, y), (x, y + down), PROPOSED, 2)


def _draw_legend(strip: NDArray[np.uint8], *, annotated: bool) -> None:
    strip[7:19, 20:148] = (COLORS * OPACITY[:, None] + 96 * (1 - OPACITY[:, None]))[::2]
    texts = [("0", 8), ("1  attention", 152), ("proposed", 372), (RESEARCH_ONLY, 452)]
    if annotated:
        cv2.rectangle(strip, (250, 7), (266, 18), (160, 160, 0), 1)
        texts.append(("annotated", 272))
    _draw_brackets(strip, (350, 7), (366, 18))
    for text, x in texts:
        cv2.putText(strip, text, (x, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def write_overlay(overlay: Overlay, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        InputError: The file cannot be written.
    """
    _write(draw_overlay(overlay), path, ".png", FAST_PNG)


def write_thumbnail(overlay: Overlay, path: Path, widest: int) -> None:
    """Write what a page lays over each other: a small image as ``PATH.jpg`` and its map alone as ``PATH.png``.

    Args:
        overlay: The image and its map; boxes are not drawn.
        path: Without suffix.
        widest: Width of the small image, pixels.

    Raises:
        InputError: A file cannot be written.
    """
    height, width = overlay.image.shape
    scale = min(1.0, widest / width, widest / height)
    small = cv2.resize(
        overlay.image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    _write(np.asarray(small, dtype=np.uint8), path.with_suffix(".jpg"), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 78])
    grid = (96, max(1, round(96 * height / width)))
    level = cv2.resize(_levels(overlay.attention), grid, interpolation=cv2.INTER_AREA)
    colored = np.dstack([COLORS[level], 255 * OPACITY[level]])
    _write(np.rint(colored).astype(np.uint8), path.with_suffix(".png"), ".png", [])


def write_sheet(tiles: Sequence[Tile], path: Path, columns: int = 4) -> None:
    """Put small images with their maps and boxes on one sheet, above the legend of the common scale.

    Args:
        tiles: One image or more.
        path: Of the PNG.
        columns: Images side by side.

    Raises:
        InputError: The file cannot be written.
    """
    drawn = [_tile(one) for one in tiles]
    drawn += [np.full_like(drawn[0], 255)] * (-len(drawn) % columns)
    sheet = cv2.vconcat([cv2.hconcat(drawn[k : k + columns]) for k in range(0, len(drawn), columns)])
    legend = np.full((STRIP, max(sheet.shape[1], NARROWEST), 3), 255, np.uint8)
    _draw_legend(legend, annotated=any(len(one.known) for one in tiles))
    _write(np.vstack([sheet, legend[:, : sheet.shape[1]]]), path, ".png", FAST_PNG)


def _tile(one: Tile) -> NDArray[np.uint8]:
    """A square-ish tile with the image in its middle, its map and boxes over it, and the caption above."""
    image = cv2.imread(str(one.picture.with_suffix(".jpg")), cv2.IMREAD_COLOR)
    layer = cv2.imread(str(one.picture.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
    assert image is not None and layer is not None
    layer = cv2.resize(layer, image.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
    opacity = layer[..., 3:] / 255
    blended = np.rint(image * (1 - opacity) + layer[..., :3] * opacity).astype(np.uint8)
    tile = np.full((TILE_SIZE[1], TILE_SIZE[0], 3), 255, np.uint8)
    scale = min((TILE_SIZE[0] - 8) / image.shape[1], (TILE_SIZE[1] - 28) / image.shape[0])
    small = np.asarray(cv2.resize(blended, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    size = [*small.shape[1::-1]] * 2
    _draw_boxes(small, one.known * size, one.proposed * size)
    left = (TILE_SIZE[0] - small.shape[1]) // 2
    tile[22 : 22 + small.shape[0], left : left + small.shape[1]] = small
    cv2.putText(tile, one.caption, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _write(picture: NDArray[np.uint8], path: Path, suffix: str, options: Sequence[int]) -> None:
    _, encoded = cv2.imencode(suffix, picture, list(options))
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
