"""The liver and what surrounds it: diaphragm, gut, gallbladder, kidney and the body wall."""

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.texture import outline, smooth_curve, smooth_noise
from liverattn.data.phantoms.tissue import Tissue

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


def paint_organs(rng: np.random.Generator, tissue: Tissue, wall: Float) -> Mask:
    """Paint everything below the body wall but vessels and lesions; return where the liver is.

    Args:
        rng: Source of all randomness.
        tissue: Maps to paint into.
        wall: Thickness of the body wall in mm at equidistant lateral positions from -1 to 1.
    """
    inside = np.abs(tissue.lateral) < 1
    liver = inside & (tissue.depth > _wall_below(tissue, wall)) & (tissue.depth < tissue.probe.depth)
    _paint_parenchyma(rng, tissue)
    if rng.random() < (0.8 if tissue.probe.geometry == "sector" else 0.3):
        liver &= ~_paint_diaphragm(rng, tissue)
    if rng.random() < 0.6:
        liver &= ~_paint_gut(rng, tissue, liver)
    organ = rng.random()
    if organ < 0.2:
        liver &= ~_paint_gallbladder(rng, tissue, liver)
    elif organ < 0.38:
        liver &= ~_paint_kidney(rng, tissue)
    return np.asarray(liver, np.bool_)


def _wall_below(tissue: Tissue, wall: Float) -> Float:
    """Spread the thickness of the body wall in mm over the maps."""
    lateral = np.linspace(-1, 1, len(wall), dtype=np.float32)
    return np.interp(tissue.lateral, lateral, wall).astype(np.float32)


def draw_wall(rng: np.random.Generator, depth: float) -> Float:
    """Draw the body wall's thickness in mm at 64 lateral positions."""
    thickness = min(rng.uniform(10, 30), rng.uniform(0.1, 0.2) * depth)
    return np.asarray(thickness * (1 + 0.035 * smooth_curve(rng, 64, 2)), np.float32)


def paint_body_wall(rng: np.random.Generator, depth: Float, wall: Float, echo: Float, gleam: Float) -> None:
    """Paint skin, fat, muscle and fasciae over the samples of the beams, in place.

    Args:
        rng: Source of all randomness.
        depth: Distance from the probe's face in mm, one per row.
        wall: Thickness of the wall in mm, one per beam.
        echo: Echogenicity in dB (rows, beams).
        gleam: Specular amplitude (rows, beams).
    """
    deepest = int(np.searchsorted(depth, wall.max() + 2)) + 1
    relative = depth[:deepest, None] / wall[None, :]
    skin, fat = rng.uniform(0.08, 0.14), rng.uniform(0.3, 0.65)
    levels = np.array([rng.uniform(-3, 2), rng.uniform(-9, -2), rng.uniform(-8, -1)], np.float32)
    layer = np.digitize(relative, [skin, fat])
    streaks = smooth_noise(rng, relative.shape, (3.5, 45)) * 2.4 + smooth_noise(rng, relative.shape, (9, 26)) * 1.6
    body = np.clip((1 - relative) * 25, 0, 1)
    painted = levels[layer] + streaks
    echo[:deepest] += body * (painted - echo[:deepest])
    for level in (fat, 1.0, *rng.uniform(skin, 0.95, rng.integers(4, 10))):
        _paint_fascia(rng, relative, level, gleam[:deepest])
    face = depth[:deepest, None]
    period = rng.uniform(1.2, 2.2)
    ringing = np.exp(-face / (1.3 * period)) * (0.5 + 0.5 * np.cos(2 * np.pi * face / period))
    gleam[:deepest] += rng.uniform(2, 14) * ringing


def _paint_fascia(rng: np.random.Generator, relative: Float, level: float, gleam: Float) -> None:
    beams = relative.shape[1]
    place = level + 0.018 * smooth_curve(rng, beams, 3)
    strength = np.clip(rng.uniform(0.2, 1.0) + 0.9 * smooth_curve(rng, beams, 6), 0, None) * rng.uniform(1.5, 5.0)
    if level == 1.0:
        strength = np.clip(strength, 0.5, None)
    width = rng.uniform(0.012, 0.034)
    gleam += strength * np.exp(-(((relative - place) / width) ** 2))


