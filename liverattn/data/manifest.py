"""The table of cases: the only definition of a case.

One row per case (one image). Columns: ``image_id`` (unique), ``path`` (unique; relative to the manifest, never outside
its root), ``patient_id`` (groups a split; defaults to ``image_id``), ``lesion`` {0, 1}, ``malignant`` {0, 1, blank},
``type`` (one of :data:`LESION_TYPES` or blank), ``boxes`` (JSON ``[[x0, y0, x1, y1], ...]``, original pixels,
half-open), optional ``site``. Blank means unknown on a lesion case, and "none" on a lesion-free one.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray
from pandera.errors import SchemaErrors

from liverattn.data.box_cells import box_problem, parse_boxes, shortened
from liverattn.data.exclusion import left_out, or_exclude
from liverattn.data.image_files import stays_inside
from liverattn.data.images import ImageError, image_size
from liverattn.data.patients import patient_warnings, spelled
from liverattn.data.spreadsheets import FIRST_ROW, read_cells
from liverattn.errors import InputError, InputListError
from liverattn.files import replacing
from liverattn.formulas import without_formulas

LESION_TYPES = ("angioma", "hcc", "fnh", "cyst", "metastasis")
MALIGNANT_TYPES = ("hcc", "metastasis")
REQUIRED = ("image_id", "path", "lesion")
CONTROLS = re.compile(r"[\x01-\x1f\x7f-\x9f]")
OPTIONAL = ("patient_id", "malignant", "type", "boxes", "site")


@dataclass(frozen=True)
class Manifest:
    """Checked cases.

    Attributes:
        table: One row per case, index 0 to n-1. ``lesion`` int; ``malignant`` nullable ``Int64``; ``type`` and ``site``
            str or None; ``boxes`` (N, 4) float64 arrays, or None where they are unknown. Lesion-free cases have (0, 4).
        root: Folder that the paths are relative to.
        warnings: What a person should know and that stops nothing.
        notes: What an import made of what it found, in its own words.
    """

    table: pd.DataFrame
    root: Path
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)


def _one_of(values: Sequence[str], message: str) -> pa.Check:
    return pa.Check(lambda cell: cell in values, element_wise=True, error=message)


def _is_malignant_type(table: pd.DataFrame) -> pd.Series:
    return table["type"].isin(MALIGNANT_TYPES)


def _agrees_with_type(table: pd.DataFrame) -> pd.Series:
    comparable = table["type"].isin(LESION_TYPES) & table["malignant"].isin(["0", "1"])
    return ~comparable | ((table["malignant"] == "1") == _is_malignant_type(table))


def _blank_without_lesion(column: str) -> pa.Check:
    return pa.Check(
        lambda table: (table["lesion"] != "0") | table[column].isna(),
        name=column,
        error=f"must be blank where lesion is 0: set lesion to 1 or clear {column}",
    )


WITHOUT_CONTROLS = pa.Check(
    lambda cell: CONTROLS.search(cell) is None,
    element_wise=True,
    error="must have no line breaks or other control characters, which a terminal would obey",
)
# Rows are checked as text, exactly as a person wrote them, so that a message can quote the cell.
SCHEMA = pa.DataFrameSchema(
    columns={
        "image_id": pa.Column(object, WITHOUT_CONTROLS, unique=True, nullable=False),
        "path": pa.Column(
            object,
            [
                pa.Check(stays_inside, element_wise=True, error="must be relative, without '..', inside the root"),
                WITHOUT_CONTROLS,
            ],
            nullable=False,
        ),
        "patient_id": pa.Column(
            object, WITHOUT_CONTROLS, nullable=True
        ),  # blank only where image_id is, which is said there
        "lesion": pa.Column(object, _one_of(("0", "1"), "must be 0 or 1"), nullable=False),
        "malignant": pa.Column(object, _one_of(("0", "1"), "must be 0, 1 or blank (unknown)"), nullable=True),
        "type": pa.Column(
            object, _one_of(LESION_TYPES, f"must be one of {', '.join(LESION_TYPES)}, or blank"), nullable=True
        ),
        "boxes": pa.Column(
            object,
            pa.Check(lambda cell: box_problem(cell) is None, element_wise=True, name="boxes", error="boxes"),
            nullable=True,
        ),
        "site": pa.Column(object, nullable=True),
    },
    checks=[
        *(_blank_without_lesion(column) for column in ("malignant", "type", "boxes")),
        pa.Check(
            _agrees_with_type,
            name="malignant",
            error=f"must be 1 exactly where type is {' or '.join(MALIGNANT_TYPES)}",
        ),
    ],
    strict=False,
)


def _violations(table: pd.DataFrame) -> list[tuple[int, str, str]]:
    """(row index, column, message) of every broken rule."""
    try:
        SCHEMA.validate(table, lazy=True)
    except SchemaErrors as error:
        found = {_violation(table, failure) for failure in error.failure_cases.to_dict("records")}
        return sorted(found)
    return []


def _violation(table: pd.DataFrame, failure: dict[str, Any]) -> tuple[int, str, str]:
    row, check = int(failure["index"]), str(failure["check"])
    if failure["schema_context"] == "DataFrameSchema":
        rule = next(rule for rule in SCHEMA.checks if rule.error == check)
        return row, str(rule.name), check
    column = str(failure["column"])
    if check == "boxes":
        return row, column, box_problem(table.at[row, column]) or check
    known = {"not_nullable": "must not be blank", "field_uniqueness": "must be unique, but occurs more than once"}
    return row, column, known.get(check, check)


def _file_violation(root: Path, file: Any, cell: Any, *, opened: bool) -> tuple[str, str] | None:
    """(column, message) of what the image itself contradicts: elsewhere, absent, unreadable, or smaller than a box."""
    if not isinstance(file, str) or not stays_inside(file):
        return None  # said already
    path = root / file
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        return "path", "leads outside the root through a link"
    if not opened:
        return None
    try:
        width, height = image_size(path)
    except ImageError as error:
        hint = " (write folders with / instead of \\)" if "\\" in file else ""
        return "path", f"{error}{hint}"
    if not isinstance(cell, str) or box_problem(cell) is not None:
        return None
    outside = [str(box) for box in parse_boxes(cell).tolist() if box[2] > width or box[3] > height]
    if outside:
        return "boxes", f"box {', '.join(outside)} reaches outside the image of {width}x{height} pixels"
    return None


def _listed_again(text: pd.DataFrame, root: Path) -> Iterator[tuple[int, str, str]]:
    """Images of more rows than one: as two patients' they would lie on both sides of a split."""
    first: dict[str, int] = {}
    for row, file in text["path"].dropna().items():
        other = first.setdefault(os.path.realpath(root / file) if stays_inside(file) else file, row)
        if other != row:
            place = f"row {other + FIRST_ROW} (image_id {text.at[other, 'image_id']!r})"
            yield row, "path", f"is the same image as in {place}: each may be listed once"


