"""A table of results, described once and written for the terminal, Markdown, spreadsheets and LaTeX."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from rich.markup import escape
from rich.table import Table

from liverattn.files import replacing
from liverattn.formulas import without_formulas


@dataclass(frozen=True)
class Number:
    """A cell with a number.

    Attributes:
        mean: NaN where undefined: a dash.
        deviations: By name, shown in parentheses; NaN where undefined.
        digits: After the point.
        signed: With its sign, as differences have.
        bold: The best of its column.
        between: Deviations, such as " to " between the limits of an interval.
        smallest: Below it, a mean >= 0 is written as smaller than this: no p-value is 0.
    """

    mean: float
    deviations: Mapping[str, float] = field(default_factory=dict)
    digits: int = 3
    signed: bool = False
    bold: bool = False
    between: str = " / "
    smallest: float = 0.0

    def text(self, emphasis: Callable[[str], str] = str) -> str:
        """``0.913 (0.027)``; ``emphasis`` is applied to a bold mean."""
        below = 0 <= self.mean < self.smallest
        mean = f"<{self.smallest}" if below else self._written(self.mean, "+" if self.signed else "")
        deviations = self.between.join(self._written(value) for value in self.deviations.values())
        return (emphasis(mean) if self.bold else mean) + (f" ({deviations})" if deviations else "")

    def _written(self, value: float, sign: str = "") -> str:
        return "-" if value != value else f"{value:{sign}.{self.digits}f}"


Cell = str | int | Number


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: As many as the table has columns.
        ours: False for a row that the paper printed: never bold.
        begins_section: A line is drawn above it.
        is_detail: In the files only: a terminal is small.
    """

    cells: Sequence[Cell]
    ours: bool = True
    begins_section: bool = False
    is_detail: bool = False


@dataclass(frozen=True)
class ResultTable:
    """A table, independent of how it is written.

    Attributes:
        name: Of its files.
        title: Above it.
        columns: Headers.
        rows: Of as many cells.
        notes: Below it, one line each.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def with_best_bold(self) -> "ResultTable":
        """The highest number of each column among our rows in bold; equal ones all."""
        best = {}
        for k in range(len(self.columns)):
            means = [cell.mean for row in self.rows if row.ours and isinstance(cell := row.cells[k], Number)]
            best[k] = max((mean for mean in means if mean == mean), default=None)
        rows = [
            replace(
                row,
                cells=[
                    replace(cell, bold=cell.mean == best[k]) if isinstance(cell, Number) and row.ours else cell
                    for k, cell in enumerate(row.cells)
                ],
            )
            for row in self.rows
        ]
        return replace(self, rows=rows)

    def with_note(self, note: str) -> "ResultTable":
        """The same with one more line below it."""
        return replace(self, notes=[*self.notes, note])

    def terminal(self) -> Table:
        """For a rich console, without the notes, which are longer than its lines."""
        table = Table(title=escape(self.title), title_justify="left", min_width=len(self.title))
        for k, column in enumerate(self.columns):
            numeric = any(not isinstance(row.cells[k], str) for row in self.rows)
            table.add_column(escape(column), justify="right" if numeric else "left", no_wrap=k == 0)
        for row in (row for row in self.rows if not row.is_detail):
            if row.begins_section:
                table.add_section()
            cells = [_written(cell, escape, lambda text: f"[bold]{text}[/bold]") for cell in row.cells]
            table.add_row(*cells, style=None if row.ours else "dim")
        return table

    def markdown(self) -> str:
        """A pipe table under its title, the notes below."""
        lines = [_markdown_line(self.columns), "|---" * len(self.columns) + "|"]
        for row in self.rows:
            cells = [_written(cell, escape_markdown, lambda text: f"**{text}**") for cell in row.cells]
            lines.append("| " + " | ".join(cells) + " |")
        notes = [f"- {escape_markdown(note)}" for note in self.notes]
        return "\n".join([f"**{escape_markdown(self.title)}**", "", *lines, "", *notes]) + "\n"

    def spreadsheet(self) -> pd.DataFrame:
        """Numbers in full precision: the mean and every deviation in columns of their own, and who reports the row."""
        rows = []
        for row in self.rows:
            flat: dict[str, str | float] = {}
            for column, cell in zip(self.columns, row.cells, strict=True):
                if isinstance(cell, Number):
                    flat[f"{column}_mean"] = cell.mean
                    flat |= {f"{column}_{name}": value for name, value in cell.deviations.items()}
                else:
                    flat[column] = cell
            rows.append({**flat, "source": "ours" if row.ours else "paper"})
        return pd.DataFrame(rows)

    def latex(self) -> str:
        """A ``table`` environment with the rules of the package booktabs, the notes in small print below."""
        lines = [" & ".join(_escape_latex(column) for column in self.columns) + r" \\", r"\midrule"]
        for number, row in enumerate(self.rows):
            if row.begins_section and number:
                lines.append(r"\midrule")
            lines.append(" & ".join(_latex_cell(cell) for cell in row.cells) + r" \\")
        notes = [rf"\par\footnotesize {_escape_latex(note)}" for note in self.notes]
        head = [
            r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(self.title)}}}", rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\toprule",
        ]  # fmt: skip
        return "\n".join([*head, *lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"]) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.md``, ``NAME.csv`` and ``NAME.tex`` into a folder.

        Raises:
            InputError: The folder cannot be written.
        """
        cells = without_formulas(self.spreadsheet())
        contents = {"md": self.markdown(), "csv": cells.to_csv(index=False), "tex": self.latex()}
        for suffix, content in contents.items():
            with replacing(folder / f"{self.name}.{suffix}") as temporary:
                temporary.write_text(content)
        return [folder / f"{self.name}.{suffix}" for suffix in contents]


def _written(cell: Cell, escaped: Callable[[str], str], bold: Callable[[str], str]) -> str:
    return cell.text(bold) if isinstance(cell, Number) else escaped(str(cell))


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"


def escape_markdown(text: str) -> str:
    """Text on one line that makes no markup, and no picture or link, which a viewer would fetch."""
    return re.sub(r"([\\|*`<]|!(?=\[)|\](?=[(\[]))", r"\\\1", " ".join(text.split()))


LATEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _latex_cell(cell: Cell) -> str:
    text = _written(cell, _escape_latex, lambda text: rf"\textbf{{{text}}}")
    return re.sub(r"-(?=\d)|<", r"$\g<0>$", text) if isinstance(cell, Number) else text


def _escape_latex(text: str) -> str:
    return text.translate(str.maketrans(LATEX))
