"""Attention quality (SPEC: explanation): does the attention lie on the lesion? Pure functions of one case.

Shapes: h w grid, H W image. ``target`` is the covered fraction of each cell, so every measure of area is exact.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Grid = NDArray[np.floating]
# The measures that need a lesion and its boxes.
ON_LESIONS = ("energy", "lift", "pointing", "chance", "average_precision", "iou")


@dataclass(frozen=True)
class AttentionQuality:
    """Attention quality of one case; NaN where a measure does not apply.

    Attributes:
        energy: Share of the attention map inside the boxes (lesion images).
        lift: energy / mean(target): how many times more than plain averaging gets (lesion images).
        pointing: 1 if the center of the cell with the largest s lies in a box, else 0 (lesion images); NaN where all s
            are equal, so that the map points nowhere.
        chance: Share of the image that the boxes cover: the pointing rate of a random point (lesion images).
        average_precision: Of sigmoid(s) over the cells, positive where a box touches (lesion images).
        iou: Of {sigmoid(s) >= 0.5} and the boxes, by area (lesion images).
        peak: max sigmoid(s): a second detection score (all images).
        entropy: Of the attention map over log(number of cells): 1 is diffuse, 0 one cell (all images).
    """

    energy: float
    lift: float
    pointing: float
    chance: float
    average_precision: float
    iou: float
    peak: float
    entropy: float


def attention_quality(
    weights: Grid, scores: Grid, target: Grid | None, boxes: NDArray[np.float64] | None, size: tuple[int, int]
) -> AttentionQuality:
    """Measure one case.

    Args:
        weights: (h, w) attention map, summing to 1.
        scores: (h, w) attention logits s.
        target: (h, w) covered fractions; None where boxes are unknown.
        boxes: (N, 4) in pixels of the prepared image; None where unknown.
        size: (H, W) of the prepared image.

    Raises:
        ValueError: The grids differ, or an attention logit is not finite.
    """
    if weights.shape != scores.shape or (target is not None and target.shape != scores.shape):
        shapes = [None if grid is None else grid.shape for grid in (weights, scores, target)]
        raise ValueError(f"Expected `weights`, `scores` and `target` of one shape (h, w), but got {shapes}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"Expected finite `scores`, but got {scores[~np.isfinite(scores)][0]}.")
    probability = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -500, 500)))
    peak, entropy = float(probability.max()), normalized_entropy(weights)
    if target is None or boxes is None or not len(boxes) or not target.any():
        return AttentionQuality(**dict.fromkeys(ON_LESIONS, math.nan), peak=peak, entropy=entropy)
    energy, chance = float(np.sum(weights * target, dtype=np.float64)), float(target.mean(dtype=np.float64))
    return AttentionQuality(
        energy=energy,
        lift=energy / chance,
        pointing=float(points_into_box(scores, boxes, size)) if np.ptp(scores) > 0 else math.nan,
        chance=chance,
        average_precision=float(average_precision_score(target.ravel() > 0, scores.ravel())),
        iou=_iou(probability >= 0.5, target),
        peak=peak,
        entropy=entropy,
    )


def points_into_box(scores: Grid, boxes: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """The pointing game (Zhang et al. 2018, without their tolerance of 15 pixels): is the peak inside a box?

    Args:
        scores: (h, w).
        boxes: (N, 4) in pixels, half-open.
        size: (H, W) of the image that the boxes refer to.
    """
    row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)
    y, x = (row + 0.5) * size[0] / scores.shape[0], (column + 0.5) * size[1] / scores.shape[1]
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    return bool(inside.any())


def normalized_entropy(weights: Grid) -> float:
    """Shannon entropy of a map that sums to 1, over that of the uniform map: in [0, 1]."""
    if weights.size == 1:
        return 0.0
    positive = weights[weights > 0].astype(np.float64)
    entropy = -float((positive * np.log(positive)).sum()) / math.log(weights.size)
    return min(max(0.0, entropy), 1.0)  # float32 weights sum to 1 only nearly


def center_prior(targets: Iterable[Grid]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Where lesions tend to lie: a map fitted on training boxes that looks at no image. A network should beat it.

    Args:
        targets: (h, w) covered fractions of the training images, held one at a time; empty ones do not count.

    Returns:
        Attention map (h, w), summing to 1, and logits (h, w): of the mean covered fraction of each cell. None: no
        target covers anything.
    """
    total, count = np.zeros(()), 0
    for target in targets:
        if target.any():
            total, count = total + np.asarray(target, dtype=np.float64), count + 1
    if not count:
        return None
    covered = total / count
    inside = np.clip(covered, 1e-12, 1 - 1e-12)
    return covered / covered.sum(), np.log(inside / (1 - inside))


def _iou(predicted: NDArray[np.bool_], target: Grid) -> float:
    intersection = float(target[predicted].sum())
    return intersection / (float(predicted.sum()) + float(target.sum()) - intersection)
