"""Attention of several networks on one grid. Pure functions on arrays.

A map is taken as what it is, constant within each cell, so nothing is invented between cells and no attention is lost.
A *window* is the part ``x0, y0, x1, y1`` of the original image that a network saw, pixels of the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.floating]
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Attention:
    """Attention of one network on one image.

    Attributes:
        weights: (h, w) attention map, summing to 1.
        scores: (h, w) attention logits s.
        window: What the grid covers.
        share: Of this network in the mean, > 0.
    """

    weights: Grid
    scores: Grid
    window: Window
    share: float


def mean_attention(
    parts: Sequence[Attention], grid: tuple[int, int], window: Window
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weighted mean of attention maps, and of sigmoid(s).

    Args:
        parts: At least one.
        grid: (h, w) of the result.
        window: Of the result; a part that does not reach there has no attention there.

    Returns:
        (h, w) map summing to 1, and (h, w) logits of the mean of sigmoid(s).
    """
    total = sum(part.share for part in parts)
    density, positive, negative = (np.zeros(grid) for _ in range(3))
    for part in parts:
        share = part.share / total
        clipped = np.clip(part.scores.astype(np.float64), -500, 500)
        density += share * regridded(part.weights / _cell_area(part), part.window, grid, window)
        positive += share * regridded(1 / (1 + np.exp(-clipped)), part.window, grid, window)
        # Summed by itself: where s is large, 1 - p is 0 and its logit infinite.
        negative += share * regridded(1 / (1 + np.exp(clipped)), part.window, grid, window)
        beyond = 1 - regridded(np.ones_like(clipped), part.window, grid, window)
        negative += share * np.where(beyond > 1e-9, beyond, 0)
    tiny = np.finfo(np.float64).tiny
    return density / density.sum(), np.log(np.maximum(positive, tiny)) - np.log(np.maximum(negative, tiny))


def _cell_area(part: Attention) -> float:
    x0, y0, x1, y1 = part.window
    return (x1 - x0) * (y1 - y0) / part.weights.size


def regridded(values: Grid, window: Window, grid: tuple[int, int], target: Window) -> NDArray[np.float64]:
    """Mean value over each cell of another grid; 0 outside of the first one's window.

    Args:
        values: (h, w).
        window: That they cover.
        grid: (h', w') of the result.
        target: Window that the result covers.
    """
    if values.shape == grid and window == target:
        return values.astype(np.float64)
    down = _overlap(window[1], window[3], values.shape[0], target[1], target[3], grid[0])
    across = _overlap(window[0], window[2], values.shape[1], target[0], target[2], grid[1])
    return np.asarray(down @ values.astype(np.float64) @ across.T)


def _overlap(start: float, stop: float, cells: int, new_start: float, new_stop: float, new: int) -> Grid:
    """(new, cells): the share of each new cell that each old cell covers."""
    old_edges, edges = np.linspace(start, stop, cells + 1), np.linspace(new_start, new_stop, new + 1)
    shared = np.minimum(edges[1:, None], old_edges[1:]) - np.maximum(edges[:-1, None], old_edges[:-1])
    return np.asarray(shared.clip(min=0) * (new / (new_stop - new_start)))
