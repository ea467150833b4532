"""Label Studio JSON and JSON-MIN: one file for many tasks, regions in percent of the image's size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import Field

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, enclosing, rotated, rotated_ellipse
from liverattn.data.documents import Part, read_json
from liverattn.data.image_files import SUFFIXES, ImageFiles
from liverattn.data.importing import OUTLINED, PERCENT, ROTATED, ImportedSource

SPOKEN = {"textarea", "rating", "number", "datetime", "taxonomy", "relation", "pairwise", "ranker"}  # no regions
AREAS = ("rectangle", "ellipse", "polygon")


class _Value(Part):
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    radiusX: float = 0.0  # noqa: N815 # the format's names
    radiusY: float = 0.0  # noqa: N815
    rotation: float = 0.0
    points: list[tuple[float, float]] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)
    rectanglelabels: list[str] = Field(default_factory=list)
    ellipselabels: list[str] = Field(default_factory=list)
    polygonlabels: list[str] = Field(default_factory=list)
    choices: list[str] = Field(default_factory=list)

    def names(self) -> list[str]:
        return [*self.labels, *self.rectanglelabels, *self.ellipselabels, *self.polygonlabels]


class _Result(Part):
    type: str
    id: str | None = None
    value: _Value = _Value()
    original_width: int | None = None
    original_height: int | None = None


class _Annotation(Part):
    result: list[_Result]
    was_cancelled: bool = False
    ground_truth: bool = False
    updated_at: str = ""


class _MinimalRegion(_Value):
    original_width: int
    original_height: int


class _Choices(Part):
    choices: list[str]


class _Task(Part):
    data: dict[str, Any] = Field(default_factory=dict)
    annotations: list[_Annotation] | None = None
    image: str | None = None  # JSON-MIN from here on
    label: list[_MinimalRegion] = Field(default_factory=list)
    choice: str | _Choices | None = None

    def file(self) -> str:
        values = [self.image, *self.data.values()]
        addresses = [_path(value) for value in values if isinstance(value, str)]
        found = [path for path in addresses if PurePosixPath(path).suffix.lower() in SUFFIXES]
        if not found:
            raise ValueError("names no image")
        return found[0]

    def patient(self) -> str | None:
        """Of our own exports."""
        value = self.data.get("patient_id")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, kw_only=True)
class LabelStudioSource(ImportedSource):
    """Cases from Label Studio's JSON or JSON-MIN export.

    Of several annotations of an image the ground truth counts, else the one changed last. A task without any is not
    lesion-free: nobody has looked.
    """

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        for path in self.exports(root, "*.json"):
            for i, task in enumerate(read_json(path, list[_Task], findings) or []):
                try:
                    yield _annotated(task, findings)
                except ValueError as error:
                    findings.errors.append(f"{path}: task [{i}] {error}")


def _path(address: str) -> str:
    # Local storage serves /data/local-files/?d=folder/image.png
    return parse_qs(urlsplit(address).query).get("d", [address])[0] if "?d=" in address else address


def _annotated(task: _Task, findings: Findings) -> AnnotatedImage:
    if task.annotations is None:
        results = [_minimal(region) for region in task.label]
        said = task.choice.choices if isinstance(task.choice, _Choices) else [task.choice] if task.choice else []
        return _image(task.file(), results, said, findings)
    finished = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if not finished:
        return AnnotatedImage(task.file(), reviewed=False)
    if len(finished) > 1:
        findings.conversions["image(s) have several annotations: the ground truth was taken, else the latest"] += 1
    chosen = max(finished, key=lambda annotation: (annotation.ground_truth, annotation.updated_at))
    said = [name for result in chosen.result if result.type == "choices" for name in result.value.choices]
    results = [result for result in chosen.result if result.type != "choices"]
    return replace(_image(task.file(), results, said, findings), patient=task.patient())


def _kind(region: _Value) -> str:
    return "polygon" if region.points else "ellipse" if region.radiusX else "rectangle"


def _minimal(region: _MinimalRegion) -> _Result:
    width, height = region.original_width, region.original_height
    return _Result(type=_kind(region), value=region, original_width=width, original_height=height)


def _image(file: str, results: Sequence[_Result], said: Sequence[str], findings: Findings) -> AnnotatedImage:
    regions, sizes = [], set()
    names = _names_by_region(results)
    for result in results:
        kind = result.type.removesuffix("labels")
        if kind in AREAS and result.original_width is not None and result.original_height is not None:
            size = (result.original_width, result.original_height)
            found = names.get(result.id, []) if result.id is not None else result.value.names()
            edges = _edges(kind, result.value, size, findings)
            regions += [Region(name, edges) for name in found] or [Region(None, edges)]
            sizes.add(size)
        elif result.type not in SPOKEN and result.type != "labels":
            raise ValueError(f"holds a {result.type!r}, which cannot be read; valid: {', '.join(AREAS)} and choices")
    if len(sizes) > 1:
        raise ValueError(f"gives its image several sizes: {sorted(sizes)}")
    return AnnotatedImage(file, tuple(regions), tuple(said), size=next(iter(sizes), None))


def _names_by_region(results: Sequence[_Result]) -> Mapping[str | None, list[str]]:
    # With separate tags for shape and class, two results with one id describe one region.
    names: dict[str | None, list[str]] = {}
    for result in results:
        known = names.setdefault(result.id, [])
        known += [name for name in result.value.names() if name not in known]
    return names


def _edges(kind: str, value: _Value, size: tuple[int, int], findings: Findings) -> Edges:
    width, height = size[0] / 100, size[1] / 100
    findings.conversions[PERCENT] += 1
    findings.conversions[ROTATED] += bool(value.rotation)
    findings.conversions[OUTLINED] += kind != "rectangle"
    x, y = value.x * width, value.y * height
    if kind == "polygon":
        return enclosing([(x * width, y * height) for x, y in value.points])
    if kind == "ellipse":
        return rotated_ellipse(x, y, value.radiusX * width, value.radiusY * height, value.rotation)
    # A rectangle is turned about its upper left corner.
    return rotated((x, y, x + value.width * width, y + value.height * height), value.rotation, (x, y))