def _paint_parenchyma(rng: np.random.Generator, tissue: Tissue) -> None:
    pixel = tissue.pixel
    tissue.echo += rng.uniform(1.2, 2.4) * smooth_noise(rng, tissue.shape, (40 / pixel, 40 / pixel))
    tissue.echo += rng.uniform(0.5, 1.5) * smooth_noise(rng, tissue.shape, (3 / pixel, 4.5 / pixel))
    tissue.echo += rng.uniform(0.5, 1.2) * smooth_noise(rng, tissue.shape, (10 / pixel, 12 / pixel))
    grains = rng.random(tissue.shape, dtype=np.float32) < 10 ** rng.uniform(-4, -2.8)
    rows, columns = np.nonzero(grains)
    tissue.gleam[rows, columns] += rng.exponential(9, len(rows)).astype(np.float32)


def _paint_gut(rng: np.random.Generator, tissue: Tissue, liver: Mask) -> Mask:
    probe = tissue.probe
    side = rng.choice([-1.0, 1.0])
    start = rng.uniform(0.25, 0.6) * probe.half_width
    slope = rng.uniform(-0.9, 0.15)
    edge = (
        start
        + slope * (tissue.z - 0.55 * probe.height)
        + 0.022 * probe.height * smooth_curve(rng, tissue.shape[0], 5)[:, None]
    )
    beyond = (side * tissue.x - edge).astype(np.float32)
    weight = np.clip(beyond / 2, 0, 1)
    cell = 5 / tissue.pixel
    texture = rng.uniform(-1, 9) + 4.5 * smooth_noise(rng, tissue.shape, (cell, 2.5 * cell))
    tissue.echo += weight * (texture - tissue.echo)
    tissue.gleam *= 1 - 0.85 * weight
    tissue.loss += weight * rng.uniform(0.0, 0.12)
    cloud = 0.6 * smooth_noise(rng, tissue.shape, (0.5 * cell, cell))
    cloud += smooth_noise(rng, tissue.shape, (2 * cell, 4 * cell))
    patches = np.clip(cloud - 0.7, 0, None)
    tissue.gleam += weight * patches * rng.uniform(1, 6)
    tissue.loss += weight * np.minimum(patches, 0.6) * rng.uniform(0.1, 0.7)
    margin = np.exp(-((beyond / rng.uniform(1.0, 2.2)) ** 2)) * cv2.GaussianBlur(liver.astype(np.float32), (0, 0), 3)
    tissue.gleam += margin * np.clip(smooth_curve(rng, tissue.shape[0], 12)[:, None], 0, None) * rng.uniform(2, 14)
    return np.asarray(beyond > -1.5, np.bool_)


def _paint_diaphragm(rng: np.random.Generator, tissue: Tissue) -> Mask:
    probe = tissue.probe
    lowest = rng.uniform(0.66, 0.97) * probe.height
    offset = tissue.x[0] - rng.uniform(-0.45, 0.45) * probe.half_width
    span = rng.uniform(0.32, 0.6, 2) * probe.height
    flank = np.where(offset < 0, span[0], span[1])
    rise = flank * rng.uniform(0.7, 1.5) * (np.sqrt(1 + (offset / flank) ** 2) - 1)
    edge = (lowest - rise + 1.2 * smooth_curve(rng, tissue.shape[1], 7)).astype(np.float32)
    slant = np.hypot(1, np.gradient(edge, tissue.pixel))[None, :]
    below = ((tissue.z - edge[None, :]) / slant).astype(np.float32)
    weight = np.clip(below, 0, 1)
    cell = 7 / tissue.pixel
    mirrored = rng.uniform(-6, 3) - rng.uniform(0.03, 0.25) * below
    mirrored += 3 * smooth_noise(rng, tissue.shape, (cell, 2 * cell))
    tissue.echo += weight * (mirrored - tissue.echo)
    visible = np.clip(rng.uniform(0.2, 1.1) + 0.9 * smooth_curve(rng, tissue.shape[1], 4), 0.0, 1.8)
    visible = (visible * np.exp(0.5 * smooth_curve(rng, tissue.shape[1], 30)))[None, :]
    thickness = (rng.uniform(0.9, 2.2) * np.exp(0.3 * smooth_curve(rng, tissue.shape[1], 12)))[None, :]
    tissue.echo += weight * rng.uniform(2, 12) * visible * np.exp(-np.clip(below, 0, None) / rng.uniform(3, 12))
    tissue.gleam += rng.uniform(6, 22) * visible / slant**1.5 * np.exp(-((below / thickness) ** 2))
    echoes = np.exp(-(((below - rng.uniform(4, 9)) / (2 * thickness)) ** 2))
    tissue.gleam += rng.uniform(0, 2) * visible / slant * echoes
    return np.asarray(below > -2, np.bool_)


