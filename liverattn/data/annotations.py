"""What an annotation tool says of images, before it is known what its class names mean."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Edges = tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """One outlined place.

    Attributes:
        name: Its class as the tool has it; None where the tool has none.
        edges: Upright bounding box ``x0, y0, x1, y1`` in pixels, half-open.
    """

    name: str | None
    edges: Edges


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of an export.

    Attributes:
        file: Its path as the tool names it: possibly absolute, of another machine, or an address.
        regions: Outlined places; none: somebody looked and marked nothing.
        names: Classes of the whole image (tags, choices, flags, the folder).
        size: (width, height) that the tool claims, pixels; None where it claims none.
        patient: Who it shows, where the tool knows.
        reviewed: False: the tool lists it, but nobody has looked at it yet.
    """

    file: str
    regions: tuple[Region, ...] = ()
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    patient: str | None = None
    reviewed: bool = True


@dataclass
class Findings:
    """What an importer comes upon.

    Attributes:
        errors: One line per thing that cannot be used, naming file and place; any of them stops the import.
        of_images: The same by image, as :attr:`AnnotatedImage.file` has it; passed over where it is left out.
        warnings: What a person should know.
        conversions: What was converted on the way, counted: said once, not for every box.
        unread: Classes that flags or attributes give regions besides their label, counted.
    """

    errors: list[str] = field(default_factory=list)
    of_images: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    conversions: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)

    def refuse(self, file: str, error: str) -> None:
        """Note an error of one image."""
        self.of_images.setdefault(file, []).append(error)


def enclosing(points: ArrayLike) -> Edges:
    """The upright box around points.

    Args:
        points: (N, 2), N >= 2: x, y.

    Raises:
        ValueError: Not at least two finite points.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1:] != (2,) or len(array) < 2 or not np.isfinite(array).all():
        raise ValueError("expected at least two finite points x, y")
    (x0, y0), (x1, y1) = array.min(axis=0), array.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def around_center(x: float, y: float, width: float, height: float) -> Edges:
    """The box of a size around its center."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def rotated(edges: Edges, degrees: float, pivot: tuple[float, float] | None = None) -> Edges:
    """The upright box around a box that was turned, clockwise as seen on the screen (y points down).

    Args:
        edges: Before the turn.
        degrees: Angle.
        pivot: Fixed point x, y; None: the center.
    """
    x0, y0, x1, y1 = edges
    center = np.array(pivot if pivot is not None else ((x0 + x1) / 2, (y0 + y1) / 2))
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) - center
    return enclosing(corners @ _turn(degrees).T + center)


def rotated_ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float) -> Edges:
    """The upright box around an ellipse that was turned about its center."""
    half = np.hypot(*(_turn(degrees) * (radius_x, radius_y)).T)
    return x - float(half[0]), y - float(half[1]), x + float(half[0]), y + float(half[1])


def _turn(degrees: float) -> NDArray[np.float64]:
    # Quarter turns exactly: a cosine of 6e-17 would move an edge off its pixel.
    quarter = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0), 180.0: (-1.0, 0.0), 270.0: (0.0, -1.0)}.get(degrees % 360)
    cosine, sine = quarter or (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    return np.array([[cosine, -sine], [sine, cosine]])


def scaled(edges: Sequence[float], width: float, height: float) -> Edges:
    """Shares of the image's size to pixels."""
    x0, y0, x1, y1 = edges
    return x0 * width, y0 * height, x1 * width, y1 * height
