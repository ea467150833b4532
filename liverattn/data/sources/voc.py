"""Pascal VOC XML: one file per image; ``bndbox`` in pixels."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, around_center, rotated
from liverattn.data.documents import number, read_xml
from liverattn.data.image_files import Finder, ImageFiles
from liverattn.data.importing import ROTATED, ImportedSource
from liverattn.errors import InputError

LISTED = re.compile(r'\s*(?:"([^"]+)"|(\S+))')


@dataclass(frozen=True, kw_only=True)
class VocSource(ImportedSource):
    """Cases from Pascal VOC files, as LabelImg and most other tools write them.

    Attributes:
        one_based: Edges count pixels from 1 and include the last one, as in the VOC data themselves; most tools count
            from 0 and give edges between pixels.
    """

    one_based: bool = False

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        described = []
        for path in self.exports(root, "**/*.xml"):
            document = read_xml(path, "annotation", findings)
            if document is None:
                continue
            # The folder of the file says more than <folder> and <path>, which are those of the machine that drew.
            file = path.parent / (document.findtext("filename") or path.stem).replace("\\", "/").rpartition("/")[2]
            try:
                described.append(self._annotated(document, str(file), findings))
            except (ValueError, OverflowError) as error:
                findings.refuse(str(file), f"{path}: {error}")
                described.append(AnnotatedImage(str(file)))
        yield from described
        yield from _others(self._listed(root, findings), [image.file for image in described], images)

    def _listed(self, root: Path, findings: Findings) -> list[str]:
        """Names in the lists of images, where some tools put those without boxes and write no file for them."""
        try:
            lists = self.exports(root, "**/ImageSets/Main/*.txt")
        except InputError:
            return []
        try:
            lines = [
                line
                for path in lists
                if path.suffix == ".txt"
                for line in path.read_text(encoding="utf-8-sig").splitlines()
            ]
        except (OSError, ValueError) as error:
            findings.errors.append(f"{lists[0].parent}: a list of images cannot be read ({error})")
            return []
        # A name with blanks is quoted; a number after a name says whether the image shows a class.
        return sorted({match[1] or match[2] for line in lines if (match := LISTED.match(line))})

    def _annotated(self, document: Element, file: str, findings: Findings) -> AnnotatedImage:
        return AnnotatedImage(
            file,
            tuple(
                Region((place.findtext("name") or "").strip() or None, self._edges(place, findings))
                for place in document.iter("object")
            ),
            size=_size(document.find("size")),
        )

    def _edges(self, place: Element, findings: Findings) -> Edges:
        turned = place.find("robndbox")
        if turned is not None:
            findings.conversions[ROTATED] += 1
            x, y, width, height = (number(turned, name) for name in ("cx", "cy", "w", "h"))
            return rotated(around_center(x, y, width, height), math.degrees(number(turned, "angle")))
        box = place.find("bndbox")
        if box is None:
            raise ValueError("an <object> has no <bndbox>")
        x0, y0, x1, y1 = (number(box, name) for name in ("xmin", "ymin", "xmax", "ymax"))
        return (x0 - 1, y0 - 1, x1, y1) if self.one_based else (x0, y0, x1, y1)


def _size(element: Element | None) -> tuple[int, int] | None:
    if element is None:
        return None
    size = (int(number(element, "width")), int(number(element, "height")))
    return size if any(size) else None  # some tools write 0 for what they do not know


def _others(names: Sequence[str], described: Sequence[str], images: ImageFiles) -> Iterator[AnnotatedImage]:
    """Listed images that no file describes: those without boxes."""
    finder = images.finder([*described, *names])
    found = {path for file in described if (path := _found(finder, file)) is not None}
    return (AnnotatedImage(name) for name in names if _found(finder, name) not in found)


def _found(finder: Finder, file: str) -> str | None:
    try:
        return finder.find(file)
    except ValueError:
        return None  # said where all images are found
