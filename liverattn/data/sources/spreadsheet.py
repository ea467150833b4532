"""A table with columns, values and rows of its own: CSV or XLSX, one row per image or per box."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from liverattn.data.box_cells import parse_boxes
from liverattn.data.classes import ClassTable, Meaning, judge
from liverattn.data.exclusion import left_out_among, or_exclude
from liverattn.data.image_files import ImageFiles
from liverattn.data.importing import refuse_turned
from liverattn.data.manifest import OPTIONAL, REQUIRED, Manifest, check_manifest
from liverattn.data.spreadsheets import FIRST_ROW, read_cells
from liverattn.errors import InputError, InputListError

EDGES = ("x0", "y0", "x1", "y1")
SIZED = ("x0", "y0", "width", "height")
GROUPED = re.compile(r"[1-9],[0-9]{3}")  # a comma before thousands, or before three decimals; no image has 10,000
MAPPED = (*REQUIRED, *OPTIONAL, "class", *EDGES, "width", "height")


@dataclass(frozen=True, kw_only=True)
class SpreadsheetSource:
    """Cases from a table that is not a manifest; rows of one image are joined, each with its box.

    Attributes:
        path: CSV or XLSX.
        root: Folder of the images; None: the table's.
        columns: What is meant (:data:`MAPPED`) to the header of its column; a header of None: not there. ``class``
            stands for lesion, malignant and type; edges for boxes, as ``x0, y0, x1, y1`` or ``x0, y0, width, height``.
        values: By column: a cell's text to what it means, such as ``{"lesion": {"ja": "1", "nein": "0"}}``.
        classes: Cells of ``class`` to one of :data:`liverattn.data.classes.MEANINGS`; blank: none, where no column says
            ``lesion``.
        sheet: Of an XLSX file; None: the first.
    """

    path: str
    root: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    sheet: str | None = None

    def manifest(self) -> Manifest:
        """Read, translate, join and check.

        Raises:
            InputError: Unreadable, a column is absent, or cells cannot be translated (all of them are listed).
        """
        path = Path(self.path).expanduser()
        root = path.parent if self.root is None else Path(self.root).expanduser()
        table = read_cells(path, self.sheet)
        cells = self._translated(table, path)
        problems: list[str] = []
        found = _located(cells, ImageFiles(root), problems)
        out = left_out_among(_identifier(path, [row for _, row in numbered]) for path, numbered in found.items())
        rows, broken = _joined(found, root, out, ClassTable(self.classes), problems)
        if problems:
            remedy = f"Correct these rows, or data.columns, data.values and data.classes{or_exclude(broken)}."
            raise InputListError(f"{path}: {len(problems)} problem(s)", problems, remedy)
        joined = len(cells) - len(rows)
        notes = [f"{joined} row(s) were joined with another of the same image"] if joined else []
        unused = ", ".join(header for header in table.columns if header not in self.columns.values())
        warnings = [f"column(s) not used: {unused}; name them in data.columns where they count"] if unused else []
        told = [any(row.get("lesion", row.get("class")) for _, row in numbered) for numbered in found.values()]
        if blank := told.count(False):
            warnings.append(
                f"{blank} image(s) with a blank class are taken as lesion-free; if nobody has looked at them, take "
                "their rows out"
            )
        warnings = [f"{path}: {warning}" for warning in warnings]
        return check_manifest(pd.DataFrame(rows), root, str(path), warnings, notes)

    def _translated(self, table: pd.DataFrame, path: Path) -> pd.DataFrame:
        unknown = sorted({*self.columns, *self.values} - set(MAPPED))
        if unknown:
            raise InputError(f"Unknown column(s) {', '.join(unknown)} in data.columns. Valid: {', '.join(MAPPED)}.")
        given = {meant: header for meant, header in self.columns.items() if header is not None}
        if not {"path", "image_id"} & set(given) or not {"lesion", "class"} & set(given):
            raise InputError("data.columns needs a column for path or image_id, and one for lesion or class.")
        absent = [f"{meant}={header!r}" for meant, header in given.items() if header not in table]
        if absent:
            raise InputError(
                f"{path} has no column(s) {', '.join(absent)}. Found: {', '.join(table.columns)}. Give their names as "
                "data.columns.lesion=..., or null for what is not there."
            )
        cells = pd.DataFrame({meant: table[header].str.strip() for meant, header in given.items()})
        for meant, translations in self.values.items():
            folded = {str(cell).strip().casefold(): str(value) for cell, value in (translations or {}).items()}
            if folded and meant not in cells:
                raise InputError(
                    f"data.values.{meant} is given, but data.columns.{meant} is null. Name its column there."
                )
            if folded:
                cells[meant] = [folded.get(cell.casefold(), cell) for cell in cells[meant]]
        return cells


Row = dict[Any, Any]


def _located(cells: pd.DataFrame, images: ImageFiles, problems: list[str]) -> dict[str, list[tuple[int, Row]]]:
    """Rows by the image that they are about, with their number in the spreadsheet."""
    found: dict[str, list[tuple[int, Row]]] = {}
    names: dict[str, str] = {}
    rows = [{str(k): v for k, v in row.items()} for row in cells.to_dict("records")]
    files = [str(row.get("path") or row.get("image_id") or "") for row in rows]
    finder = images.finder(files)
    for index, row, file in zip(cells.index, rows, files, strict=True):
        try:
            path = finder.find(file)
            if images.folders(file) != images.folders(names.setdefault(path, file)):
                raise ValueError(f"would be {path}, as {names[path]!r} is: name it the same way in all of its rows")
            found.setdefault(path, []).append((index + FIRST_ROW, row))
        except ValueError as error:
            problems.append(f"row {index + FIRST_ROW}: {file!r} {error}")
    return found


def _joined(
    found: Mapping[str, Sequence[tuple[int, Row]]],
    root: Path,
    out: frozenset[str],
    classes: ClassTable,
    problems: list[str],
) -> tuple[list[Row], list[str]]:
    """Cases, and the names of those that are none."""
    rows, broken = [], []
    for path, numbered in found.items():
        name = _identifier(path, [row for _, row in numbered])
        if name in out:
            rows.append({"image_id": name, "path": path, "lesion": None})  # nothing else is looked at
            continue
        place = f"row(s) {', '.join(str(number) for number, _ in numbered)} ({path})"
        try:
            rows.append(_case(path, [row for _, row in numbered], classes))
            if rows[-1]["boxes"] is not None:
                refuse_turned(root / path)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            broken.append(name)
    return rows, broken


def _identifier(path: str, rows: Sequence[Row]) -> str:
    return next((str(row["image_id"]) for row in rows if row.get("image_id")), path.rpartition(".")[0])


def _case(path: str, rows: Sequence[Row], classes: ClassTable) -> Row:
    case = {column: _same(column, rows) for column in (*REQUIRED, *OPTIONAL) if column != "boxes"}
    if "class" in rows[0]:
        case |= _with_class(case, rows, classes)
    boxes = [box for row in rows if not classes.ignores(row.get("class")) for box in _boxes(row)]
    return case | {"image_id": _identifier(path, rows), "path": path, "boxes": json.dumps(boxes) if boxes else None}


def _with_class(case: Row, rows: Sequence[Row], classes: ClassTable) -> Row:
    """Lesion, malignant and type as their own columns and the classes say; neither overrides the other."""
    names = [row["class"] for row in rows if row["class"]]
    meaning = _judged(names, classes)
    if meaning is None:
        return {} if "lesion" in rows[0] else {"lesion": "0"}
    malignant = None if meaning.malignant is None else str(meaning.malignant)
    said = {"lesion": str(meaning.lesion), "malignant": malignant, "type": meaning.type}
    for column, value in said.items():
        if value is not None and case[column] not in (None, value):
            raise ValueError(f"{column} is {case[column]!r}, but class {', '.join(map(repr, names))} means {value!r}")
    if meaning.lesion == 0 and case["malignant"] == "0":
        return said  # not malignant: true of a lesion-free case, too, where the manifest has a blank
    return {column: case[column] if value is None else value for column, value in said.items()}


def _judged(names: Sequence[str], classes: ClassTable) -> Meaning | None:
    """What the classes of an image come to; None: there are none, or they are ignored."""
    unknown = sorted({name for name in names if not classes.knows(name)})
    if unknown:
        raise ValueError(f"unknown class {', '.join(map(repr, unknown))}: say what it means in data.classes")
    meanings = [meaning for name in names if (meaning := classes[name]) is not None]
    return judge([], meanings) if meanings else None


def _same(column: str, rows: Sequence[Row]) -> str | None:
    cells = {row.get(column) or None for row in rows}
    if len(cells) > 1 and column != "path":
        raise ValueError(f"rows of one image differ in {column}: {', '.join(sorted(map(repr, cells)))}")
    return next(iter(cells))


def _boxes(row: Row) -> list[list[float]]:
    boxes: list[list[float]] = parse_boxes(row["boxes"]).tolist() if row.get("boxes") else []
    names = EDGES if row.get("x1") else SIZED
    edges = [row.get(name, "") for name in names]
    if any(edges):
        try:
            x0, y0, x1, y1 = (float(edge.replace(",", ".")) for edge in edges)
        except ValueError:
            raise ValueError(f"{', '.join(names)} are not four numbers: {', '.join(map(repr, edges))}") from None
        grouped = next((edge for edge in edges if GROUPED.fullmatch(edge)), None)
        if grouped is not None:
            raise ValueError(f"{grouped!r} may be {grouped.replace(',', '')} or {grouped.replace(',', '.')}: write one")
        boxes.append([x0, y0, x1, y1] if names == EDGES else [x0, y0, x0 + x1, y0 + y1])
    return boxes