def check_manifest(
    table: pd.DataFrame,
    root: Path,
    name: str,
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
    *,
    open_images: bool = True,
) -> Manifest:
    """Check a table of cases against every invariant and convert it; cases of ``data.exclude`` are left out unchecked.

    Args:
        table: Cells as text, missing ones as None; the columns of the module's docstring, others are ignored with a
            warning. Its index counts rows from 0.
        root: Folder that the paths are relative to.
        name: What the messages call the table: usually its file.
        warnings: Passed on.
        notes: Passed on.
        open_images: Look at the images as well, and that none is listed twice; else only at where they lie.

    Raises:
        InputError: Columns are absent, ``data.exclude`` names none of the cases, or any row breaks a rule or its image
            is absent or unreadable. The message lists every violation with its row (of a spreadsheet: the header is row
            1), column and value.
    """
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise InputError(
            f"{name} lacks the column(s) {', '.join(missing)}. Found: {', '.join(map(str, table.columns))}. "
            f"Required: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}."
        )
    if table.empty:
        raise InputError(f"{name} has no rows. Add one row per image.")
    text = _as_text(table)
    text = text[~text["image_id"].isin(left_out(text["image_id"]))]
    doubts = patient_warnings(text["image_id"].tolist(), text["patient_id"].tolist())
    text["patient_id"] = text["patient_id"].where(text["patient_id"].notna(), text["image_id"])
    violations = _violations(text)
    for row, file, cell in zip(text.index, text["path"], text["boxes"], strict=True):
        violation = _file_violation(root, file, cell, opened=open_images)
        violations += [] if violation is None else [(row, *violation)]
    if open_images:
        violations += _listed_again(text, root)
    if violations:
        problems = [_describe(text, *violation) for violation in sorted(violations)]
        named = [one for one in dict.fromkeys(text.at[row, "image_id"] for row, *_ in sorted(violations)) if one]
        remedy = f"Correct these rows and run again{or_exclude(named)}."
        raise InputListError(f"{name}: {len(problems)} problem(s)", problems, remedy)
    unused = ", ".join(str(column) for column in table.columns if column not in text)
    heard = [*warnings, *(f"{name}: {doubt}" for doubt in doubts)]
    heard += [f"{name}: column(s) not used: {unused}"] if unused else []
    return Manifest(_converted(text.reset_index(drop=True)), root, tuple(heard), tuple(notes))


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    absent = [None] * len(table)
    cells = {column: [_trimmed(cell) for cell in table.get(column, absent)] for column in (*REQUIRED, *OPTIONAL)}
    for column in ("lesion", "malignant"):  # pandas writes whole numbers so where a column has blanks
        cells[column] = [{"0.0": "0", "1.0": "1"}.get(str(cell), cell) for cell in cells[column]]
    cells["patient_id"] = [spelled(patient) for patient in cells["patient_id"]]
    return pd.DataFrame(cells, index=table.index, dtype=object)


