"""Boxes to a mask, mask to the grid of a backbone (paper: "Supervised attention mechanism"), and maps back to boxes."""

from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.preprocessing import Window

Reduction = Literal["area", "any", "nearest"]
REDUCTIONS = ("area", "any", "nearest")
SMALLEST_PART = 0.25  # of a grid cell's area: less is the rim of a neighbor, not a find
SAMPLES = 16  # per cell and direction, so that a box does not have to end where a cell does


def boxes_to_mask(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Rasterize boxes: a pixel is 1 if its center lies in a box.

    Args:
        boxes: (N, 4) ``x0, y0, x1, y1``, half-open, pixels. A box too thin to hold a pixel center still marks the one
            nearest pixel row or column, so that no lesion vanishes.
        size: (H, W) of the mask.

    Returns:
        (H, W) uint8 with values 0 and 1.
    """
    mask = np.zeros(size, np.uint8)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        left, right = _covered(x0, x1, size[1])
        top, bottom = _covered(y0, y1, size[0])
        mask[top:bottom, left:right] = 1
    return mask


def _covered(start: float, stop: float, length: int) -> tuple[int, int]:
    # Pixel i has its center at i + 0.5.
    first, end = int(np.ceil(start - 0.5)), int(np.ceil(stop - 0.5))
    if end <= first:
        first = int(np.clip(np.floor((start + stop) / 2), 0, length - 1))
        end = first + 1
    return max(first, 0), min(end, length)


def mask_to_grid(mask: NDArray[np.uint8], grid: tuple[int, int], reduction: Reduction = "area") -> NDArray[np.float32]:
    """Reduce a mask to the cells of a feature map.

    The paper "reduced the size of this mask to match the output dimensions of the ResNet" without saying how. Area
    fractions lose no lesion: at 240x345 to 8x11, nearest loses 79 % of boxes of 15 pixels and 61 % of those of 20, and
    a threshold of 0.5 on the area loses all of both.

    Args:
        mask: (H, W) uint8, 0 or 1.
        grid: (h, w), rows and columns of the feature map; h <= H and w <= W.
        reduction: ``area``: the covered fraction of each cell, mean(target) = mean(mask); ``any``: 1 where a cell is
            touched; ``nearest``: the mask's value at the cell's sampling point.

    Returns:
        (h, w) float32 in [0, 1].

    Raises:
        ValueError: Unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"Expected `reduction` to be one of {', '.join(REDUCTIONS)}, but got {reduction!r}.")
    size = (grid[1], grid[0])
    if reduction == "nearest":
        return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.float32)
    # Only the rows and columns that hold a box: most masks are empty, and cv2.INTER_AREA takes ten times as long.
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return np.zeros(grid, np.float32)
    down = coverage(mask.shape[0], grid[0])[:, y : y + height]
    across = coverage(mask.shape[1], grid[1])[:, x : x + width]
    fractions: NDArray[np.float32] = np.minimum(
        down @ mask[y : y + height, x : x + width].astype(np.float32) @ across.T, 1, dtype=np.float32
    )
    return (fractions > 0).astype(np.float32) if reduction == "any" else fractions


def reducing(pixels: int, cells: int, reduction: Reduction) -> NDArray[np.float32]:
    """(cells, pixels): what :func:`mask_to_grid` multiplies a mask's rows, or columns, by.

    Args:
        pixels: Rows or columns of the mask.
        cells: Of the grid.
        reduction: ``any`` as ``area``: what is greater than 0 afterwards is touched.
    """
    if reduction != "nearest":
        return coverage(pixels, cells)
    sampled = np.arange(cells) * pixels // cells  # as cv2.INTER_NEAREST
    return np.asarray(np.arange(pixels) == sampled[:, None], dtype=np.float32)


@cache
def coverage(pixels: int, cells: int) -> NDArray[np.float32]:
    """(cells, pixels): the share of each cell that each pixel covers; rows sum to 1, columns to cells / pixels."""
    edges = np.arange(cells + 1) * pixels / cells  # in this order whole pixels are exact: no sliver of a neighbor
    pixel = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(overlap.clip(min=0) * (cells / pixels), dtype=np.float32)


def boxes_of_map(attention: NDArray[np.float32], threshold: float, window: Window) -> NDArray[np.float64]:
    """Bounding boxes of the connected parts of a grid's map above a threshold.

    The map is interpolated linearly between the centers of its cells.

    Args:
        attention: (h, w) in [0, 1].
        threshold: What exceeds it is part of a box.
        window: The part of the original image that the map covers (:class:`~liverattn.data.preprocessing.Window`).

    Returns:
        (N, 4) ``x0, y0, x1, y1`` in pixels of the original, possibly beyond its edges; the largest first.
    """
    size = (attention.shape[1] * SAMPLES, attention.shape[0] * SAMPLES)
    fine = np.asarray(cv2.resize(attention, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return boxes_above(fine, threshold, window, SMALLEST_PART * SAMPLES**2)


def boxes_above(fine: NDArray[np.floating], threshold: float, window: Window, smallest: float) -> NDArray[np.float64]:
    """Bounding boxes of the connected parts above a threshold of a map that needs no interpolation.

    Args:
        fine: (H, W).
        threshold: What exceeds it is part of a box.
        window: The part of the original image that the map covers.
        smallest: Area of a part, in pixels of the map.

    Returns:
        As :func:`boxes_of_map`.
    """
    _, _, parts, _ = cv2.connectedComponentsWithStats((fine > threshold).astype(np.uint8))
    parts = parts[1:]  # the first is what lies outside of all parts
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= smallest]
    parts = parts[np.argsort(-parts[:, cv2.CC_STAT_AREA], kind="stable")]
    x0, y0, x1, y1 = window
    edges = np.column_stack([parts[:, :2], parts[:, :2] + parts[:, 2:4]]).astype(np.float64)
    scale = np.array([(x1 - x0) / fine.shape[1], (y1 - y0) / fine.shape[0]] * 2)
    return np.asarray(edges * scale + (x0, y0, x0, y0), dtype=np.float64)
