"""Crop, intensity rescale, resize: pure functions on arrays (paper: "Preprocessing", Eq. 1, Fig. 1).

Images are (H, W) uint8, boxes (N, 4) float64 ``x0, y0, x1, y1`` in pixels, half-open. A *window* is
``(x0, y0, x1, y1)`` in integer pixels; where it reaches beyond the image, zeros are taken.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.errors import InputError, expect_boolean, expect_choice, expect_whole

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]
Window = tuple[int, int, int, int]

BLACK = 10  # of 255: up to here a pixel counts as border, not tissue
BORDER_FRACTION = 0.02  # a row or column of pure border has at most this share of brighter pixels (text, JPEG noise)
TOP_FRACTION = 0.2
TARGET_INTENSITY = 70.0  # the average value of the paper's data set
PLAUSIBLE_MEDIAN = (20, 150)  # m of Eq. 1; the paper observed 30 to 110


def crop_borders(image: Image, boxes: Boxes) -> tuple[Image, Boxes]:
    """Cut off black borders; never cut a box.

    Keeps the range from the first to the last row (column) in which more than 2 % of the pixels exceed 10 of 255, so
    that burnt-in text or compression noise does not hold the border, and grows it to contain every box. The paper
    crops "to maximally remove the black borders" and gives no numbers; these are our reading.

    Args:
        image: (H, W) uint8.
        boxes: (N, 4), may be empty.

    Returns:
        The crop and the boxes in its coordinates. An image without such a row or column is returned whole.
    """
    return take_window(image, boxes, border_window(image, boxes))


def border_window(image: Image, boxes: Boxes) -> Window:
    """The window that :func:`crop_borders` keeps."""
    height, width = image.shape
    _, bright = cv2.threshold(image, BLACK, 1, cv2.THRESH_BINARY)
    in_rows, in_columns = (cv2.reduce(bright, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    rows, columns = (
        np.flatnonzero(in_rows / width > BORDER_FRACTION),
        np.flatnonzero(in_columns / height > BORDER_FRACTION),
    )
    if not len(rows) or not len(columns):
        return 0, 0, width, height
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    if len(boxes):
        low, high = np.floor(boxes.min(axis=0)).astype(int), np.ceil(boxes.max(axis=0)).astype(int)
        x0, y0, x1, y1 = min(x0, low[0]), min(y0, low[1]), max(x1, high[2]), max(y1, high[3])
    return max(int(x0), 0), max(int(y0), 0), min(int(x1), width), min(int(y1), height)


def fit_aspect(
    image: Image, boxes: Boxes, aspect: float, mode: Literal["pad", "crop", "stretch"] = "pad"
) -> tuple[Image, Boxes]:
    """Bring an image to width / height = ``aspect`` (paper: "standardize the aspect ratio"; the way is our reading).

    Args:
        image: (H, W) uint8.
        boxes: (N, 4), may be empty.
        aspect: Width divided by height, > 0.
        mode: ``pad`` adds zeros left and right alike, or below (the skin stays at the top); ``crop`` cuts left and
            right alike, or below, and cuts the boxes with it; ``stretch`` leaves the deformation to the resize.
    """
    return take_window(image, boxes, aspect_window(image.shape[1], image.shape[0], aspect, mode))


def aspect_window(width: int, height: int, aspect: float, mode: str) -> Window:
    """The window that :func:`fit_aspect` takes; it reaches beyond the image where zeros are padded."""
    if mode == "stretch":
        return 0, 0, width, height
    too_wide = width > aspect * height
    if too_wide == (mode == "pad"):
        return 0, 0, width, max(1, round(width / aspect))
    new_width = max(1, round(height * aspect))
    left = (width - new_width) // 2
    return left, 0, left + new_width, height


def take_window(image: Image, boxes: Boxes, window: Window) -> tuple[Image, Boxes]:
    """Cut a window out of an image, zeros where it reaches beyond; boxes are shifted, cut, and dropped if empty."""
    x0, y0, x1, y1 = window
    height, width = image.shape
    inside = image[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if inside.shape != (y1 - y0, x1 - x0):
        out = np.zeros((y1 - y0, x1 - x0), np.uint8)
        top, left = max(-y0, 0), max(-x0, 0)
        out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        inside = out
    moved = np.clip(boxes - (x0, y0, x0, y0), 0, (x1 - x0, y1 - y0, x1 - x0, y1 - y0))
    kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return inside, moved[kept]


def intensity_median(image: Image, region: Literal["top", "brightest"] = "top") -> float | None:
    """M of Eq. 1: the median of the region's non-black pixels, on 0 to 255.

    Args:
        image: (H, W) uint8, already cropped.
        region: ``top``: the topmost 20 % of rows, non-black (> 10) pixels only (our reading of "the top 20% of pixels
            from the image, excluding those that were black"; Fig. 1 outlines the upper part). ``brightest``: the other
            reading, the brightest 20 % of the non-black pixels.

    Returns:
        m, or None if the region has no such pixel.
    """
    if region == "top":
        pixels = image[: max(1, math.ceil(TOP_FRACTION * image.shape[0]))]
        values = pixels[pixels > BLACK]
    else:
        values = np.sort(image[image > BLACK])[-math.ceil(TOP_FRACTION * np.count_nonzero(image > BLACK)) :]
    return float(np.median(values)) if len(values) else None


def intensity_factor(image: Image, region: Literal["top", "brightest"] = "top") -> float:
    """70 / m of Eq. 1, the factor for every pixel.

    Args:
        image: (H, W) uint8, already cropped.
        region: See :func:`intensity_median`.

    Returns:
        70 / m; 1.0 when the region is black all over.
    """
    median = intensity_median(image, region)
    return 1.0 if median is None else TARGET_INTENSITY / median


def resize(image: Image, boxes: Boxes, height: int, width: int) -> tuple[Image, Boxes]:
    """Resize to (height, width): area interpolation when both sides shrink, else bilinear; boxes are scaled."""
    old_height, old_width = image.shape
    shrinks = height <= old_height and width <= old_width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    scale_x, scale_y = width / old_width, height / old_height
    return np.asarray(resized, dtype=np.uint8), boxes * (scale_x, scale_y, scale_x, scale_y)


@dataclass(frozen=True)
class PreparedImage:
    """What training needs of one case.

    Attributes:
        image: (height, width) uint8, not yet multiplied by ``factor``.
        boxes: (N, 4) in its pixels.
        factor: 70 / m of Eq. 1, applied after augmentation in floating point: exact, nothing is clipped.
        median: m of Eq. 1; None when the region is black all over (then ``factor`` is 1).
        original: (width, height) of the file, pixels.
        window: The part of the original that ``image`` shows; beyond ``kept`` lie zeros.
        kept: What is left of the original after the crop of borders (and to the aspect ratio, if that crops).
    """

    image: Image
    boxes: Boxes
    factor: float
    median: float | None
    original: tuple[int, int]
    window: Window
    kept: Window


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The steps of SPEC 2 in the paper's order: crop, rescale, resize.

    Attributes:
        height: Of the network's input, pixels.
        width: Of the network's input, pixels; width / height is the aspect ratio.
        crop: Cut off black borders.
        aspect: ``pad``, ``crop`` or ``stretch`` (:func:`fit_aspect`).
        intensity: ``top``, ``brightest`` (:func:`intensity_median`) or ``off``.
        clip: Limit the rescaled intensities to 255 (the paper does not).
    """

    height: int = 240
    width: int = 345
    crop: bool = True
    aspect: Literal["pad", "crop", "stretch"] = "pad"
    intensity: Literal["top", "brightest", "off"] = "top"
    clip: bool = False

    def __post_init__(self) -> None:
        """Refuse what no image can satisfy."""
        expect_choice("data.preprocessing.aspect", self.aspect, ("pad", "crop", "stretch"))
        expect_choice("data.preprocessing.intensity", self.intensity, ("top", "brightest", "off"))
        for name in ("crop", "clip"):
            expect_boolean(f"data.preprocessing.{name}", getattr(self, name))
        for name in ("height", "width"):
            expect_whole(f"data.preprocessing.{name}", getattr(self, name), 1)
        if min(self.height, self.width) < 32:
            raise InputError(f"Expected an input of at least 32x32 pixels, but got {self.height}x{self.width}.")

    def settings(self) -> dict[str, Any]:
        """What a prepared image depends on (``clip`` acts later, on the batch)."""
        return {name: value for name, value in asdict(self).items() if name != "clip"}

    def apply(self, image: Image, boxes: Boxes) -> PreparedImage:
        """Prepare one grey image (H, W) with its boxes (N, 4)."""
        old_height, old_width = image.shape
        x0, y0, x1, y1 = border_window(image, boxes) if self.crop else (0, 0, old_width, old_height)
        cropped, moved = take_window(image, boxes, (x0, y0, x1, y1))
        median = None if self.intensity == "off" else intensity_median(cropped, self.intensity)
        fitted = aspect_window(x1 - x0, y1 - y0, self.width / self.height, self.aspect)
        cropped, moved = take_window(cropped, moved, fitted)
        resized, moved = resize(cropped, moved, self.height, self.width)
        return PreparedImage(
            image=resized,
            boxes=moved,
            factor=1.0 if median is None else TARGET_INTENSITY / median,
            median=median,
            original=(old_width, old_height),
            window=(x0 + fitted[0], y0 + fitted[1], x0 + fitted[2], y0 + fitted[3]),
            kept=(max(x0, x0 + fitted[0]), max(y0, y0 + fitted[1]), min(x1, x0 + fitted[2]), min(y1, y0 + fitted[3])),
        )
