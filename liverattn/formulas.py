"""Cells of CSV files that a spreadsheet would take for formulas, such as an image called ``=HYPERLINK(...)``."""

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")
Cell = TypeVar("Cell")


def as_text(cell: Cell) -> Cell | str:
    """A cell as it may be written: behind an apostrophe where it begins as a formula does; numbers stay."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) and not _is_number(cell) else cell


def as_meant(cell: str) -> str:
    """What :func:`as_text` was given."""
    return cell[1:] if cell.startswith("'") and as_text(cell[1:]) == cell else cell


def without_formulas(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table with all cells as texts or numbers."""
    import pandas as pd

    texts = table.select_dtypes(["object", "string"])
    # As objects, because whole numbers beside blanks would become fractions.
    made = {name: pd.Series(list(map(as_text, cells)), table.index, dtype=object) for name, cells in texts.items()}
    return table.assign(**made)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
