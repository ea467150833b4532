"""Tables as people save them from a spreadsheet."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from python_calamine import CalamineError, CalamineWorkbook

from liverattn.errors import InputError, InputListError
from liverattn.formulas import as_meant

FIRST_ROW = 2  # of a spreadsheet: the header is row 1
OLD_WORKBOOKS = {".xls", ".xlt", ".xlsb"}  # formulas that failed could not be told from blank cells there
WORKBOOKS = {".xlsx", ".xlsm", ".ods", *OLD_WORKBOOKS}
LARGEST_WORKBOOK = 500_000_000  # bytes unpacked
MOST_CELLS = 50_000_000
# A cell of a sheet in XLSX whose formula came to an error, such as #N/A. No part reaches into another tag or cell, else
# what never ends would be looked through anew from every cell.
FAILED = re.compile(
    rb"""<(?:\w+:)?c\s(?=[^<>]*\br=["']([A-Z]{1,3})([0-9]{1,7})["'])(?=[^<>]*\bt=["']e["'])[^<>]*>"""
    rb"""(?:(?!</?(?:\w+:)?c[\s>]).)*?<(?:\w+:)?v>([^<]*)<""",
    re.DOTALL,
)
PLACE = re.compile(rb"""\sr\s*=\s*["']([A-Za-z]{0,3})([0-9]{1,7})["']""")  # of a cell or row
SEPARATOR = re.compile(r'"?sep=([^\n"])"?\n')  # of CSV, in a first line that spreadsheets take for no row
MERGED = re.compile(rb'table:number-rows-spanned="(?!1")')


def read_cells(path: Path, sheet: str | None = None) -> pd.DataFrame:
    """Read a table's cells as text.

    CSV in UTF-8, with or without a byte order mark, separated by commas, semicolons or tabs (a spreadsheet's language
    decides, or a first line ``sep=;``), or a workbook (XLSX, ODS). Rows without any content are passed over. Formulas
    that failed in XLSX are their error, such as ``#N/A``, not blank: blank means something. A cell that is merged over
    several rows is said of each of them. In ODS both are refused.

    Args:
        path: The file.
        sheet: Of a workbook; None: its first.

    Returns:
        One row per case; the index counts rows from 0, blank ones too, so that index + ``FIRST_ROW`` is the number that
        a spreadsheet shows. Blank cells are empty strings.

    Raises:
        InputError: Absent, unreadable, XLS or XLSB, no header, a column that occurs twice, or a row with more cells
            than the header.
    """
    if not path.exists():
        raise InputError(f"The table {path} does not exist. Correct its path.")
    if path.suffix.lower() in OLD_WORKBOOKS:
        raise InputError(
            f"The workbook {path} cannot be read: what failed in it, such as #N/A, would be blank. Save it as XLSX."
        )
    rows = _workbook_rows(path, sheet) if path.suffix.lower() in WORKBOOKS else _csv_rows(path)
    return _under_header(rows, path)


def _csv_rows(path: Path) -> list[list[str]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
        told = SEPARATOR.match(content)
        content = content[told.end() :] if told else content
        separator = told[1] if told else max(",;\t", key=content.partition("\n")[0].count)
        lines = io.StringIO(content, newline="")
        rows = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        return [[as_meant(cell) for cell in row] for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"The table {path} cannot be read as CSV in UTF-8 ({error}). In a spreadsheet, save it as 'CSV UTF-8'."
        ) from None


def _workbook_rows(path: Path, sheet: str | None) -> list[list[str]]:
    try:
        _refuse_bomb(path)
        _refuse_misread(path)
        with CalamineWorkbook.from_path(path) as book:
            if sheet is not None and sheet not in book.sheet_names:
                raise InputError(f"{path} has no sheet {sheet!r}. Found: {', '.join(book.sheet_names)}.")
            content = _sheet_content(path, sheet if sheet is not None else next(iter(book.sheet_names), ""))
            _refuse_vast(content)
            found = book.get_sheet_by_name(sheet) if sheet is not None else book.get_sheet_by_index(0)
            if found.total_height * found.total_width > MOST_CELLS:
                raise ValueError(f"{found.total_height} rows of {found.total_width} columns are more than can be meant")
            rows = [[_text(cell) for cell in row] for row in found.to_python(skip_empty_area=False)]
        for row, column, error in _failed(content):
            if row < len(rows) and column < len(rows[row]):
                rows[row][column] = error
        merged = found.merged_cell_ranges or ()
        if sum(bottom - top for (top, _), (bottom, _) in merged) > MOST_CELLS:
            raise ValueError(f"its {len(merged)} merged cells overlap")
        for (top, column), (bottom, _) in merged:
            for cells in rows[top + 1 : bottom + 1] if top else ():  # none of the header
                cells[column : column + 1] = rows[top][column : column + 1]  # nothing beyond the last column
        return rows
    except (CalamineError, OSError, ValueError, KeyError, DefusedXmlException, ParseError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The workbook {path} cannot be read ({error}). Save it again, or as 'CSV UTF-8'.") from None


def _refuse_bomb(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST_WORKBOOK:
            raise ValueError(f"it would unpack to {size / 1e6:.0f} MB")


def _refuse_misread(path: Path) -> None:
    """ODS says only by repetition where a cell is, so that its errors and merged cells cannot be put in their place."""
    if path.suffix.lower() == ".ods" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = archive.read("content.xml")
        if failed := content.count(b'calcext:value-type="error"'):
            raise ValueError(f"{failed} formula(s) in it failed, such as #N/A, and would read as blank: correct them")
        if merged := len(MERGED.findall(content)):
            raise ValueError(
                f"{merged} cell(s) in it are merged over several rows, and would be blank in all but the first: split "
                "and fill them"
            )


def _sheet_content(path: Path, sheet: str) -> bytes:
    """The XML of a sheet in XLSX; empty for other workbooks."""
    if path.suffix.lower() in (".xlsx", ".xlsm") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = fromstring(archive.read("xl/_rels/workbook.xml.rels"))
            targets = {part.get("Id"): str(part.get("Target")) for part in parts}
            for listed in fromstring(archive.read("xl/workbook.xml")).iterfind(".//{*}sheet"):
                if listed.get("name") == sheet:
                    named = next(value for name, value in listed.items() if name.endswith("}id"))
                    target = targets[named]
                    return archive.read(target[1:] if target.startswith("/") else f"xl/{target}")
    return b""


def _refuse_vast(content: bytes) -> None:
    """The reader makes room for all between the first cell and the last, and ends the process where there is none."""
    places = {(_column(letters.decode().upper()), int(number)) for letters, number in PLACE.findall(content)}
    width = 1 + max((column for column, _ in places), default=0)
    height = max((row for _, row in places), default=0)
    if width * height > MOST_CELLS:
        raise ValueError(f"cells as far as row {height} and column {width} are more than can be meant")


def _failed(content: bytes) -> Iterator[tuple[int, int, str]]:
    """Row, column, from 0, and error of the formulas that failed, which the reader gives as blank cells."""
    for letters, number, error in FAILED.findall(content):
        yield int(number) - 1, _column(letters.decode()), error.decode()


def _column(letters: str) -> int:
    """From 0; AA follows Z."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _text(cell: object) -> str:
    # A spreadsheet keeps all numbers as fractions.
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _under_header(rows: Sequence[Sequence[str]], path: Path) -> pd.DataFrame:
    """Cells under their header; the index keeps the spreadsheet's count where blank rows are left out."""
    header = [cell.strip() for cell in rows[0]] if rows else []
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if not any(header) or repeated:
        what = (
            f"has the column(s) {', '.join(repeated)} more than once" if repeated else "has no header in its first row"
        )
        raise InputError(f"The table {path} {what}. Name every column once, in the first row.")
    body = {row: cells for row, cells in enumerate(rows[1:]) if any(cell.strip() for cell in cells)}
    wide = [
        f"row {row + FIRST_ROW} has {len(cells)} cells under {len(header)} columns"
        for row, cells in body.items()
        if any(cell.strip() for cell in cells[len(header) :])
    ]
    if wide:
        remedy = 'Put cells that hold commas into double quotes: "[[10, 20, 110, 90]]".'
        raise InputListError(f"The table {path} has rows that are too long", wide, remedy)
    padded = [[*cells, *[""] * len(header)][: len(header)] for cells in body.values()]
    table = pd.DataFrame(padded, index=list(body), columns=header, dtype=object)
    return table.loc[:, [name != "" for name in header]]
