"""Tables as people save them from a spreadsheet."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from liverattn.data.workbooks import WORKBOOKS, workbook_rows
from liverattn.errors import InputError, InputListError
from liverattn.formulas import as_meant

FIRST_ROW = 2  # of a spreadsheet: the header is row 1
SEPARATOR = re.compile(r'"?sep=([^\n"])"?\n')  # of CSV, in a first line that spreadsheets take for no row


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
    rows = workbook_rows(path, sheet) if path.suffix.lower() in WORKBOOKS else _csv_rows(path)
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