def _paint_gallbladder(rng: np.random.Generator, tissue: Tissue, liver: Mask) -> Mask:
    probe = tissue.probe
    rows, columns = np.nonzero(liver)
    pick = rng.integers(len(rows))
    center = np.array([columns[pick] - tissue.shape[1] // 2, rows[pick]], np.float32) * np.float32(tissue.pixel)
    center[1] = max(center[1], 0.42 * probe.height)
    points = center + outline(rng, 0.05, rng.uniform(1.8, 3.2)) * np.float32(rng.uniform(0.05, 0.09) * probe.height)
    return paint_fluid(tissue, points, level=-22.0, rim=rng.uniform(1.0, 1.8), gleam=rng.uniform(1.5, 4.0))


def paint_fluid(tissue: Tissue, points: Float, level: float, rim: float, gleam: float) -> Mask:
    """Paint a body of fluid, ``level`` dB, with a thin wall of ``rim`` mm; return where it is."""
    region, mask = tissue.stamp(points, 0.4)
    wide_region, wide = tissue.stamp(points, rim)
    tissue.blend(region, mask, level, -0.3)
    tissue.gleam[region] *= 1 - mask
    rim_mask = 4 * wide * (1 - wide)
    tissue.gleam[wide_region] += gleam * rim_mask * _facing(wide)
    tissue.loss[wide_region] += np.float32(0.25) * rim_mask
    inside = np.zeros(tissue.shape, np.bool_)
    inside[region] = mask > 0.5
    return inside


def _facing(mask: Float) -> Float:
    """Weigh a rim by how squarely the beam meets it: specular echoes vanish where the wall runs along the beam."""
    if mask.size == 0:
        return mask
    down, across = np.gradient(mask)
    return np.asarray(0.25 + 0.75 * down**2 / (down**2 + across**2 + 1e-6), np.float32)


def _paint_kidney(rng: np.random.Generator, tissue: Tissue) -> Mask:
    probe = tissue.probe
    side = rng.choice([-1.0, 1.0])
    across, down = side * rng.uniform(0.2, 0.45) * probe.half_width, rng.uniform(0.6, 0.8) * probe.height
    center = np.array([across, down], np.float32)
    shape = outline(rng, 0.04, rng.uniform(1.7, 2.3))
    size = np.float32(rng.uniform(0.13, 0.2) * probe.height)
    region, cortex = tissue.stamp(center + shape * size, 0.6)
    capsule_region, capsule = tissue.stamp(center + shape * size, 1.3)
    tissue.gleam[capsule_region] += rng.uniform(0.3, 2.5) * 4 * capsule * (1 - capsule) * _facing(capsule)
    tissue.gleam[region] *= 1 - cortex
    tissue.blend(region, cortex, rng.uniform(-6, -2), -0.02)
    sinus_region, sinus = tissue.stamp(center + outline(rng, 0.25, 2.6) * size * np.float32(0.42), 2.0)
    tissue.blend(sinus_region, sinus, rng.uniform(3, 8), 0.02)
    inside = np.zeros(tissue.shape, np.bool_)
    inside[region] = cortex > 0.1
    return inside
