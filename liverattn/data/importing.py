"""From what a tool exported to checked cases: images are found, names get their meaning, boxes their limits."""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pandas as pd

from liverattn.data.annotations import AnnotatedImage, Edges, Findings
from liverattn.data.classes import MEANINGS, ClassTable, Meaning, judge
from liverattn.data.exclusion import left_out, or_exclude
from liverattn.data.image_files import ImageFiles, natural_order
from liverattn.data.images import ImageError, image_size, orientation
from liverattn.data.manifest import Manifest, check_manifest
from liverattn.errors import InputError, InputListError, expect_choice

OVERREACH = (
    2.0,
    0.01,
)  # pixels, share of the side: so far a hand-drawn edge beyond the image is cut; further is an error
ROTATED = "rotated box(es) became their upright bounding box"
OUTLINED = "outline(s) became their bounding box"
PERCENT = "region(s) were in shares of the image's size and became pixels"


@dataclass(frozen=True, kw_only=True)
class ImportedSource(ABC):
    """Cases from the export of an annotation tool.

    Attributes:
        root: Folder of the images, at any depth; the manifest's paths are relative to it.
        annotations: The export: a file or folder, relative to ``root`` or absolute; None: it is looked for below
            ``root``.
        classes: Class name to one of :data:`liverattn.data.classes.MEANINGS`.
        unlisted: What images below ``root`` are that the export does not mention: ``lesion_free``, ``ignore``, or None:
            they are left out with a warning, because several tools drop images without boxes.
        patient: Regular expression; its first group, found in an image's path, names the patient. None: what the
            export says, or every image for itself.
    """

    root: str
    annotations: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    unlisted: Literal["lesion_free", "ignore"] | None = None
    patient: str | None = None

    def manifest(self) -> Manifest:
        """Read the export and check the cases.

        Raises:
            InputError: Absent, not of this format, or any part of it cannot be used (all of them are listed).
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(
                f"The folder {root} does not exist or cannot be read. Give that of the images: data.root=..."
            )
        findings, images = Findings(), ImageFiles(root)
        annotated = list(self.read(root, images, findings))
        cases = _Cases(self, root, images, findings)
        rows = cases.rows(annotated)
        if findings.errors:
            heading = f"{root}: {len(findings.errors)} problem(s) in the annotations"
            remedy = f"Correct these in the tool or the files, and run again{or_exclude(cases.unusable)}."
            raise InputListError(heading, findings.errors, remedy)
        return check_manifest(pd.DataFrame(rows), root, str(root), findings.warnings, _notes(findings))

    @abstractmethod
    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterable[AnnotatedImage]:
        """What the export says, image by image; what cannot be used goes to ``findings``."""

    def exports(self, root: Path, *patterns: str) -> list[Path]:
        """The files of the export.

        Args:
            root: Of the images.
            patterns: What such files match, relative to the export's folder.

        Raises:
            InputError: None.
        """
        place = root if self.annotations is None else root / Path(self.annotations).expanduser()
        if place.is_file():
            return [place]
        found = sorted({path for pattern in patterns for path in place.glob(_any_case(pattern)) if path.is_file()})
        found = [path for path in found if not path.name.startswith(".") and "__MACOSX" not in path.parts]
        if not found:
            raise InputError(
                f"No annotations ({', '.join(patterns)}) in {place}. Give the export's file or folder as "
                "data.annotations=..."
            )
        return found


def _any_case(pattern: str) -> str:
    stem, _, suffix = pattern.rpartition(".")
    return f"{stem}.{''.join(f'[{letter}{letter.upper()}]' for letter in suffix)}"


class _Cases:
    """Rows of a manifest out of annotated images."""

    def __init__(self, source: ImportedSource, root: Path, images: ImageFiles, findings: Findings) -> None:
        self.source, self.root, self.images, self.findings = source, root, images, findings
        self.classes = ClassTable(source.classes)
        self.left_out: frozenset[str] = frozenset()
        self.unusable: list[str] = []
        self.patient = _pattern(source.patient)
        expect_choice("data.unlisted", source.unlisted, ("lesion_free", "ignore", None))

    def rows(self, annotated: Sequence[AnnotatedImage]) -> list[dict[str, Any]]:
        files = {image.file for image in annotated}  # others are known by their errors alone
        annotated = [*annotated, *(AnnotatedImage(file) for file in self.findings.of_images if file not in files)]
        found = self._located(annotated)
        unlisted = [path for path in self.images.paths if path not in found]
        waiting = [path for path, image in found.items() if not image.reviewed]
        if links := self.images.links:
            said = f"{len(links)} folder(s) below {self.root} are links, which are not followed: {', '.join(links[:5])}"
            self.findings.warnings.append(said)
        if waiting:
            self.findings.warnings.append(f"{len(waiting)} image(s) that nobody has annotated yet are left out")
        found = {path: image for path, image in found.items() if image.reviewed}
        if self.source.unlisted == "lesion_free":
            found |= {path: AnnotatedImage(path) for path in unlisted}
        if not found and not self.findings.errors and not self.findings.of_images:
            self.findings.errors.append("the annotations name no image that somebody has annotated")
        names = _identifiers(list(found))
        self.left_out = left_out(list(names.values()))
        gone = {found[path].file for path, name in names.items() if name in self.left_out}
        told = [image for image in annotated if image.file not in gone]
        self._count_names(told)
        self.findings.errors += [error for image in told for error in self.findings.of_images.get(image.file, ())]
        kept = [self._row(path, names[path], found[path]) for path in sorted(found, key=natural_order)]
        rows = [row for row in kept if row is not None]
        self.findings.warnings += [
            f"{count} region(s) are called {name!r} by a flag or attribute, which is not read: make it their label, or "
            "say it of the whole image"
            for name, count in sorted(self.findings.unread.items())
        ]
        if self.source.unlisted is None:
            self._complain(len(unlisted), any(row["lesion"] == "0" for row in rows))
        return rows

    def _count_names(self, annotated: Sequence[AnnotatedImage]) -> None:
        regions = Counter(region.name for image in annotated for region in image.regions if region.name is not None)
        whole = Counter(name for image in annotated for name in image.names)
        for name in sorted({*regions, *whole}):
            counted = [f"{n} {what}" for n, what in ((regions[name], "region(s)"), (whole[name], "image(s)")) if n]
            if self.classes.knows(name):
                meaning = _described(self.classes[name])
                self.findings.conversions[f"class {name!r} ({', '.join(counted)}) means {meaning}"] += 1
            else:
                self.findings.errors.append(
                    f"unknown class {name!r} ({', '.join(counted)}): say what it means, one of {', '.join(MEANINGS)}, "
                    f"with '+data.classes={{\"{name}\": ...}}'"
                )

    def _located(self, annotated: Sequence[AnnotatedImage]) -> dict[str, AnnotatedImage]:
        found: dict[str, AnnotatedImage] = {}
        finder = self.images.finder(image.file for image in annotated)
        for image in annotated:
            try:
                path = finder.find(image.file)
                if path in found:
                    raise ValueError(f"is the same image as {found[path].file!r}: each may be listed once")
                found[path] = image
            except ValueError as error:
                self.findings.errors.append(f"{image.file!r} {error}")
        return found

    def _complain(self, unlisted: int, has_lesion_free: bool) -> None:
        if unlisted:
            self.findings.warnings.append(
                f"{unlisted} image(s) below {self.root} are not in the annotations and are left out. Some tools drop "
                "images without boxes: if these are lesion-free, give data.unlisted=lesion_free; if not, "
                "data.unlisted=ignore"
            )
        elif not has_lesion_free:
            self.findings.warnings.append(
                "no image is without a lesion. If the tool dropped the lesion-free ones, export them too, or put them "
                "below data.root and give data.unlisted=lesion_free"
            )

    def _row(self, path: str, name: str, image: AnnotatedImage) -> dict[str, Any] | None:
        if name in self.left_out:
            return {"image_id": name, "path": path, "lesion": None}  # nothing else is looked at
        if image.file in self.findings.of_images:
            self.unusable.append(name)
            return None  # said already
        try:
            if not all(self.classes.knows(said) for said in _names(image)):
                return None  # said already
            whole = [meaning for said in image.names if (meaning := self.classes[said]) is not None]
            places: dict[Edges, list[Meaning]] = {}  # one region may have several names
            for region in image.regions:
                if (meaning := self.classes[region.name]) is not None:
                    places.setdefault(region.edges, []).append(meaning)
            case = judge(whole, [judge(said, []) for said in places.values()])
            boxes = self._boxes(path, image, list(places)) if case.lesion else []
        except ImageError:
            case, boxes = Meaning(0), []  # the manifest's check names the image
        except ValueError as error:
            self.findings.errors.append(f"{path} {error}")
            self.unusable.append(name)
            return None
        return {
            "image_id": name,
            "path": path,
            "patient_id": self._patient(path, image),
            "lesion": str(case.lesion),
            "malignant": None if case.malignant is None else str(case.malignant),
            "type": case.type,
            "boxes": json.dumps(boxes) if boxes else None,
        }

    def _boxes(self, path: str, image: AnnotatedImage, edges: Sequence[Edges]) -> list[Edges]:
        size = image_size(self.root / path)
        if edges:
            refuse_turned(self.root / path)
        if image.size is not None and image.size != size:
            turned = " (by a quarter turn: save it upright)" if image.size == size[::-1] else ""
            raise ValueError(
                f"has {size[0]}x{size[1]} pixels, but was annotated at {image.size[0]}x{image.size[1]}{turned}: "
                "annotations and images are of different versions"
            )
        return [self._inside(box, size) for box in edges]

    def _inside(self, box: Edges, size: tuple[int, int]) -> Edges:
        width, height = size
        cut = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        reach = max(
            abs(a - b) / max(OVERREACH[0], OVERREACH[1] * side) for a, b, side in zip(box, cut, size * 2, strict=True)
        )
        if not reach <= 1 or not (cut[0] < cut[2] and cut[1] < cut[3]):
            raise ValueError(f"has a box {_shown(box)} that is empty or reaches outside its {width}x{height} pixels")
        if reach:
            self.findings.conversions["box(es) reached a little beyond the image and were cut"] += 1
        return cut

    def _patient(self, path: str, image: AnnotatedImage) -> str | None:
        if self.patient is None:
            return image.patient
        match = self.patient.search(path)
        if match is None or not match[1]:
            raise InputError(f"data.patient={self.source.patient!r} finds no patient in {path!r}.")
        return match[1]


def refuse_turned(path: Path) -> None:
    """Raise ValueError where an image that has boxes is turned by its EXIF orientation."""
    # A size tells only quarter turns, and shares of it not even these; tools differ in what they show.
    turn = orientation(path)
    if turn != 1:
        raise ValueError(
            f"is turned by its EXIF orientation ({turn}), and nothing says whether its boxes are meant for the image "
            "as stored or as shown: save it upright, look at its boxes in the tool, and export them again"
        )


def _names(image: AnnotatedImage) -> list[str]:
    return [*image.names, *(region.name for region in image.regions if region.name is not None)]


def _described(meaning: Meaning | None) -> str:
    return next(name for name, known in MEANINGS.items() if known == meaning)


def _shown(box: Edges) -> str:
    return str([float(f"{edge:.6g}") for edge in box])


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
        if pattern.groups < 1:
            raise re.error("it has no group in parentheses")
    except re.error as error:
        raise InputError(
            f"Expected data.patient to be a regular expression such as '(P[0-9]+)_', but got {text!r}: {error}."
        ) from None
    return pattern


def _identifiers(paths: Sequence[str]) -> dict[str, str]:
    """Path without suffix; with it where two images differ in nothing else."""
    stems = {path: PurePosixPath(path).with_suffix("").as_posix() for path in paths}
    counts = Counter(stems.values())
    return {path: stem if counts[stem] == 1 else path for path, stem in stems.items()}


def _notes(findings: Findings) -> list[str]:
    said = [(text, count) for text, count in sorted(findings.conversions.items()) if count]
    return [text if text.startswith("class ") else f"{count} {text}" for text, count in said]
