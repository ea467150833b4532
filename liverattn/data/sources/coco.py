"""COCO JSON: one file for many images; ``bbox`` is [x, y, width, height] in pixels."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, enclosing, rotated
from liverattn.data.classes import ClassTable
from liverattn.data.documents import Part, read_json
from liverattn.data.image_files import ImageFiles
from liverattn.data.importing import ROTATED, ImportedSource

Identifier = int | str
ROBOFLOW = "_annotations.coco.json"


class _Image(Part):
    id: Identifier
    file_name: str
    width: int | None = None
    height: int | None = None
    patient_id: str | None = None  # not COCO's, but that of our own exports


class _Category(Part):
    id: Identifier
    name: str


class _Attributes(Part):
    model_config = ConfigDict(extra="allow")  # the user's own, too
    rotation: float = 0.0


class _Annotation(Part):
    image_id: Identifier
    category_id: Identifier
    bbox: tuple[float, float, float, float] | tuple[()] | None = None
    segmentation: list[list[float]] | dict[str, object] | None = Field(default_factory=list)
    attributes: _Attributes = _Attributes()  # CVAT writes the angle of a turned box there, beside the upright box

    def edges(self) -> Edges:
        if self.bbox:
            x, y, width, height = self.bbox
            return x, y, x + width, y + height
        if not isinstance(self.segmentation, list) or any(len(polygon) % 2 for polygon in self.segmentation):
            raise ValueError("has neither a bbox nor polygons")
        return enclosing([point for p in self.segmentation for point in zip(p[::2], p[1::2], strict=True)])


class _Export(Part):
    images: list[_Image]
    annotations: list[_Annotation]  # a file without it says nothing of its images
    categories: list[_Category] = Field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CocoSource(ImportedSource):
    """Cases from COCO's object detection format, as most tools export it; several files are joined.

    Roboflow's has one in each of the folders train, valid and test, beside the images.
    """

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        classes = ClassTable(self.classes)
        for path in self.exports(root, "*.json", "annotations/*.json", f"*/{ROBOFLOW}"):
            export = read_json(path, _Export, findings)
            if export is not None:
                yield from _annotated(export, path, classes, findings)


def _annotated(export: _Export, path: Path, classes: ClassTable, findings: Findings) -> Iterator[AnnotatedImage]:
    names = {category.id: category.name for category in export.categories}
    regions: dict[Identifier, list[Region]] = {image.id: [] for image in export.images}
    folder = f"{path.parent}/" if path.name == ROBOFLOW else ""
    files = {image.id: folder + image.file_name for image in export.images}
    if len(regions) < len(export.images):
        findings.errors.append(f"{path}: several images have the same id")
    called = {(category.id, category.name) for category in export.categories}
    if len(names) < len(called):
        findings.errors.append(f"{path}: several categories have the same id: {_twice(called)}")
    for i, annotation in enumerate(export.annotations):
        findings.unread.update(classes.among(annotation.attributes.model_extra or {}))
        try:
            regions[annotation.image_id].append(Region(names[annotation.category_id], _edges(annotation, findings)))
        except KeyError as error:
            findings.errors.append(f"{path}: annotations[{i}] refers to {error}, which is no image or category")
        except ValueError as error:
            findings.refuse(files[annotation.image_id], f"{path}: annotations[{i}] {error}")
    for image in export.images:
        size = None if image.width is None or image.height is None else (image.width, image.height)
        yield AnnotatedImage(files[image.id], tuple(regions[image.id]), size=size, patient=image.patient_id)


def _twice(called: Iterable[tuple[Identifier, str]]) -> str:
    counts = Counter(identifier for identifier, _ in called)
    return ", ".join(sorted(f"{name!r} ({identifier})" for identifier, name in called if counts[identifier] > 1))


def _edges(annotation: _Annotation, findings: Findings) -> Edges:
    if not annotation.attributes.rotation:
        return annotation.edges()
    findings.conversions[ROTATED] += 1
    return rotated(annotation.edges(), annotation.attributes.rotation)
