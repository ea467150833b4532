"""Does the attention lie on vessels, which are most easily taken for cysts? Pure functions on arrays.

Shapes: n cases, h w grid, H W image, N boxes of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VesselAttention:
    """Attention on the vessels of n images.

    Attributes:
        hit: (n,) 1 if the center of the cell with the largest s lies in a vessel's box, else 0; NaN where all s are
            equal, so that the map points nowhere.
        share: (n,) of the image that vessels cover: the chance of a hit for a random point.
        elsewhere: (n,) share of the *other* images that have a vessel at that point: the chance of a hit for a map that
            knows where vessels tend to be (in the liver, at some depth) and looks at none; NaN for a single image.
        energy: (n,) share of the attention map on vessels.
    """

    hit: NDArray[np.float64]
    share: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    energy: NDArray[np.float64]


def vessel_attention(
    weights: NDArray[np.floating],
    scores: NDArray[np.floating],
    targets: NDArray[np.floating],
    boxes: Sequence[NDArray[np.float64]],
    size: tuple[int, int],
) -> VesselAttention:
    """Measure n images.

    Args:
        weights: (n, h, w) attention maps, each summing to 1.
        scores: (n, h, w) attention logits s.
        targets: (n, h, w) share of each cell that vessels cover.
        boxes: n arrays (N, 4) of vessels, pixels of the prepared image, half-open.
        size: (H, W) of the prepared images.

    Raises:
        ValueError: The shapes differ.
    """
    if not weights.shape == scores.shape == targets.shape or len(boxes) != len(scores):
        shapes = [weights.shape, scores.shape, targets.shape, (len(boxes),)]
        raise ValueError(f"Expected `weights`, `scores` and `targets` of one shape (n, h, w), but got {shapes}.")
    points = peak_points(scores, size)
    # on[i, j]: the point of image i lies on a vessel of image j
    on = np.array([inside(points, of_one) for of_one in boxes], dtype=np.float64).reshape(len(boxes), len(points)).T
    on[np.isnan(points).any(axis=1)] = np.nan
    hit = np.diagonal(on).copy()
    others = len(on) - 1
    return VesselAttention(
        hit=hit,
        share=targets.mean(axis=(1, 2), dtype=np.float64),
        elsewhere=(on.sum(axis=1) - hit) / others if others > 0 else np.full(len(on), np.nan),
        energy=(weights * targets).sum(axis=(1, 2), dtype=np.float64),
    )


def peak_points(scores: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float64]:
    """Centers of the cells with the largest s.

    Args:
        scores: (n, h, w).
        size: (H, W) of the images.

    Returns:
        (n, 2) x and y in pixels; NaN where all s of an image are equal.
    """
    count, height, width = scores.shape
    flat = scores.reshape(count, -1)
    row, column = np.unravel_index(flat.argmax(axis=1), (height, width))
    points = np.column_stack([(column + 0.5) * size[1] / width, (row + 0.5) * size[0] / height])
    points[np.ptp(flat, axis=1) == 0] = np.nan
    return points


def inside(points: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(P,) whether points (P, 2) lie in any of the boxes (N, 4), half-open; NaN lies nowhere."""
    x, y = points[:, :1], points[:, 1:]
    within = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    return np.asarray(within.any(axis=1))
