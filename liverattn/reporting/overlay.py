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
KNOWN, PROPOSED = (255, 255, 0), (0, 230, 255)  # cyan and yellow, in OpenCV's order of channels
STRIP, NARROWEST = 26, 560  # pixels: height of the legend below the image, and the width that it needs
STRONGEST = 0.65  # opacity where the attention is 1
LEVELS = np.arange(256) / 255
OPACITY = (STRONGEST * np.sqrt(LEVELS)).astype(np.float32)
COLORS = (255 * colormaps["plasma"](LEVELS)[:, 2::-1]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Overlay:
    """An image with its map.

    Attributes:
        image: (H, W) uint8.
        attention: (H, W) in [0, 1], sigmoid(s).
        known: (N, 4) annotated lesions in its pixels; None where unknown.
        proposed: (N, 4) boxes that the map proposes.
    """

    image: NDArray[np.uint8]
    attention: NDArray[np.floating]
    known: Boxes | None
    proposed: Boxes


def draw_overlay(overlay: Overlay) -> NDArray[np.uint8]:
    """Color an image by its attention, with boxes, and a legend below.

    Returns:
        (H + 26, max(W, 560), 3) uint8 in OpenCV's order of channels; pixel (x, y) of the image stays at (x, y).
    """
    height, width = overlay.image.shape
    picture = np.full((height + STRIP, max(width, NARROWEST), 3), 255, np.uint8)
    level = np.rint(np.clip(overlay.attention, 0, 1) * 255).astype(np.uint8)
    opacity = OPACITY[level][..., None]
    blended = overlay.image[..., None] * (1 - opacity) + (COLORS * OPACITY[:, None])[level]
    picture[:height, :width] = np.rint(blended)
    for box in [] if overlay.known is None else overlay.known:
        cv2.rectangle(picture, *_corners(box), KNOWN, 1)
    for box in overlay.proposed:
        _draw_brackets(picture, *_corners(box))
    _draw_legend(picture[height:], annotated=overlay.known is not None)
    return picture


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
    bar = (COLORS * OPACITY[:, None] + 96 * (1 - OPACITY[:, None]))[None].repeat(12, axis=0)
    strip[7:19, 20:148] = cv2.resize(np.rint(bar).astype(np.uint8), (128, 12), interpolation=cv2.INTER_LINEAR)
    texts: Sequence[tuple[str, int]] = (("0", 8), ("1  attention", 152), (f"proposed   {RESEARCH_ONLY}", 372))
    for text, x in [*texts, *([("annotated", 272)] if annotated else [])]:
        cv2.putText(strip, text, (x, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    _draw_brackets(strip, (350, 7), (366, 18))
    if annotated:
        cv2.rectangle(strip, (250, 7), (266, 18), (160, 160, 0), 1)


def write_overlay(overlay: Overlay, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        InputError: The file cannot be written.
    """
    _write(draw_overlay(overlay), path, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])


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
    level = np.rint(cv2.resize(overlay.attention.astype(np.float32), grid, interpolation=cv2.INTER_AREA) * 255)
    places = np.clip(level, 0, 255).astype(np.uint8)
    colored = np.dstack([COLORS[places], 255 * OPACITY[places]])
    _write(np.rint(colored).astype(np.uint8), path.with_suffix(".png"), ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _write(picture: NDArray[np.uint8], path: Path, suffix: str, options: Sequence[int]) -> None:
    _, encoded = cv2.imencode(suffix, picture, list(options))
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
