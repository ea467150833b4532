"""Label Studio JSON and JSON-MIN: one file for many tasks, regions in percent of the image's size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import ConfigDict, Field

from liverattn.data.annotations import AnnotatedImage, Edges, Findings, Region, enclosing, rotated, rotated_ellipse
from liverattn.data.classes import ClassTable
from liverattn.data.documents import LONGEST_SHOWN, Part, read_json, read_part
from liverattn.data.image_files import SUFFIXES, UPLOAD_PREFIX, ImageFiles
from liverattn.data.importing import OUTLINED, PERCENT, ROTATED, ImportedSource

SPOKEN = {"labels", "choices", "textarea", "rating", "number", "datetime", "taxonomy", "relation", "pairwise", "ranker"}
AREAS = ("rectangle", "ellipse", "polygon")
PLACED = {"original_width", "x", "points", "rle"}  # only regions have them
NO_CONTROLS = {"id", "patient_id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}


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
        return [*self.labels, *self.rectanglelabels, *self.ellipselabels, *self.polygonlabels, *self.choices]


class _Result(Part):
    type: str
    id: str | None = None
    from_name: str = ""
    value: _Value = _Value()
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float = 0.0

    def is_area(self) -> bool:
        return self.type.removesuffix("labels") in AREAS


class _Annotation(Part):
    result: list[_Result]
    was_cancelled: bool = False
    ground_truth: bool = False
    updated_at: str = ""


class _MinimalRegion(_Value):
    original_width: int
    original_height: int
    image_rotation: float = 0.0


class _Task(Part):
    model_config = ConfigDict(extra="allow")  # JSON-MIN: the data's fields and the labeling's controls, side by side
    data: dict[str, Any] = Field(default_factory=dict)
    annotations: list[_Annotation] | None = None

    def is_minimal(self) -> bool:
        return self.annotations is None and not self.data

    def fields(self) -> dict[str, Any]:
        return self.data or self.model_extra or {}

    def file(self) -> str:
        found = [_path(value) for value in self.fields().values() if _is_image(value)]
        if not found:
            raise ValueError("names no image")
        if len({_name(path) for path in found}) > 1:
            raise ValueError(
                f"names several images, {', '.join(map(repr, found))}, and nothing says which one was annotated: take "
                "the other ones out of the export"
            )
        return found[0]

    def patient(self) -> str | None:
        """Of our own exports."""
        value = self.fields().get("patient_id")
        return value if isinstance(value, str) else None

    def said(self) -> list[tuple[str, Any]]:
        """JSON-MIN: key and value of all that may be a region or a choice; one key may hold several."""
        lists = {key: value if isinstance(value, list) else [value] for key, value in self.fields().items()}
        return [(key, value) for key, values in lists.items() if key not in NO_CONTROLS for value in values]


@dataclass(frozen=True, kw_only=True)
class LabelStudioSource(ImportedSource):
    """Cases from Label Studio's JSON or JSON-MIN export.

    Of several annotations of an image the ground truth counts, else the one changed last. A task without any is not
    lesion-free: nobody has looked.
    """

    def read(self, root: Path, images: ImageFiles, findings: Findings) -> Iterator[AnnotatedImage]:
        """See :meth:`ImportedSource.read`."""
        tasks = [
            (f"{path}: task [{i}]", task)
            for path in self.exports(root, "*.json")
            for i, task in enumerate(read_json(path, list[_Task], findings) or [])
        ]
        unmarked = _Unmarked("JSON", "if these say what images show, give them choices or regions in the tool")
        minimal = _Minimal([task for _, task in tasks if task.is_minimal()], ClassTable(self.classes))
        for place, task in tasks:
            try:
                file = task.file()
            except ValueError as error:
                findings.errors.append(f"{place} {error}")
                continue
            try:
                yield minimal.annotated(task, findings) if task.is_minimal() else _annotated(task, unmarked, findings)
            except ValueError as error:
                findings.refuse(file, f"{place} {error}")
        for one in (unmarked, minimal.unmarked):
            one.complain(findings)


class _Unmarked:
    """Images without regions and choices of which the export has something else: it may be what somebody has said."""

    def __init__(self, export: str, remedy: str) -> None:
        self.export, self.remedy = export, remedy
        self.is_marked = False  # any other image
        self.images = 0
        self.found: dict[str, str] = {}  # what they have: by key, the first

    def count(self, is_marked: bool, others: Mapping[str, str]) -> None:
        """Note an image, and what it has besides regions and choices."""
        if is_marked:
            self.is_marked = True
        elif others:
            self.images += 1
            for key, value in others.items():
                self.found.setdefault(key, value)

    def complain(self, findings: Findings) -> None:
        """Say what they have."""
        if not self.found:
            return
        keys = ", ".join(f"{key!r} ({value})" for key, value in self.found.items())
        if self.is_marked:
            findings.warnings.append(
                f"{self.images} image(s) without regions and known choices are taken as lesion-free, and what else "
                f"{self.export} has of them is passed over: {keys}; {self.remedy}"
            )
        else:
            findings.errors.append(
                f"no image has a region or a known choice, but {self.export} has {keys}: {self.remedy}"
            )


class _Minimal:
    """Tasks of JSON-MIN, whose keys are the names that the user's labeling gives its controls.

    A choice stands there as a field of the data does, as bare text. A key is a control of choices where any of the
    tasks has a known class there.
    """

    def __init__(self, tasks: Sequence[_Task], classes: ClassTable) -> None:
        self.files: set[str] = set()
        said = [(key, value) for task in tasks for key, value in task.said()]
        self.choices = {"choice"} | {key for key, value in said if isinstance(value, str) and classes.knows(value)}
        self.unmarked = _Unmarked(
            "JSON-MIN",
            "if these are classes, say in data.classes what they mean (ignore: they are none), or export JSON "
            "instead of JSON-MIN",
        )

    def annotated(self, task: _Task, findings: Findings) -> AnnotatedImage:
        file = task.file()
        if file in self.files:
            raise ValueError(
                f"is another annotation of {file!r}, and JSON-MIN does not say which one counts: export JSON instead"
            )
        self.files.add(file)
        if "annotation_id" in task.fields() and task.fields()["annotation_id"] is None:
            return AnnotatedImage(file, reviewed=False)
        regions, names, unknown = [], [], {}
        for key, value in task.said():
            if isinstance(value, dict) and "choices" in value and not {"x", "points"} & set(value):
                names += read_part(value, _Value, key).choices
            elif isinstance(value, dict) and any(name in PLACED or name.endswith("labels") for name in value):
                regions.append(_minimal(value, key))
            elif isinstance(value, str) and key in self.choices:
                names += [value] if value else []
            elif value and isinstance(value, str | dict | list) and not _is_image(value):
                unknown[key] = repr(value)[:LONGEST_SHOWN]
        self.unmarked.count(bool(regions or names), unknown)
        return replace(_image(file, regions, names, findings), patient=task.patient())


def _path(address: str) -> str:
    # Local storage serves /data/local-files/?d=folder/image.png
    if "?d=" in address:
        return parse_qs(urlsplit(address).query).get("d", [address])[0]
    return address.partition("?")[0] if "://" in address else address  # without the signature of a signed address


def _name(path: str) -> str:
    return UPLOAD_PREFIX.sub("", path.replace("\\", "/").rpartition("/")[2])


def _is_image(value: object) -> bool:
    return isinstance(value, str) and PurePosixPath(_path(value)).suffix.lower() in SUFFIXES


def _annotated(task: _Task, unmarked: _Unmarked, findings: Findings) -> AnnotatedImage:
    finished = [annotation for annotation in task.annotations or [] if not annotation.was_cancelled]
    if not finished:
        return AnnotatedImage(task.file(), reviewed=False)
    if len(finished) > 1:
        findings.conversions["image(s) have several annotations: the ground truth was taken, else the latest"] += 1
    chosen = max(finished, key=lambda annotation: (annotation.ground_truth, annotation.updated_at))
    areas = {result.id for result in chosen.result if result.is_area()} - {None}  # a choice may be made for one of them
    whole = [result for result in chosen.result if result.type == "choices" and result.id not in areas]
    said = [name for result in whole for name in result.value.choices]
    results = [result for result in chosen.result if result not in whole]
    image = _image(task.file(), results, said, findings)
    unmarked.count(bool(image.regions or said), {result.from_name or result.type: result.type for result in results})
    return replace(image, patient=task.patient())


def _minimal(value: Mapping[str, Any], key: str) -> _Result:
    region = read_part(value, _MinimalRegion, key)
    # JSON-MIN has no identifiers: what two controls have at one place is the shape and the class of one region.
    place = region.model_dump_json(include={"x", "y", "width", "height", "radiusX", "radiusY", "rotation", "points"})
    return _Result.model_validate({**region.model_dump(), "type": _kind(value), "id": place, "value": region})


def _kind(region: Mapping[str, Any]) -> str:
    named = [name for name in region if name.endswith("labels") and name != "labels"]
    shapes = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "height": "rectangle"}
    return next(iter([*named, *(shape for name, shape in shapes.items() if name in region)]), "keypoint")


def _image(file: str, results: Sequence[_Result], said: Sequence[str], findings: Findings) -> AnnotatedImage:
    regions, sizes, seen = [], set(), set()
    names = _names_by_region(results)
    for result in results:
        kind = result.type.removesuffix("labels")
        if result.is_area():
            if result.original_width is None or result.original_height is None:
                raise ValueError(
                    f"holds a {kind} without original_width and original_height: save it anew in the tool, export again"
                )
            size = (result.original_width, result.original_height)
            if result.image_rotation % 360:
                raise ValueError(
                    f"was drawn on an image that was turned by {result.image_rotation:g} degrees in the tool, and its "
                    "places are meant for the turned one: turn it back there, look at its regions, and export again"
                )
            if result.id is not None and result.id in seen:
                continue
            seen.add(result.id)
            found = names.get(result.id, []) if result.id is not None else result.value.names()
            edges = _edges(kind, result.value, size, findings)
            regions += [Region(name, edges) for name in found] or [Region(None, edges)]
            sizes.add(size)
        elif result.type not in SPOKEN:
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
