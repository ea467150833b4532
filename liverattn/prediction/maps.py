"""Attention maps in the geometry of the original image: crop and padding undone exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.preprocessing import Window
from liverattn.data.targets import SMALLEST_PART, boxes_above

LARGEST_CANVAS = 320  # pixels of the longer side, where boxes are looked for: finer than any grid by far


@dataclass(frozen=True, eq=False)
class PlacedMap:
    """The attention of one architecture's networks, and where it lies.

    Attributes:
        attention: (h, w) float32, sigmoid(s), the mean over its networks: 0 to 1.
        window: The part of the original image that the grid covers; beyond the image's edges lies padding.
        weight: Share in the mean over architectures.
    """

    attention: NDArray[np.float32]
    window: Window
    weight: float


def place(maps: Sequence[PlacedMap], original: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """The weighted mean of maps over an original image.

    A cell's value holds at the cell's center; between centers it is interpolated linearly, beyond the outer ones it
    stays. Outside a map's window, in what was cropped away, its attention is 0.

    Args:
        maps: Of one image.
        original: (W, H) of the image, pixels.
        size: (height, width) of the result, which covers the whole image at any resolution.

    Returns:
        (height, width) float32 in [0, 1].
    """
    total: NDArray[Any] = np.zeros(size, np.float32)
    for one in maps:
        x0, y0, x1, y1 = one.window
        down = _interpolation(size[0], original[1], one.attention.shape[0], (y0, y1))
        across = _interpolation(size[1], original[0], one.attention.shape[1], (x0, x1))
        # Not numpy's product: for matrices this small its threads wait for cores that the networks use.
        rows = cv2.gemm(down, one.attention, one.weight, None, 0)  # type: ignore[call-overload]
        total = cv2.gemm(rows, across, 1, total, 1, flags=cv2.GEMM_2_T)
    return np.asarray(total, dtype=np.float32)


def canvas_size(original: tuple[int, int]) -> tuple[int, int]:
    """(height, width) at which nothing of a map is lost: that of the image (W, H), or less."""
    scale = min(1.0, LARGEST_CANVAS / max(original))
    return max(1, round(original[1] * scale)), max(1, round(original[0] * scale))


def _interpolation(pixels: int, length: int, cells: int, window: tuple[int, int]) -> NDArray[np.float32]:
    """(pixels, cells): the share of every cell in every pixel; rows sum to 1 inside the window, to 0 outside."""
    center = (np.arange(pixels) + 0.5) * length / pixels
    place = (center - window[0]) * cells / (window[1] - window[0]) - 0.5
    shares = np.maximum(0, 1 - np.abs(np.clip(place, 0, cells - 1)[:, None] - np.arange(cells)))
    inside = (center >= window[0]) & (center < window[1])
    return np.asarray(shares * inside[:, None], dtype=np.float32)


def proposals(
    maps: Sequence[PlacedMap], original: tuple[int, int], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes around the connected parts of an image's map above a threshold.

    Args:
        maps: Of one image.
        original: (W, H), pixels.
        threshold: Of sigmoid(s).

    Returns:
        (N, 4) ``x0, y0, x1, y1`` in whole pixels inside the image, the largest first, and (N,) the largest attention in
        each.
    """
    width, height = original
    size = canvas_size(original)
    canvas = place(maps, original, size)
    cell = min(
        (m.window[2] - m.window[0]) / m.attention.shape[1] * (m.window[3] - m.window[1]) / m.attention.shape[0]
        for m in maps
    )
    smallest = SMALLEST_PART * cell * size[0] * size[1] / (width * height)
    found = boxes_above(canvas, threshold, (0, 0, width, height), smallest)
    boxes = np.column_stack([np.floor(found[:, :2]), np.ceil(found[:, 2:])])
    boxes = np.clip(boxes, 0, (width, height, width, height))
    per_pixel = np.array([size[1] / width, size[0] / height] * 2)
    places = np.rint(found * per_pixel).astype(int)
    peaks = np.array([canvas[y0:y1, x0:x1].max() for x0, y0, x1, y1 in places], dtype=np.float64)
    return boxes, peaks