def _trimmed(cell: Any) -> str | None:
    return None if pd.isna(cell) else str(cell).strip() or None


def _describe(table: pd.DataFrame, row: int, column: str, message: str) -> str:
    value = table.at[row, column]
    shown = "blank" if value is None else shortened(repr(value))
    return (
        f"row {row + FIRST_ROW} (image_id {table.at[row, 'image_id']!r}), column {column!r}, value {shown}: {message}"
    )


def _converted(text: pd.DataFrame) -> pd.DataFrame:
    table = text.copy()
    table["lesion"] = table["lesion"].astype(int)
    derived = _is_malignant_type(text).astype(int).where(text["type"].notna(), None)
    table["malignant"] = text["malignant"].where(text["malignant"].notna(), derived).astype("Float64").astype("Int64")
    table["boxes"] = pd.Series(
        [_known_boxes(cell, lesion) for cell, lesion in zip(text["boxes"], table["lesion"], strict=True)], dtype=object
    )
    return table


def _known_boxes(cell: str | None, lesion: int) -> NDArray[np.float64] | None:
    if cell is not None:
        return parse_boxes(cell)
    return None if lesion else np.zeros((0, 4))


def read_manifest(path: Path, root: Path | None = None) -> Manifest:
    """Read and check a manifest (:func:`liverattn.data.spreadsheets.read_cells`); see the module's docstring.

    Args:
        path: The table.
        root: Of the image paths; None: the table's folder.

    Raises:
        InputError: The file is absent or not a table, or a row breaks a rule (all of them are listed).
    """
    if not path.exists():
        raise InputError(f"The manifest {path} does not exist. Give its path as data.manifest=...")
    return check_manifest(read_cells(path), path.parent if root is None else root, str(path))


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as CSV that a person can open in a spreadsheet and :func:`read_manifest` reads back.

    Args:
        manifest: The cases.
        path: Of the table. Image paths stay relative to the manifest's root, which is to be given along with a table
            that lies elsewhere (``data.root``).
    """
    table = manifest.table.copy()
    table["boxes"] = [json.dumps(b.tolist()) if b is not None and len(b) else None for b in table["boxes"]]
    with replacing(path) as temporary:
        without_formulas(table).to_csv(temporary, index=False)
