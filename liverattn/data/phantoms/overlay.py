"""What the scanner burns into the picture; drawn without knowledge of what the picture shows."""

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.probe import Screen

Picture = NDArray[np.uint8]


def burn_in(rng: np.random.Generator, picture: Picture, screen: Screen) -> None:
    """Draw text, gray bar, ticks, markers and calipers into a picture (H, W), in place.

    Nothing broad lies above the field, where it would count as the top of the picture.
    """
    ink = int(rng.integers(150, 256))
    if rng.random() < 0.6:
        _write_settings(rng, picture, screen, ink)
    if rng.random() < 0.25:
        _draw_gray_bar(rng, picture, screen)
    if rng.random() < 0.55:
        _draw_ticks(rng, picture, screen, ink)
    if rng.random() < 0.5:
        _draw_orientation_mark(rng, picture, screen, ink)
    if rng.random() < 0.3:
        _draw_body_mark(rng, picture, ink)
    if rng.random() < 0.15:
        _draw_calipers(rng, picture, screen, ink)


def _write_settings(rng: np.random.Generator, picture: Picture, screen: Screen, ink: int) -> None:
    height, width = picture.shape
    lines = [
        f"C{rng.integers(4, 7)}-{rng.integers(1, 3)}",
        f"{rng.integers(18, 46)}Hz",
        f"D {rng.uniform(8, 20):.1f}",
        f"G {rng.integers(35, 80)}",
        f"DR {rng.integers(50, 75)}",
        f"MI {rng.uniform(0.6, 1.4):.1f}",
        f"TIS {rng.uniform(0.1, 1.2):.1f}",
        f"F {rng.integers(1, 9)}",
        "Abd",
        "HARM",
    ]
    size = height / 1500
    step = int(height * rng.uniform(0.032, 0.045))
    left = int(width * (0.01 if rng.random() < 0.7 else 0.91))
    base = int(screen.top + height * rng.uniform(0.03, 0.25))
    for number, index in enumerate(rng.permutation(len(lines))[: rng.integers(2, 8)]):
        place = (left, base + number * step)
        cv2.putText(picture, lines[index], place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def _draw_gray_bar(rng: np.random.Generator, picture: Picture, screen: Screen) -> None:
    height, width = picture.shape
    long, wide = int(height * rng.uniform(0.12, 0.3)), max(4, width // 90)
    left = int(width * rng.choice([0.02, 0.955]))
    top = int(screen.top + height * rng.uniform(0.0, 0.3))
    bar = picture[top : top + long, left : left + wide]
    bar[:] = np.linspace(255, 0, long).astype(np.uint8)[: len(bar), None]


def _draw_ticks(rng: np.random.Generator, picture: Picture, screen: Screen, ink: int) -> None:
    height, width = picture.shape
    column = int(width * rng.choice([0.06, 0.94, 0.975]))
    face = screen.top + rng.uniform(2, 12) * screen.scale
    for number, row in enumerate(np.arange(face, min(screen.window[3], height) - 2, 10 * screen.scale)):
        long = 5 if number % 5 == 0 else 2
        picture[int(row), column : column + long] = ink
    if rng.random() < 0.4:
        focus = int(height * rng.uniform(0.35, 0.7))
        arrow = np.array([[column - 2, focus], [column - 8, focus - 4], [column - 8, focus + 4]])
        cv2.fillPoly(picture, [arrow], ink, cv2.LINE_AA)


def _draw_orientation_mark(rng: np.random.Generator, picture: Picture, screen: Screen, ink: int) -> None:
    height, width = picture.shape
    side = rng.choice([-1, 1])
    center = (int(screen.center + side * width * rng.uniform(0.12, 0.2)), max(int(screen.top + rng.uniform(-8, 25)), 8))
    size = max(3, height // 110)
    if rng.random() < 0.5:
        cv2.circle(picture, center, size, ink, 1, cv2.LINE_AA)
    else:
        cv2.putText(picture, str(rng.choice(["P", "V", "M"])), center, cv2.FONT_HERSHEY_SIMPLEX, size / 12, ink, 1)


def _draw_body_mark(rng: np.random.Generator, picture: Picture, ink: int) -> None:
    height, width = picture.shape
    size = height * rng.uniform(0.06, 0.11)
    corner = np.array([width * rng.uniform(0.8, 0.9), height * rng.uniform(0.68, 0.86)])
    flank = np.array([[0.0, 0.0], [0.08, 0.25], [0.05, 0.55], [0.0, 0.75], [0.06, 1.0]])
    other = np.array([1.0, 0.0]) + flank * [-1, 1]
    ribs = np.array([[0.2, 0.4], [0.42, 0.28], [0.5, 0.1], [0.58, 0.28], [0.8, 0.4]])
    hips = np.array([[0.38, 0.9], [0.5, 1.0], [0.62, 0.9]])
    for line in (flank, other, ribs, hips):
        cv2.polylines(picture, [(corner + line * size).astype(np.int32)], False, ink, 1, cv2.LINE_AA)
    probe = corner + size * rng.uniform([0.0, 0.2], [0.7, 0.6])
    cv2.line(picture, tuple(map(int, probe)), tuple(map(int, probe + size * rng.uniform(-0.2, 0.2, 2))), ink, 2)


def _draw_calipers(rng: np.random.Generator, picture: Picture, screen: Screen, ink: int) -> None:
    """Draw a measurement anywhere: on a real picture it would give the lesion away."""
    height, width = picture.shape
    start = np.array([screen.center + width * rng.uniform(-0.15, 0.15), height * rng.uniform(0.3, 0.7)])
    end = start + rng.uniform(-0.15, 0.15, 2) * height
    arm = max(3, height // 130)
    for x, y in (start.astype(int), end.astype(int)):
        cv2.line(picture, (x - arm, y), (x + arm, y), ink, 1)
        cv2.line(picture, (x, y - arm), (x, y + arm), ink, 1)
    for share in np.linspace(0, 1, 18)[1:-1]:
        x, y = (start + share * (end - start)).astype(int)
        picture[min(max(y, 0), height - 1), min(max(x, 0), width - 1)] = ink
