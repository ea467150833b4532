"""The transducer's geometry, and where its picture lies on the screen."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

SCREENS = (
    ((1024, 768), 0.34),
    ((720, 576), 0.26),
    ((800, 600), 0.10),
    ((768, 576), 0.10),
    ((640, 480), 0.07),
    ((602, 489), 0.04),
    ((507, 407), 0.03),
    ((819, 604), 0.02),
    ((440, 340), 0.02),
    ((1260, 910), 0.02),
)
"""Screen sizes (width, height) in pixels with their probabilities."""


@dataclass(frozen=True)
class Probe:
    """A curved or straight array; lengths in mm, x from the axis, z downward from the topmost point of the field.

    ``half`` is half the opening angle in radians for "sector" and half the width in mm for "linear".
    """

    geometry: str
    radius: float
    half: float
    depth: float

    @property
    def half_width(self) -> float:
        """Half the width of the field in mm."""
        return (self.radius + self.depth) * math.sin(self.half) if self.geometry == "sector" else self.half

    @property
    def height(self) -> float:
        """Height of the field in mm, the curved face included."""
        return self.radius + self.depth - self._rim

    @property
    def _rim(self) -> float:
        return self.radius * math.cos(self.half) if self.geometry == "sector" else 0.0

    def locate(self, x: Float, z: Float) -> tuple[Float, Float]:
        """Map points to their distance from the face in mm and their lateral position, -1 to 1 within the field."""
        if self.geometry == "linear":
            return z, x / np.float32(self.half)
        below = z + np.float32(self._rim)
        depth = np.hypot(x, below) - np.float32(self.radius)
        return depth, np.arctan2(x, below) / np.float32(self.half)

    def beams(self, rows: int, lines: int) -> tuple[Float, Float]:
        """Give x and z in mm of the samples, (rows, lines) each."""
        depth = np.linspace(0, self.depth, rows, dtype=np.float32)[:, None]
        lateral = np.linspace(-self.half, self.half, lines, dtype=np.float32)[None, :]
        if self.geometry == "linear":
            return np.broadcast_to(lateral, (rows, lines)), np.broadcast_to(depth, (rows, lines))
        reach = depth + np.float32(self.radius)
        return reach * np.sin(lateral), reach * np.cos(lateral) - np.float32(self._rim)


@dataclass(frozen=True)
class Screen:
    """Where the field lies on the screen.

    ``scale`` is in pixels per mm, ``center`` and ``top`` are the pixel of x = 0 and z = 0, and ``window`` is what the
    scanner shows: left, upper, right and lower in pixels.
    """

    width: int
    height: int
    scale: float
    center: float
    top: float
    window: tuple[int, int, int, int]


def draw_probe(rng: np.random.Generator) -> Probe:
    """Draw a probe: seven in eight are curved."""
    if rng.random() < 0.125:
        return Probe("linear", 0.0, rng.uniform(32, 55), rng.uniform(65, 115))
    radius = rng.uniform(38, 64) if rng.random() < 0.85 else rng.uniform(12, 25)
    half = math.radians(rng.uniform(27, 37))
    return Probe("sector", radius, half, rng.uniform(105, 195))


def draw_screen(rng: np.random.Generator, probe: Probe) -> Screen:
    """Draw a screen size and place the field on it, sometimes cut by the edge of the scanner's image window."""
    index = rng.choice(len(SCREENS), p=[p for _, p in SCREENS])
    width, height = SCREENS[index][0]
    fill = 1 - 0.42 * rng.random() ** 1.6
    scale = fill * min(0.97 * width / (2 * probe.half_width), 0.95 * height / probe.height)
    if rng.random() < 0.3:
        scale *= rng.uniform(1.02, 1.15)
    across, down = 2 * probe.half_width * scale, probe.height * scale
    center = width / 2 + rng.uniform(-0.35, 0.35) * max(width - across, 0)
    top = max(3.0, rng.uniform(0.15, 0.6) * max(height - down, 0))
    margin = rng.uniform(0.0, 0.05)
    bottom = min(height, int(top + down * (rng.uniform(0.84, 0.97) if rng.random() < 0.3 else 1.0)))
    return Screen(width, height, scale, center, top, (int(margin * width), 0, int((1 - margin) * width), bottom))
