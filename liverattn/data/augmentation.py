"""Random crops, aspect ratios, translations, rotations and flips (paper: "Implementation"), and intensities (ours).

The only user of albumentations, which draws the same stream in every worker and, without persistent workers, in every
epoch, and which a global seed does not reach. Each sample is therefore seeded by (seed, epoch, case).
"""

import math
import os
import random
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.errors import InputError, expect_number

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it contacts the package index on import otherwise


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation of an image with its mask. The paper gives no magnitudes: all are our reading.

    There is no vertical flip: depth is physical.

    Attributes:
        crop: Smallest share of the area that a random crop keeps; 1 switches cropping off.
        aspect: Largest relative change of the crop's aspect ratio.
        translate: Largest shift, as a share of width and height.
        rotate: Largest rotation, degrees.
        flip: Probability of a horizontal flip.
        probability: Of shift and rotation taking place at all.
        gamma: Largest u, either way, of the exponent exp(u) that intensities / 255 are raised to: another display
            curve. Not in the paper, which augments geometry only.
        gain: Largest u, either way, of the factor exp(u) that they are multiplied by then. Not in the paper.
    """

    crop: float = 0.7
    aspect: float = 0.15
    translate: float = 0.05
    rotate: float = 10.0
    flip: float = 0.5
    probability: float = 0.8
    gamma: float = 0.0
    gain: float = 0.0

    def __post_init__(self) -> None:
        """Refuse magnitudes without a meaning."""
        for one in fields(self):
            expect_number(
                f"data.augmentation.{one.name}", getattr(self, one.name), 0, 180 if one.name == "rotate" else 1
            )
        if self.crop == 0 or self.aspect == 1 or self.translate == 1:
            raise InputError(
                "Expected data.augmentation to have crop above 0, aspect and translate below 1, but got "
                f"crop={self.crop}, aspect={self.aspect}, translate={self.translate}."
            )

    def build(self, size: tuple[int, int]) -> "Augmenter":
        """The transform for images of (H, W) = ``size``."""
        return Augmenter(self, size)


class Draw(NamedTuple):
    """One random transform of (H, W) images: crop and resize, then shift and rotate, then flip, then the display curve.

    ``crop`` is x0, y0, x1, y1 in pixels; ``matrix`` (2, 3) takes pixels of the resized crop to where they move, None
    where they stay; ``curve`` (256,) uint8 is the new value of each intensity, None where they stay.
    """

    crop: tuple[int, int, int, int]
    matrix: NDArray[np.float64] | None
    flipped: bool
    curve: NDArray[np.uint8] | None

    def of_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) intensities, transformed; what comes into view from outside is black."""
        moved = self._warped(image, cv2.INTER_LINEAR, cv2.INTER_LINEAR)
        return moved if self.curve is None else np.asarray(cv2.LUT(moved, self.curve), dtype=np.uint8)

    def of_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) of 0 and 1, transformed alike."""
        return self._warped(mask, cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST)  # NEAREST would shift what it enlarges

    def _warped(self, pixels: NDArray[np.uint8], enlarging: int, moving: int) -> NDArray[np.uint8]:
        (height, width), (x0, y0, x1, y1) = pixels.shape, self.crop
        out = cv2.resize(pixels[y0:y1, x0:x1], (width, height), interpolation=enlarging)
        if self.matrix is not None:
            out = cv2.warpAffine(out, self.matrix, (width, height), flags=moving)
        return np.asarray(cv2.flip(out, 1) if self.flipped else out, dtype=np.uint8)


@dataclass
class Augmenter:
    """Draws and applies one :class:`Augmentation`; picklable, so that each worker has its own.

    albumentations draws, OpenCV warps: bit for bit what ``albumentations.Compose`` of the same steps gives, which
    spends as long on checking as on warping. Unlike ``Compose.set_random_seed``, which begins the same stream in every
    step (what is flipped was then also cropped most), all steps draw from one stream, so they are independent.
    """

    settings: Augmentation
    size: tuple[int, int]
    _stream: random.Random = field(init=False, repr=False, default_factory=random.Random)
    _steps: tuple[Any, Any, Any] | None = field(init=False, repr=False, default=None)

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: tuple[int, int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Transform image and mask (both (H, W) uint8) alike.

        Args:
            image: Intensities; what comes into view from outside is black.
            mask: 0 and 1.
            seed: (seed, epoch, case): the only source of randomness.
        """
        drawn = self.draw(seed)
        return drawn.of_image(image), drawn.of_mask(mask)

    def draw(self, seed: tuple[int, int, int]) -> Draw:
        """What is done to one case in one epoch; ``seed`` is (seed, epoch, case)."""
        if self._steps is None:
            self._steps = _steps(self.settings, self.size, self._stream)
        self._stream.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        crop, move, flip = self._steps
        kept = crop.get_params_dependent_on_data({"shape": self.size}, {})["crop_coords"]
        matrix = self._movement(move) if move.should_apply() else None
        return Draw(kept, matrix, flip.should_apply(), self._curve())

    def _movement(self, move: Any) -> NDArray[np.float64]:
        """(2, 3): rotation about the center, then translation.

        What ``Affine.get_params_dependent_on_data`` gives from the same draws, without its ten products of matrices.
        """
        shift = move._get_translate_params(self.size)
        move._get_shear_params()  # nothing but a draw, as the next one
        move._get_scale(move.scale, move.keep_ratio, move.balanced_scale, self._stream)
        angle = np.deg2rad(self._stream.uniform(*move.rotate) % 360)
        cosine, sine = np.cos(angle), np.sin(angle)
        x, y = self.size[1] / 2 - 0.5, self.size[0] / 2 - 0.5
        return np.array(
            [
                [cosine, sine, -cosine * x - sine * y + (x + shift["x"])],
                [-sine, cosine, sine * x - cosine * y + (y + shift["y"])],
            ]
        )

    def _curve(self) -> NDArray[np.uint8] | None:
        limits = self.settings.gamma, self.settings.gain
        if limits == (0, 0):
            return None
        gamma, gain = (math.exp(self._stream.uniform(-limit, limit)) for limit in limits)
        curve = 255 * gain * (np.arange(256) / 255) ** gamma
        return np.asarray(np.rint(curve.clip(max=255)), dtype=np.uint8)


def _steps(settings: Augmentation, size: tuple[int, int], stream: random.Random) -> tuple[Any, Any, Any]:
    import albumentations as A

    aspect = size[1] / size[0]
    crop = A.RandomResizedCrop(
        size=size,
        scale=(settings.crop, 1.0),
        ratio=(aspect * (1 - settings.aspect), aspect * (1 + settings.aspect)),
    )
    move = A.Affine(
        translate_percent=(-settings.translate, settings.translate),
        rotate=(-settings.rotate, settings.rotate),
        p=settings.probability,
    )
    flip = A.HorizontalFlip(p=settings.flip)
    for step in (crop, move, flip):
        step.py_random = stream
    return crop, move, flip
