"""Random fields and outlines from which the tissues are made."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Float:
    """Draw a field of about unit variance that varies over ``cell`` (rows, columns) pixels."""
    grid = tuple(max(4, math.ceil(n / c) + 3) for n, c in zip(shape, cell, strict=True))
    coarse = rng.standard_normal(grid, dtype=np.float32)
    field = np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.asarray(field * np.float32(1.25), np.float32)


def smooth_curve(rng: np.random.Generator, n: int, knots: int) -> Float:
    """Draw a curve of ``n`` values and about unit variance that bends about ``knots`` times."""
    return np.asarray(smooth_noise(rng, (4, n), (4.0, n / knots))[1], np.float32)


def outline(rng: np.random.Generator, roughness: float, elongation: float) -> Float:
    """Draw a closed outline of mean radius 1 around the origin, as (96, 2) points x, y.

    The radius is a Fourier series from order 2 on with random phases and amplitudes that fall as order to the -1.6,
    so that ``roughness`` is the relative amplitude of the lowest order. ``elongation`` is the ratio of the axes.
    """
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 8):
        radius += roughness * rng.normal() * 3 / order**1.6 * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.5, 1.6) / radius.mean()
    stretch = math.sqrt(elongation)
    x, y = radius * np.cos(angle) * stretch, radius * np.sin(angle) / stretch
    tilt = rng.uniform(-0.6, 0.6)
    turned = np.stack([x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)], axis=1)
    return turned.astype(np.float32)
