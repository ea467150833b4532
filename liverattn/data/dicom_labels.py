"""What a table says of DICOM files, one row per file or per box, in the pixels of their frames."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from liverattn.data.box_cells import parse_boxes
from liverattn.data.preprocessing import Window
from liverattn.data.spreadsheets import FIRST_ROW, read_cells
from liverattn.errors import InputError, InputListError

LABELS = ("lesion", "malignant", "type", "boxes", "site")
Labels = dict[str, str | None]


def read_labels(path: Path, windows: Mapping[str, Window | None]) -> tuple[dict[str, Labels], list[str]]:
    """Read the table of ``data.labels``; rows of one file are joined, each with its boxes.

    Args:
        path: Of the table.
        windows: By file, relative to the root: what is left of its frames, in their pixels; None: it is left out.

    Returns:
        By file the cells of :data:`LABELS` that the table has columns for, boxes in the pixels of what is left; and
        warnings.

    Raises:
        InputError: Not such a table, or rows that do not fit the files or each other (all of them are listed).
    """
    table = read_cells(path)
    if not {"file", "lesion"} <= set(table.columns):
        raise InputError(f"{path} needs the columns file and lesion. Found: {', '.join(table.columns)}.")
    by_file: dict[str, list[tuple[int, dict[Any, Any]]]] = {}
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        by_file.setdefault(str(row["file"]).strip(), []).append((index + FIRST_ROW, row))
    strangers = sorted(set(by_file) - set(windows))
    if strangers:
        raise InputListError("data.labels names files that are not among the DICOM files", strangers)
    labels, problems = {}, []
    for file, numbered in by_file.items():
        try:
            if (window := windows[file]) is not None:
                labels[file] = _joined([row for _, row in numbered], window)
        except ValueError as error:
            problems.append(f"row(s) {', '.join(str(number) for number, _ in numbered)} (file {file!r}): {error}")
    if problems:
        raise InputListError(f"{path}: {len(problems)} problem(s)", problems, "Correct these rows and run again.")
    unused = ", ".join(name for name in table.columns if name not in ("file", *LABELS))
    return labels, [f"{path}: column(s) not used: {unused}"] if unused else []


def cell(row: Mapping[Any, Any], column: str) -> str | None:
    """What stands in a cell; None where it is blank or absent."""
    return str(row.get(column) or "").strip() or None


def _joined(rows: Sequence[Mapping[Any, Any]], window: Window) -> Labels:
    joined = {column: _same(column, rows) for column in LABELS if column in rows[0] and column != "boxes"}
    if "boxes" not in rows[0]:
        return joined
    boxes = [box for row in rows for box in _boxes(cell(row, "boxes"), window)]
    return {**joined, "boxes": json.dumps(boxes) if boxes else None}


def _same(column: str, rows: Sequence[Mapping[Any, Any]]) -> str | None:
    cells = {cell(row, column) for row in rows}
    if len(cells) > 1:
        said = ", ".join("blank" if value is None else repr(value) for value in sorted(cells, key=str))
        raise ValueError(f"rows of one file differ in {column}: {said}")
    return next(iter(cells))


def _boxes(text: str | None, window: Window) -> list[list[float]]:
    if text is None:
        return []
    try:
        boxes = parse_boxes(text)
    except ValueError as error:
        raise ValueError(f"boxes {error}") from None
    x0, y0, x1, y1 = window
    for box in boxes.tolist():
        if box[0] < x0 or box[1] < y0 or box[2] > x1 or box[3] > y1:
            raise ValueError(f"box {box} reaches outside {list(window)}, the part of the frame that is used")
    return [list(box) for box in (boxes - (x0, y0, x0, y0)).tolist()]
