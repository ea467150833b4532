"""What a person can say of an image, as cells of the table of cases."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from liverattn.data.box_cells import parse_boxes
from liverattn.data.manifest import LESION_TYPES, MALIGNANT_TYPES

Box = tuple[int, int, int, int]
SMALLEST_SIDE = 2  # pixels: what is smaller was a click
# One key per answer; a type says whether the lesion is malignant.
LABEL_KEYS = {
    "n": "no lesion",
    "b": "benign",
    "m": "malignant",
    "u": "unknown kind",
    **{str(number): name for number, name in enumerate(LESION_TYPES, 1)},
}


@dataclass(frozen=True)
class Labels:
    """The label cells of one case, as they stand in the table (see :mod:`liverattn.data.manifest`).

    Attributes:
        lesion: ``0``, ``1``, or blank: nobody has looked yet.
        malignant: ``0``, ``1`` or blank.
        type: One of the lesion types or blank.
        boxes: JSON ``[[x0, y0, x1, y1], ...]`` in original pixels, half-open, or blank.
    """

    lesion: str = ""
    malignant: str = ""
    type: str = ""
    boxes: str = ""

    @property
    def has_lesion(self) -> bool:
        """Lesion is 1, also as spreadsheets write it."""
        return self.lesion.strip() in ("1", "1.0")

    @property
    def is_complete(self) -> bool:
        """Nothing is left to do: no lesion, or a lesion with boxes."""
        return bool(self.boxes.strip()) if self.has_lesion else bool(self.lesion.strip())

    def box_list(self) -> list[list[float]]:
        """The boxes; none where the cell is blank."""
        return parse_boxes(self.boxes).tolist() if self.boxes.strip() else []

    def describe(self) -> str:
        """The answer in the words of :data:`LABEL_KEYS`; blank where there is none."""
        if not self.has_lesion:
            return "no lesion" if self.lesion.strip() else ""
        malignancy = {"0": "benign", "1": "malignant"}.get(self.malignant.strip()[:1], "unknown kind")
        return self.type.strip() or malignancy

    def answered(self, answer: str) -> "Labels":
        """The cells after an answer; "no lesion" removes boxes, every other one keeps them.

        Args:
            answer: A value of :data:`LABEL_KEYS`. Benign and malignant keep a type that goes with them.
        """
        if answer == "no lesion":
            return Labels(lesion="0")
        if answer in LESION_TYPES:
            return Labels("1", str(int(answer in MALIGNANT_TYPES)), answer, self.boxes)
        malignant = {"benign": "0", "malignant": "1", "unknown kind": ""}[answer]
        fits = malignant == str(int(self.type.strip() in MALIGNANT_TYPES))
        return Labels("1", malignant, self.type if fits else "", self.boxes)

    def boxed(self, boxes: Sequence[Sequence[float]]) -> "Labels":
        """The cells with other boxes; the first box makes it a lesion, removing the last one leaves it open."""
        if not boxes:
            return replace(self, boxes="")
        return replace(self, lesion="1", boxes=json.dumps([list(box) for box in boxes]))


def whole_boxes(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> list[Box]:
    """Boxes in whole pixels inside an image; those with a side below :data:`SMALLEST_SIDE` are left out.

    Args:
        boxes: ``x0, y0, x1, y1`` each, pixels; corners in any order.
        size: (width, height) of the image.
    """
    width, height = size
    found = []
    for xa, ya, xb, yb in boxes:
        x0, x1 = (min(max(round(x), 0), width) for x in sorted((xa, xb)))
        y0, y1 = (min(max(round(y), 0), height) for y in sorted((ya, yb)))
        if min(x1 - x0, y1 - y0) >= SMALLEST_SIDE:
            found.append((x0, y0, x1, y1))
    return found
