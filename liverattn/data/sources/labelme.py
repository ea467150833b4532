"""LabelMe JSON: one file per image, outlines as points in pixels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, around_center, enclosing
from liverattn.data.classes import ClassTable
from liverattn.data.documents import Part, read_json
from liverattn.data.image_files import ImageFiles
from liverattn.data.importing import OUTLINED, ImportedSource

AREAS = ("polygon", "rectangle", "oriented_rectangle", "mask", "linestrip")  # a mask's points are its box


class _Shape(Part):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    flags: dict[str, bool] | None = None

    def has_area(self) -> bool:
        return self.shape_type in AREAS or (self.shape_type == "circle" and len(self.points) == 2)

    def edges(self) -> Edges:
        if self.shape_type == "circle" and self.has_area():
            (x, y), rim = self.points
            radius = math.dist((x, y), rim)
            return around_center(x, y, 2 * radius, 2 * radius)
        if not self.has_area():
            raise ValueError(
                f"is a {self.shape_type!r}, which has no area; valid: circle, {', '.join(AREAS)}, or anything of a "
                "class that data.classes ignores"
            )
        return enclosing(self.points)


class _Document(Part):
    imagePath: str  # noqa: N815 # the format's name
    shapes: list[_Shape]
    flags: dict[str, bool] = Field(default_factory=dict)
    imageWidth: int | None = None  # noqa: N815
    imageHeight: int | None = None  # noqa: N815


@dataclass(frozen=True, kw_only=True)
class LabelMeSource(ImportedSource):
    """Cases from LabelMe files; a flag that is set says something of the whole image."""

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        classes = ClassTable(self.classes)
        for path in self.exports(root, "**/*.json"):
            document = read_json(path, _Document, findings)
            if document is not None:
                yield _annotated(document, path, classes, findings)


def _annotated(document: _Document, path: Path, classes: ClassTable, findings: Findings) -> AnnotatedImage:
    file, regions = str(path.parent / document.imagePath.replace("\\", "/")), []
    for i, shape in enumerate(document.shapes):
        if not shape.has_area() and classes.ignores(shape.label):
            continue
        try:
            regions.append(Region(shape.label, shape.edges()))
            findings.conversions[OUTLINED] += shape.shape_type != "rectangle"
            findings.unread.update(classes.among(shape.flags or {}))
        except ValueError as error:
            findings.refuse(file, f"{path}: shapes[{i}] {error}")
    width, height = document.imageWidth, document.imageHeight
    return AnnotatedImage(
        file,
        tuple(regions),
        tuple(name for name, is_set in document.flags.items() if is_set),
        size=None if width is None or height is None else (width, height),
    )
