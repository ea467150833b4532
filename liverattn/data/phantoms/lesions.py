"""Focal liver lesions, each drawn the way radiologists describe its type."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.anatomy import paint_fluid
from liverattn.data.phantoms.texture import outline, smooth_noise
from liverattn.data.phantoms.tissue import Tissue

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

KINDS = ("none", "angioma", "metastasis", "hcc", "cyst", "fnh")
"""What a phantom can show; "none" is a liver without lesion."""


def paint_lesions(rng: np.random.Generator, tissue: Tissue, allowed: Mask, kind: str, field_area: float) -> list[Float]:
    """Paint the lesions of one kind; return their outlines, (96, 2) points x, z in mm each.

    Args:
        rng: Source of all randomness.
        tissue: Maps to paint into.
        allowed: Where lesions may lie (H, W); room for each is looked for in what the earlier ones left free.
        kind: One of ``KINDS``.
        field_area: Area in square mm that the whole picture covers; lesion sizes are shares of it.
    """
    outlines: list[Float] = []
    free = allowed.copy()
    for _ in range(_draw_count(rng, kind)):
        shape = outline(rng, *_draw_form(rng, kind))
        share = np.clip(math.exp(rng.normal(math.log(0.05), 1.7)), 0.003, 0.22)
        if kind == "metastasis":
            share *= 0.7
        size = max(math.sqrt(share * field_area / np.prod(np.ptp(shape, axis=0))), 2.5)
        room = _room(tissue, free)
        if room.max() < 2.5:
            break
        placed = _place(rng, tissue, room, shape, size)
        PAINTERS[kind](rng, tissue, placed)
        region, mask = tissue.stamp(placed, 0.5)
        free[region] &= mask < 0.05
        outlines.append(placed)
    return outlines


def _draw_count(rng: np.random.Generator, kind: str) -> int:
    if kind == "none":
        return 0
    if kind == "metastasis":
        return int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.35, 0.2, 0.17, 0.13, 0.1, 0.05]))
    return int(rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05])) if kind in {"cyst", "angioma"} else 1


def _draw_form(rng: np.random.Generator, kind: str) -> tuple[float, float]:
    roughness = {"cyst": 0.05, "angioma": 0.09, "hcc": 0.08, "fnh": 0.07, "metastasis": 0.07}[kind]
    return roughness, rng.uniform(1.0, 1.45)


def _room(tissue: Tissue, free: Mask) -> Float:
    """Give every pixel's distance in mm to where no lesion may lie."""
    padded = np.pad(free.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    return np.asarray(distance * tissue.pixel, np.float32)


def _place(rng: np.random.Generator, tissue: Tissue, room: Float, shape: Float, size: float) -> Float:
    """Scale an outline to ``size`` mm, or as near to it as there is room, and move it where it fits."""
    reach = float(np.hypot(shape[:, 0], shape[:, 1]).max())
    size = min(size, 0.97 * float(room.max()) / reach)
    rows, columns = np.nonzero(room >= size * reach)
    pick = rng.integers(len(rows))
    center = np.array([tissue.x[0, columns[pick]], tissue.z[rows[pick], 0]], np.float32)
    return np.asarray(center + shape * np.float32(size), np.float32)


def _shrink(points: Float, margin: float) -> Float:
    """Move an outline inward by about ``margin`` mm."""
    center = points.mean(axis=0)
    radius = float(np.hypot(*(points - center).T).mean())
    return np.asarray(center + (points - center) * np.float32(max(1 - margin / radius, 0.15)), np.float32)


def _paint_solid(
    rng: np.random.Generator, tissue: Tissue, points: Float, level: float, softness: float, grain: float = 1.2
) -> None:
    region, mask = tissue.stamp(points, 2 * softness)
    if mask.size == 0:
        return
    cell = max(2.0, 0.1 * math.sqrt(mask.size) * tissue.pixel) / tissue.pixel
    ragged = mask + mask * (1 - mask) * smooth_noise(rng, mask.shape, (cell, cell))
    ragged = np.clip((ragged - 0.5) * 1.6 + 0.5, 0, 1)
    texture = level + grain * smooth_noise(rng, mask.shape, (cell, 1.4 * cell))
    texture += 0.6 * grain * smooth_noise(rng, mask.shape, (3 * cell, 3 * cell))
    tissue.blend(region, ragged * np.float32(0.95), texture, 0.0)
    tissue.gleam[region] *= 1 - ragged


def _paint_cyst(rng: np.random.Generator, tissue: Tissue, points: Float) -> None:
    paint_fluid(tissue, points, level=rng.uniform(-28, -17), rim=0.8, gleam=rng.uniform(0.8, 2.5))


def _paint_angioma(rng: np.random.Generator, tissue: Tissue, points: Float) -> None:
    _paint_solid(rng, tissue, points, rng.uniform(4.5, 9.5), rng.uniform(0.3, 0.8))


def _paint_hcc(rng: np.random.Generator, tissue: Tissue, points: Float) -> None:
    radius = math.sqrt(float(np.prod(np.ptp(points, axis=0)))) / 2
    _paint_solid(rng, tissue, points, rng.uniform(-13, -9), rng.uniform(0.3, 0.6))
    core = _shrink(points, float(np.clip(0.12 * radius, 0.7, 2.2)))
    _paint_solid(rng, tissue, core, rng.uniform(-7, -3), 0.6, grain=1.6)
    for _ in range(rng.integers(2, 7)):
        center = core[rng.integers(len(core))] * np.float32(0.55) + core.mean(axis=0) * np.float32(0.45)
        nodule = center + outline(rng, 0.1, 1.2) * np.float32(radius * rng.uniform(0.18, 0.36))
        _paint_solid(rng, tissue, nodule.astype(np.float32), rng.uniform(-8, 4), 0.7)


def _paint_fnh(rng: np.random.Generator, tissue: Tissue, points: Float) -> None:
    radius = math.sqrt(float(np.prod(np.ptp(points, axis=0)))) / 2
    level = rng.choice([-1.0, 1.0]) * rng.uniform(2.8, 5.0)
    _paint_solid(rng, tissue, points, level - 4.0, 0.5)
    _paint_solid(rng, tissue, _shrink(points, min(1.4, 0.15 * radius)), level, 0.7)
    center, spokes = points.mean(axis=0), rng.integers(3, 7)
    scar = level + rng.choice([-1.0, 1.0], p=[0.7, 0.3]) * rng.uniform(7, 10)
    first = rng.uniform(0, np.pi)
    for angle in first + np.arange(spokes) * 2 * np.pi / spokes + rng.normal(0, 0.2, spokes):
        along = np.array([math.cos(angle), math.sin(angle)]) * radius * rng.uniform(0.45, 0.75)
        across = np.array([-along[1], along[0]]) * 0.2
        _paint_solid(rng, tissue, (center + np.stack([across, along, -across])).astype(np.float32), scar, 0.5)


def _paint_metastasis(rng: np.random.Generator, tissue: Tissue, points: Float) -> None:
    radius = math.sqrt(float(np.prod(np.ptp(points, axis=0)))) / 2
    _paint_solid(rng, tissue, points, rng.uniform(-12, -7), rng.uniform(0.4, 1.0))
    if rng.random() < 0.65:
        core = _shrink(points, radius * rng.uniform(0.25, 0.45))
        _paint_solid(rng, tissue, core, rng.uniform(0, 5), 0.12 * radius + 0.4, grain=1.3)


PAINTERS: dict[str, Callable[[np.random.Generator, Tissue, Float], None]] = {
    "angioma": _paint_angioma,
    "metastasis": _paint_metastasis,
    "hcc": _paint_hcc,
    "cyst": _paint_cyst,
    "fnh": _paint_fnh,
}
"""How each kind of lesion is painted."""
