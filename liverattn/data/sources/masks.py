"""Binary masks beside the images, one or several per image, as in BUSI: ``A.png``, ``A_mask.png``, ``A_mask_1.png``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region
from liverattn.data.classes import ClassTable
from liverattn.data.image_files import ImageFiles
from liverattn.data.images import ImageError, image_size
from liverattn.data.importing import OUTLINED, ImportedSource
from liverattn.errors import InputError

SPECK = 16  # pixels: a smaller component is compression noise or a slip of the brush
SPECKS = f"speck(s) of fewer than {SPECK} pixels in masks were passed over"
FEW = 16  # values: as many a lossless mask of several labels may have
JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}
RIM = 0.1  # of the largest value: as far from black and white a JPEG of a binary mask may have flat areas


@dataclass(frozen=True, kw_only=True)
class MasksSource(ImportedSource):
    """Cases from masks; every connected component is a lesion.

    What the image shows is said by the folder that it lies in, where ``classes`` knows it (BUSI: benign, malignant,
    normal); else a mask that is not empty is a lesion.

    Attributes:
        suffix: What a mask's name has after the image's name, before an optional ``_1``, ``_2``, ...; may be empty
            where masks lie in a folder of their own (``annotations``).
        value: The mask's value of a lesion; None: masks have two values.
    """

    suffix: str = "_mask"
    value: int | None = None

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | None):
            raise InputError(f"Expected data.value to be a mask's value of a lesion or null, but got {self.value!r}.")
        masks = self._masks(root)
        images.leave_out(path.relative_to(root).as_posix() for path in masks if path.is_relative_to(root))
        classes = ClassTable(self.classes)
        by_image: dict[str, list[Path]] = {}
        named = {mask: str(mask.with_name(self._image_name(mask))) for mask in masks}
        finder = images.finder(named.values())
        for mask, name in named.items():
            try:
                by_image.setdefault(finder.find(name), []).append(mask)
            except ValueError as error:
                findings.errors.append(f"the image of {mask} {error}")
        values: set[int] = set()
        for path, found in by_image.items():
            specks = findings.conversions[SPECKS]
            boxes = [box for mask in found for box in self._boxes(mask, root, path, values, findings)]
            names = _folder_name(path, classes)
            if findings.conversions[SPECKS] > specks and not (boxes or names):
                findings.refuse(
                    path,
                    f"{found[0]}: marks nothing but specks of fewer than {SPECK} pixels, so it is unknown whether "
                    "there is a lesion: draw it larger, or clear the mask",
                )
            yield AnnotatedImage(path, tuple(Region(None, box) for box in boxes), names)
        if self.value is not None and values and self.value not in values:
            more = ", ..." if len(values) > FEW else ""
            findings.errors.append(
                f"no mask has the value {self.value} that data.value says; found "
                f"{', '.join(map(str, sorted(values)[:FEW]))}{more}"
            )

    def _masks(self, root: Path) -> list[Path]:
        if not self.suffix and self.annotations is None:
            raise InputError(
                "data.suffix may be empty only where masks lie in a folder of their own: data.annotations=..."
            )
        place = root if self.annotations is None else root / Path(self.annotations).expanduser()
        found = [place / path for path in ImageFiles(place).paths]
        masks = [path for path in found if self._image_name(path) != path.stem or not self.suffix]
        if not masks:
            raise InputError(
                f"No masks named like IMAGE{self.suffix}.png in {place}. Say how they are named: data.suffix=..."
            )
        return masks

    def _image_name(self, mask: Path) -> str:
        return re.sub(rf"{re.escape(self.suffix)}(_\d+)?$", "", mask.stem) if self.suffix else mask.stem

    def _boxes(self, mask: Path, root: Path, image: str, values: set[int], findings: Findings) -> list[Edges]:
        """Boxes of a mask's components; its values are added to ``values``."""
        try:
            pixels = _pixels(mask, white=255 if self.value == 255 else 1)
            values |= set(np.unique(pixels).tolist())
            inside = _lesion(pixels, self.value, is_exact=mask.suffix.lower() not in JPEG)
            if image_size(root / image) != inside.shape[::-1]:
                raise ImageError(
                    f"has {inside.shape[1]}x{inside.shape[0]} pixels, unlike its image {PurePosixPath(image).name}"
                )
        except ImageError as error:
            findings.refuse(image, f"{mask}: {error}")
            return []
        _, _, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
        x, y, width, height, area = stats[1:].astype(float).T
        large = area >= SPECK
        if not large.all():
            findings.conversions[SPECKS] += int((~large).sum())
        findings.conversions[OUTLINED] += int(large.sum())
        boxes = np.stack([x, y, x + width, y + height], axis=1)[large]
        return [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in boxes]


def _pixels(mask: Path, *, white: int) -> NDArray[Any]:
    """(H, W) the values of a mask; ``white``: that of a mask of one bit, which has none of its own."""
    image_size(mask)
    try:
        with Image.open(mask) as opened:
            # The values of a palette image are labels; its colors mean nothing.
            pixels = np.asarray(opened if opened.mode in ("P", "L", "1", "I", "I;16") else opened.convert("L"))
            alpha = np.asarray(opened.getchannel("A")) if "A" in opened.getbands() else None
            pages = getattr(opened, "n_frames", 1)
    except Exception as error:  # Pillow lets nearly any kind through where pixels are damaged
        raise ImageError(f"the image data are damaged ({error})") from None
    if pages > 1:
        raise ImageError(f"holds {pages} pages: save each as a mask of its own, numbered _1, _2, ...")
    if alpha is not None and np.ptp(pixels) == 0 < np.ptp(alpha):
        raise ImageError("is of one color, and differs in transparency only: save it as a mask of black and white")
    return pixels * np.uint8(white) if pixels.dtype == bool else pixels


def _lesion(pixels: NDArray[Any], value: int | None, *, is_exact: bool) -> NDArray[np.bool_]:
    """(H, W) True where the mask marks a lesion."""
    if value is not None:
        return np.asarray(pixels == value)
    values = np.unique(pixels)
    largest = max(int(values.max()), 1)
    between = values[1:-1]
    if len(values) > FEW or not is_exact:
        values = _of_areas(pixels)
        between = values[(values > RIM * largest) & (values < (1 - RIM) * largest)]
    if len(between):
        more = ", ..." if len(values) > FEW else ""
        raise ImageError(
            f"has the values {', '.join(map(str, values[:FEW]))}{more}: say which one is a lesion with data.value=, or "
            "give all lesions the same"
        )
    inside = np.asarray(pixels > largest / 2)
    if inside[[0, 0, -1, -1], [0, -1, 0, -1]].all() and not inside.all():
        raise ImageError(
            "marks all four corners: if black is what it marks, give data.value=0; if white, data.value=255"
        )
    return inside


def _of_areas(pixels: NDArray[Any]) -> NDArray[Any]:
    """The values that fill 3x3 pixels anywhere, unlike those of blurred edges."""
    corners = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3))
    inner = pixels[1:-1, 1:-1]
    return np.unique(inner[(corners == inner[..., None, None]).all(axis=(2, 3))])


def _folder_name(path: str, classes: ClassTable) -> tuple[str, ...]:
    known = [name for name in reversed(PurePosixPath(path).parts[:-1]) if classes.knows(name)]
    return tuple(known[:1])
