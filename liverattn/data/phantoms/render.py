"""Puts a phantom together: tissue, lesions, speckle, display and screen furniture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.anatomy import draw_wall, paint_body_wall, paint_organs
from liverattn.data.phantoms.imaging import compress, draw_beam, draw_display, form_envelope, scan_convert, smooth_video
from liverattn.data.phantoms.lesions import KINDS, paint_lesions
from liverattn.data.phantoms.overlay import burn_in
from liverattn.data.phantoms.probe import Probe, Screen, draw_probe, draw_screen
from liverattn.data.phantoms.texture import smooth_curve
from liverattn.data.phantoms.tissue import Tissue
from liverattn.data.phantoms.vessels import Span, paint_septa, paint_vessels

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

SAMPLES, LINES = 560, 220


@dataclass(frozen=True)
class Phantom:
    """A rendered picture and what it shows.

    Attributes:
        image: Gray picture (H, W), as grabbed from a scanner's screen.
        boxes: Lesions (N, 4) as x0, y0, x1, y1, whole pixels, half-open; (0, 4) without lesion.
        vessels: Bounding boxes (M, 4) of the vessel sections that show.
        geometry: "sector" or "linear".
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    vessels: NDArray[np.float64]
    geometry: str


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn before, and independently of, the lesions."""

    tissue: Tissue
    wall: Float
    cover: Float
    allowed: Mask
    spans: list[Span]


def render_phantom(kind: str, rng: np.random.Generator) -> Phantom:
    """Render one phantom.

    Size, geometry, anatomy, display and screen furniture come from streams of their own, which the kind does not touch:
    the same generator state gives the same liver with another lesion in it.

    Args:
        kind: One of ``KINDS``.
        rng: Source of all randomness; advanced by a fixed amount.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"Expected `kind` to be one of {', '.join(KINDS)}, but got {kind!r}.")
    streams = [np.random.default_rng(seed) for seed in rng.integers(0, 2**63, (4, 4))]
    for_scene, for_lesions, for_speckle, for_screen = streams
    probe = draw_probe(for_screen)
    screen = draw_screen(for_screen, probe)
    scene = _draw_scene(for_scene, probe, screen)
    area = screen.width * screen.height / screen.scale**2
    outlines = paint_lesions(for_lesions, scene.tissue, scene.allowed, kind, area)
    decibel = _insonify(for_speckle, scene)
    picture, field = scan_convert(decibel, probe, screen)
    image = compress(picture, field, draw_display(for_screen))
    burn_in(for_screen, image, screen)
    boxes = _lesion_boxes(for_lesions, outlines, screen)
    return Phantom(image, boxes, _vessel_boxes(scene.spans, boxes, screen), probe.geometry)


def _draw_scene(rng: np.random.Generator, probe: Probe, screen: Screen) -> Scene:
    """Draw anatomy until the liver leaves room for a lesion."""
    while True:
        tissue = Tissue(probe)
        wall = draw_wall(rng, probe.depth)
        liver = paint_organs(rng, tissue, wall)
        cover = _draw_cover(rng)
        shown = _shown(tissue, screen, cover)
        allowed = liver & shown
        room = cv2.distanceTransform(np.pad(allowed.astype(np.uint8), 1), cv2.DIST_L2, 3).max() * tissue.pixel
        if room > 0.11 * probe.height:
            paint_septa(rng, tissue, liver)
            spans = [span for span in paint_vessels(rng, tissue, liver) if shown[tissue.index(span)]]
            return Scene(tissue, wall, cover, allowed, spans)


def _draw_cover(rng: np.random.Generator) -> Float:
    """Draw what each of the beams loses at the surface, in dB: poor contact at the sides, ribs and gas."""
    lateral = np.linspace(-1, 1, LINES, dtype=np.float32)
    loss = np.zeros(LINES, np.float32)
    for side in (-1, 1):
        if rng.random() < 0.5:
            start = rng.uniform(0.3, 0.85)
            loss += rng.uniform(8, 30) * np.clip((side * lateral - start) / rng.uniform(0.05, 0.4), 0, 1)
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2])):
        width = rng.uniform(0.05, 0.22)
        loss += rng.uniform(2, 12) * np.exp(-(((lateral - rng.uniform(-1, 1)) / width) ** 2))
    loss += rng.uniform(0.2, 1.1) * smooth_curve(rng, LINES, 16) + np.float32(rng.uniform(0, 7)) * lateral**2
    return loss


