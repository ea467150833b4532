"""From tissue to a picture: speckle through a point-spread function, envelope, log compression, scan conversion."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.probe import Probe, Screen

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Beam:
    """The point-spread function.

    Attributes:
        axial: Standard deviation of the pulse in samples.
        lateral: Standard deviation of the beam in lines, one value per row (rows,); least at the focus.
        looks: Independent envelopes averaged by spatial compounding.
    """

    axial: float
    lateral: Float
    looks: int


@dataclass(frozen=True)
class Display:
    """The mapping from decibels to gray.

    Attributes:
        dynamic: Dynamic range in dB.
        gamma: Exponent of the gray curve.
        haze: Gray of the field without echo.
        median: Wanted median of the pixels above 10 in the topmost fifth of the field.
    """

    dynamic: float
    gamma: float
    haze: float
    median: float


def draw_beam(rng: np.random.Generator, depth: Float, lines: int) -> Beam:
    """Draw a beam for samples at the given depths in mm (rows,)."""
    focus = rng.uniform(0.25, 0.6) * depth[-1]
    narrow, widening = rng.uniform(0.5, 0.9), rng.uniform(0.4, 1.2)
    lateral = narrow * np.sqrt(1 + (widening * (depth - focus) / focus) ** 2) * lines / 200
    looks = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.3, 0.3, 0.3]))
    return Beam(float(rng.uniform(0.22, 0.42) / (depth[1] - depth[0])), lateral.astype(np.float32), looks)


def draw_display(rng: np.random.Generator) -> Display:
    """Draw a display whose wanted median is 30 to 110, 70 on average."""
    median = 30 + 80 * rng.beta(2.2, 2.2)
    haze = rng.uniform(0, 0.35) * median if rng.random() < 0.5 else 0.0
    return Display(rng.uniform(44, 62), rng.uniform(1.1, 1.6), haze, median)


def form_envelope(rng: np.random.Generator, amplitude: Float, gleam: Float, beam: Beam) -> Float:
    """Form the envelope (rows, lines) of the echoes.

    Scatterers are circular complex Gaussian, so that fully developed speckle has a Rayleigh envelope, whose mean is
    1.91 times its standard deviation (Wagner, Smith, Sandrik, Lopez, IEEE Trans. Sonics Ultrason. 30, 1983).
    Compounding raises that ratio by the square root of the looks.

    Args:
        rng: Source of all randomness.
        amplitude: Scatterers' root-mean-square amplitude (rows, lines).
        gleam: Amplitude of specular echoes (rows, lines), which are coherent over the beam.
        beam: The point-spread function.
    """
    pulse = _gaussian(2 * int(3 * beam.axial) + 3, beam.axial)
    mirror = _filter(gleam * np.float32(0.7), pulse, beam.lateral, coherent=True)
    amplitude = np.hypot(amplitude, gleam * np.float32(0.7))
    total = np.zeros_like(amplitude)
    for _ in range(beam.looks):
        scatter = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
        echo = _filter(scatter * amplitude[..., None], pulse, beam.lateral, coherent=False)
        total += cv2.magnitude(echo[..., 0] + mirror, echo[..., 1])
    return total / np.float32(beam.looks)


def smooth_video(values: Float, width: float) -> Float:
    """Smooth the detected signal, as scanners do to calm the speckle; ``width`` in samples."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigmaX=0.7 * width, sigmaY=width), np.float32)


def _filter(values: Float, pulse: Float, lateral: Float, coherent: bool) -> Float:
    """Pass scatterers (rows, lines[, 2]) through the point-spread function.

    The lateral width is interpolated between three filtered copies. The sum of the weights is kept at 1 for coherent
    echoes, the sum of their squares for random ones.
    """
    levels = np.geomspace(lateral.min(), lateral.max() + 1e-3, 3)
    place = np.interp(lateral, levels, np.arange(3.0))
    size = 2 * int(3 * levels[-1]) + 3
    kernels = [_gaussian(size, float(level)) for level in levels]
    blended = np.zeros_like(values)
    kernel = np.zeros((len(lateral), size), np.float32)
    for index, line in enumerate(kernels):
        weight = np.clip(1 - np.abs(place - index), 0, 1).astype(np.float32)
        kernel += weight[:, None] * line[:, 0]
        smooth = cv2.sepFilter2D(values, -1, line, pulse)
        blended += weight.reshape(-1, *[1] * (values.ndim - 1)) * smooth
    if coherent:
        return blended
    power = np.sum(kernel**2, axis=1) * np.float32(np.sum(pulse**2))
    return np.asarray(blended / np.sqrt(power).reshape(-1, *[1] * (values.ndim - 1)), np.float32)


def _gaussian(size: int, width: float) -> Float:
    return np.asarray(cv2.getGaussianKernel(size, width, cv2.CV_32F), np.float32)


def scan_convert(values: Float, probe: Probe, screen: Screen) -> tuple[Float, Mask]:
    """Bring samples (rows, lines) to the screen; return the picture and where the field is, (height, width) each."""
    x = (np.arange(screen.width, dtype=np.float32) + np.float32(0.5 - screen.center)) / np.float32(screen.scale)
    z = (np.arange(screen.height, dtype=np.float32) + np.float32(0.5 - screen.top)) / np.float32(screen.scale)
    depth, lateral = probe.locate(*np.meshgrid(x, z))
    field = (depth >= 0) & (depth <= probe.depth) & (np.abs(lateral) <= 1)
    left, upper, right, lower = screen.window
    field[:, :left] = field[:, right:] = field[:upper] = field[lower:] = False
    row = depth * np.float32((values.shape[0] - 1) / probe.depth)
    line = (lateral + 1) * np.float32((values.shape[1] - 1) / 2)
    picture = cv2.remap(values, line, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture, np.float32), field


def compress(decibel: Float, field: Mask, display: Display) -> NDArray[np.uint8]:
    """Map decibels (H, W) to gray, with the gain that gives the topmost fifth of the field its wanted median.

    Most of a picture's deviation from the usual brightness is the monitor's, which scales all gray alike; the rest is
    gain, which moves echoes into or out of the dynamic range.
    """
    rows = np.flatnonzero(field.any(axis=1))
    top = slice(rows[0], rows[0] + max(1, (rows[-1] + 1 - rows[0]) // 5))
    near = decibel[top][field[top]][::7]
    low, high = -60.0, 120.0
    for _ in range(18):
        gain = (low + high) / 2
        gray = _gray(near, gain, display)
        seen = gray[gray > 10]
        low, high = (gain, high) if len(seen) == 0 or np.median(seen) < display.median else (low, gain)
    picture = np.zeros(decibel.shape, np.uint8)
    picture[field] = np.clip(_gray(decibel[field], gain, display), 0, 255)
    return picture


def _gray(decibel: Float, gain: float, display: Display) -> Float:
    share = np.clip((decibel + np.float32(gain)) / np.float32(display.dynamic), 0, 1)
    brightness = (display.median / 72) ** 0.75
    scaled = np.float32(255 * brightness) * share ** np.float32(display.gamma)
    return np.asarray(np.float32(display.haze) + np.float32(1 - display.haze / 255) * scaled, np.float32)
