"""CVAT XML for images (version 1.1): one file for many images, shapes in pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, enclosing, rotated, rotated_ellipse
from liverattn.data.classes import ClassTable
from liverattn.data.documents import number, read_xml
from liverattn.data.image_files import ImageFiles
from liverattn.data.importing import OUTLINED, ROTATED, ImportedSource

AREAS = ("box", "ellipse", "polygon", "mask")
SPOKEN = ("tag", "attribute")


@dataclass(frozen=True, kw_only=True)
class CvatSource(ImportedSource):
    """Cases from CVAT's XML for images; a tag says something of the whole image."""

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        classes = ClassTable(self.classes)
        for path in self.exports(root, "*.xml"):
            document = read_xml(path, "annotations", findings)
            if document is not None and document.find("track") is not None:
                findings.errors.append(
                    f"{path}: is CVAT's format for video, whose tracks name no images: export 'CVAT for images 1.1'"
                )
                continue
            for i, element in enumerate(() if document is None else document.iter("image")):
                try:
                    yield _annotated(element, classes, findings)
                except (ValueError, OverflowError) as error:
                    file = element.get("name")
                    said = f"{path}: image [{i}] {file!r}: {error}"
                    if file:
                        findings.refuse(file, said)
                    else:
                        findings.errors.append(said)


def _annotated(image: Element, classes: ClassTable, findings: Findings) -> AnnotatedImage:
    file = image.get("name")
    if not file:
        raise ValueError("has no name")
    told = [shape for shape in image if not classes.ignores(shape.get("label"))]
    unknown = sorted({str(shape.tag) for shape in told} - {*AREAS, *SPOKEN})
    if unknown:
        raise ValueError(
            f"holds <{unknown[0]}>, which has no area; valid: {', '.join(AREAS)} and tag, or anything of a class that "
            "data.classes ignores"
        )
    for shape in image:
        findings.unread.update(classes.among({str(one.get("name")): one.text for one in shape.iter("attribute")}))
    return AnnotatedImage(
        file,
        tuple(Region(shape.get("label"), _edges(shape, findings)) for shape in image if shape.tag in AREAS),
        tuple(str(tag.get("label")) for tag in image.iter("tag")),
        size=(int(number(image, "width")), int(number(image, "height"))),
    )


def _edges(shape: Element, findings: Findings) -> Edges:
    angle = number(shape, "rotation") if "rotation" in shape.keys() else 0.0  # noqa: SIM118 # an Element is no mapping
    findings.conversions[ROTATED] += bool(angle)
    findings.conversions[OUTLINED] += shape.tag != "box"
    if shape.tag == "box":
        x0, y0, x1, y1 = (number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        return rotated((x0, y0, x1, y1), angle)
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = (number(shape, name) for name in ("cx", "cy", "rx", "ry"))
        return rotated_ellipse(x, y, radius_x, radius_y, angle)
    if shape.tag == "mask":
        left, top, width, height = (number(shape, name) for name in ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    return enclosing([[float(word) for word in pair] for pair in pairs])
