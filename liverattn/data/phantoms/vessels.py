"""Hepatic and portal veins: the dark structures most easily taken for cysts."""

import math

import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.texture import outline
from liverattn.data.phantoms.tissue import Tissue

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Span = tuple[float, float, float, float]


def paint_vessels(rng: np.random.Generator, tissue: Tissue, liver: Mask) -> list[Span]:
    """Paint veins into the liver; return the spans x0, z0, x1, z1 in mm of the ones that show."""
    rows, columns = np.nonzero(liver)
    spans: list[Span] = []
    if len(rows) == 0:
        return spans
    trees, rounds = rng.choice([0, 1, 2, 3], p=[0.3, 0.4, 0.2, 0.1]), rng.integers(1, 8)
    for number in range(trees + rounds):
        pick = rng.integers(len(rows))
        start = (float(tissue.x[0, columns[pick]]), float(tissue.z[rows[pick], 0]))
        portal = rng.random() < 0.45
        if number < trees:
            spans += _paint_tree(rng, tissue, liver, start, portal)
        else:
            radius = np.float32(rng.uniform(0.008, 0.032) * tissue.probe.height)
            points = np.array(start, np.float32) + outline(rng, 0.08, rng.uniform(1, 1.9)) * radius
            spans += _paint_lumen(rng, tissue, liver, points, portal)
    return spans


def paint_septa(rng: np.random.Generator, tissue: Tissue, liver: Mask) -> None:
    """Paint ligaments and fissures, the bright strokes between the segments of a liver."""
    rows, columns = np.nonzero(liver)
    for _ in range(rng.integers(0, 5) if len(rows) else 0):
        pick = rng.integers(len(rows))
        start = (float(tissue.x[0, columns[pick]]), float(tissue.z[rows[pick], 0]))
        heading = rng.choice([0.0, math.pi]) + rng.normal(0, 0.6)
        course = _course(rng, start, heading, rng.uniform(0.04, 0.16) * tissue.probe.height)
        region, mask = tissue.stamp(_ribbon(course, rng.uniform(0.008, 0.022) * tissue.probe.height, 0.4), 0.7)
        mask = mask * liver[region]
        tissue.blend(region, mask, rng.uniform(3, 10), 0.02)
        tissue.gleam[region] += mask * rng.uniform(0, 5)


def _paint_tree(
    rng: np.random.Generator, tissue: Tissue, liver: Mask, start: tuple[float, float], portal: bool
) -> list[Span]:
    width, heading = rng.uniform(0.014, 0.05) * tissue.probe.height, rng.uniform(-math.pi, math.pi)
    length = rng.uniform(0.12, 0.45) * tissue.probe.height
    trunk = _course(rng, start, heading, length)
    ribbons = [_ribbon(trunk, width, 0.5)]
    for _ in range(rng.integers(0, 3)):
        at = int(rng.integers(4, len(trunk) - 2))
        turn = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.1)
        fork = _course(rng, (float(trunk[at, 0]), float(trunk[at, 1])), heading + turn, length * rng.uniform(0.3, 0.7))
        ribbons.append(_ribbon(fork, width * rng.uniform(0.5, 0.8), 0.4))
    spans: list[Span] = []
    for ribbon in ribbons:
        spans += _paint_lumen(rng, tissue, liver, ribbon, portal)
    return spans


def _course(rng: np.random.Generator, start: tuple[float, float], heading: float, length: float) -> Float:
    steps = 14
    bend = np.cumsum(rng.normal(0, 0.09, steps)) + rng.uniform(-0.04, 0.04) * np.arange(steps)
    moves = np.stack([np.cos(heading + bend), np.sin(heading + bend)], axis=1) * (length / steps)
    return np.concatenate([[start], np.array(start) + np.cumsum(moves, axis=0)]).astype(np.float32)


def _ribbon(course: Float, width: float, taper: float) -> Float:
    """Give a course its width in mm, which falls to ``taper`` of it along the way, with rounded ends."""
    along = np.gradient(course, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    share = np.linspace(0, 1, len(course))
    half = width / 2 * (1 + (taper - 1) * share) * np.minimum(1, 0.45 + 5 * np.minimum(share, 1 - share))
    offset = normal * half[:, None]
    return np.concatenate([course + offset, (course - offset)[::-1]]).astype(np.float32)


def _paint_lumen(rng: np.random.Generator, tissue: Tissue, liver: Mask, points: Float, portal: bool) -> list[Span]:
    region, lumen = tissue.stamp(points, rng.uniform(0.3, 0.9))
    wide_region, wide = tissue.stamp(points, 1.0)
    if lumen.size == 0:
        return []
    lumen = lumen * liver[region]
    if portal:
        wall = 4 * wide * (1 - wide) * liver[wide_region]
        tissue.blend(wide_region, np.minimum(wall, 1), rng.uniform(5, 10), 0.0)
        tissue.gleam[wide_region] += wall * rng.uniform(0.5, 3.5)
    tissue.blend(region, lumen, rng.uniform(-20, -7), -0.04)
    tissue.gleam[region] *= 1 - lumen
    shows = lumen > 0.5
    if shows.sum() * tissue.pixel**2 < 4:
        return []
    rows, columns = np.nonzero(shows)
    left, right = columns.min() + region[1].start, columns.max() + 1 + region[1].start
    upper, lower = rows.min() + region[0].start, rows.max() + 1 + region[0].start
    middle = tissue.shape[1] // 2
    return [tuple(float(v) * tissue.pixel for v in (left - middle, upper, right - middle, lower))]  # type: ignore[list-item]