def _shown(tissue: Tissue, screen: Screen, cover: Float) -> Mask:
    """Tell where the field is on the screen and not in a shadow."""
    lost = np.interp(tissue.lateral, np.linspace(-1, 1, LINES), cover)
    column = screen.center + tissue.x * screen.scale
    row = screen.top + tissue.z * screen.scale
    left, upper, right, lower = screen.window
    return np.asarray((lost < 5) & (column > left) & (column < right) & (row > upper) & (row < lower), np.bool_)


def _insonify(rng: np.random.Generator, scene: Scene) -> Float:
    """Image the scene: the envelope (SAMPLES, LINES) in dB."""
    tissue = scene.tissue
    x, z = tissue.probe.beams(SAMPLES, LINES)
    echo, loss, gleam = (tissue.sample(values, x, z) for values in (tissue.echo, tissue.loss, tissue.gleam))
    depth = np.linspace(0, tissue.probe.depth, SAMPLES, dtype=np.float32)
    wall = np.interp(np.linspace(-1, 1, LINES), np.linspace(-1, 1, len(scene.wall)), scene.wall).astype(np.float32)
    paint_body_wall(rng, depth, wall, echo, gleam)
    passed = -np.clip(np.cumsum(loss, axis=0) * (depth[1] - depth[0]), -8, 40)
    passed -= scene.cover * np.clip(depth / wall.mean() - 0.2, 0, 1)[:, None]
    compensation = rng.uniform(-9, 3) * depth / depth[-1] + 1.6 * smooth_curve(rng, SAMPLES, 6)
    level = 10 ** ((passed + compensation[:, None]) / 20)
    noise = 10 ** ((rng.uniform(-42, -24) + rng.uniform(0.0, 0.08) * depth) / 20)
    amplitude = np.hypot(10 ** (echo / 20) * level, noise[:, None]).astype(np.float32)
    beam = draw_beam(rng, depth, LINES)
    envelope = form_envelope(rng, amplitude, (gleam * level).astype(np.float32), beam)
    return np.asarray(20 * np.log10(smooth_video(envelope, rng.uniform(0.5, 1.6)) + np.float32(1e-4)), np.float32)


def _lesion_boxes(rng: np.random.Generator, outlines: list[Float], screen: Screen) -> NDArray[np.float64]:
    """Box the outlines with the slack of a hand-drawn box."""
    boxes = []
    for points in outlines:
        pixels = points * screen.scale + np.array([screen.center, screen.top])
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        slack = 1 + rng.uniform(0, 0.05, 4) * np.tile(high - low, 2)
        boxes.append(np.concatenate([np.floor(low - slack[:2]), np.ceil(high + slack[2:])]))
    return _clip(boxes, screen)


def _clip(boxes: list[NDArray[np.float64]], screen: Screen) -> NDArray[np.float64]:
    clipped = np.array(boxes, np.float64).reshape(-1, 4)
    clipped[:, 0::2] = clipped[:, 0::2].clip(0, screen.width)
    clipped[:, 1::2] = clipped[:, 1::2].clip(0, screen.height)
    return clipped


def _vessel_boxes(spans: list[Span], lesions: NDArray[np.float64], screen: Screen) -> NDArray[np.float64]:
    """Box the vessels that no lesion hides."""
    boxes = []
    left, upper, right, lower = screen.window
    for span in spans:
        x0, y0, x1, y1 = np.array(span) * screen.scale + np.tile([screen.center, screen.top], 2)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        hidden = (lesions[:, :2] < (x, y)).all(axis=1) & (lesions[:, 2:] > (x, y)).all(axis=1)
        if left < x < right and upper < y < lower and not hidden.any():
            boxes.append(np.array([np.floor(x0), np.floor(y0), np.ceil(x1), np.ceil(y1)]))
    return _clip(boxes, screen)
