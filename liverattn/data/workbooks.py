"""Sheets of workbooks: no cell is blank that only could not be read, and none takes what the machine has not."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from python_calamine import CalamineError, CalamineWorkbook

from liverattn.errors import InputError

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
MERGED = re.compile(rb'table:number-rows-spanned="(?!1")')


def workbook_rows(path: Path, sheet: str | None) -> list[list[str]]:
    """The cells of a sheet as text, blank rows too; see :func:`liverattn.data.spreadsheets.read_cells`.

    Args:
        path: Of a workbook.
        sheet: None: the first.

    Raises:
        InputError: Unreadable, of an older format, without the sheet, or something in it would be misread.
    """
    if path.suffix.lower() in OLD_WORKBOOKS:
        raise InputError(
            f"The workbook {path} cannot be read: what failed in it, such as #N/A, would be blank. Save it as XLSX."
        )
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
