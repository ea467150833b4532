"""One table, written four ways."""

import io
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from liverattn.reporting.results import Number, ResultTable, Row

NAN = math.nan


def table(**changes: object) -> ResultTable:
    rows = [
        Row(["a_1 [x]|&", 9, Number(0.91349, {"deviation": 0.0271}), Number(0.5, {"deviation": NAN}, digits=4)]),
        Row(["a_1 (paper)", 9, Number(0.99, {"deviation": 0.027}), Number(0.9145, digits=4)], ours=False),
        Row(["hidden", 1, Number(0.1), Number(0.1)], is_detail=True),
        Row(["ensemble", 9, Number(0.9349, {"deviation": 0.02}), Number(NAN, digits=4)], begins_section=True),
    ]
    given = {"rows": rows, "notes": ["100 % by f_1 & co."], **changes}
    return ResultTable("table2", "AUC of 9", ["who", "fold runs", "lesion", "score"], **given)  # type: ignore[arg-type]


def printed(result: ResultTable, width: int = 120) -> list[str]:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(result.terminal())
    return capture.get().splitlines()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number(0.9145), "0.914"),
        (Number(0.9145, digits=4), "0.9145"),
        (Number(0.913, {"deviation": 0.0267}), "0.913 (0.027)"),
        (Number(0.895, {"deviation_of_outputs": 0.06, "deviation": NAN}), "0.895 (0.060 / -)"),
        (Number(0.02, {"deviation": 0.01}, signed=True), "+0.020 (0.010)"),
        (Number(-0.02, signed=True), "-0.020"),
        (Number(NAN, {"deviation": NAN}), "- (-)"),
        (Number(1, {"deviation": 0}), "1.000 (0.000)"),
        (Number(0.00009, digits=4, smallest=0.0001), "<0.0001"),
        (Number(0.0001, digits=4, smallest=0.0001), "0.0001"),
        (Number(-0.5, smallest=0.0001), "-0.500"),
    ],
)
def test_numbers(number: Number, text: str) -> None:
    assert number.text() == text


def test_only_a_bold_mean_is_emphasized() -> None:
    assert Number(0.9, {"deviation": 0.1}, bold=True).text(lambda text: f"<{text}>") == "<0.900> (0.100)"
    assert Number(0.9, {"deviation": 0.1}).text(lambda text: f"<{text}>") == "0.900 (0.100)"


def test_the_best_of_ours_is_bold_in_every_column() -> None:
    rows = table().with_best_bold().rows
    assert [[cell.bold for cell in row.cells if isinstance(cell, Number)] for row in rows] == [
        [False, True],
        [False, False],  # the paper's, though higher
        [False, False],
        [True, False],
    ]
    twins = [Row(["a", Number(0.5)]), Row(["b", Number(0.5)]), Row(["c", Number(0.4999999)])]
    bold = ResultTable("t", "t", ["who", "x"], twins).with_best_bold().rows
    assert [row.cells[1].bold for row in bold] == [True, True, False]  # type: ignore[union-attr]
    undefined = ResultTable("t", "t", ["who", "x"], [Row(["a", Number(NAN)])]).with_best_bold().rows
    assert not undefined[0].cells[1].bold  # type: ignore[union-attr]


def test_terminal() -> None:
    lines = printed(table().with_best_bold())
    assert lines[0].strip() == "AUC of 9"
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert cells == [
        ["a_1 [x]|&", "9", "0.913 (0.027)", "0.5000 (-)"],
        ["a_1 (paper)", "9", "0.990 (0.027)", "0.9145"],
        ["ensemble", "9", "0.935 (0.020)", "-"],
    ]
    assert sum("┼" in line for line in lines) == 1  # the section of the ensemble
    narrow = printed(table(), 50)
    assert max(map(len, narrow)) <= 50 and any("a_1 (paper)" in line for line in narrow)


def test_markdown() -> None:
    lines = table().with_best_bold().markdown().splitlines()
    assert lines == [
        "**AUC of 9**",
        "",
        "| who | fold runs | lesion | score |",
        "|---|---|---|---|",
        r"| a_1 [x]\|& | 9 | 0.913 (0.027) | **0.5000** (-) |",
        "| a_1 (paper) | 9 | 0.990 (0.027) | 0.9145 |",
        "| hidden | 1 | 0.100 | 0.100 |",
        "| ensemble | 9 | **0.935** (0.020) | - |",
        "",
        "- 100 % by f_1 & co.",
    ]


def test_latex() -> None:
    p = Number(0, smallest=0.0001)
    differences = Row(["b - c", 3, Number(-0.021, {"deviation": 0.01}, signed=True), p], begins_section=True)
    result = table().with_best_bold()
    lines = ResultTable(result.name, result.title, result.columns, [*result.rows, differences], result.notes).latex()
    assert lines.splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{AUC of 9}",
        r"\label{tab:table2}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"who & fold runs & lesion & score \\",
        r"\midrule",
        r"a\_1 [x]|\& & 9 & 0.913 (0.027) & \textbf{0.5000} (-) \\",
        r"a\_1 (paper) & 9 & 0.990 (0.027) & 0.9145 \\",
        r"hidden & 1 & 0.100 & 0.100 \\",
        r"\midrule",
        r"ensemble & 9 & \textbf{0.935} (0.020) & - \\",
        r"\midrule",
        r"b - c & 3 & $-$0.021 (0.010) & $<$0.0001 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize 100 \% by f\_1 \& co.",
        r"\end{table}",
    ]


def test_a_spreadsheet_holds_full_precision_in_separate_columns(tmp_path: Path) -> None:
    paths = table().write(tmp_path)
    assert [path.name for path in paths] == ["table2.md", "table2.csv", "table2.tex"]
    assert paths[0].read_text() == table().markdown() and paths[2].read_text() == table().latex()
    read = pd.read_csv(paths[1])
    assert list(read) == [
        "who",
        "fold runs",
        "lesion_mean",
        "lesion_deviation",
        "score_mean",
        "score_deviation",
        "source",
    ]
    assert read["lesion_mean"].tolist() == [0.91349, 0.99, 0.1, 0.9349]
    assert read["score_mean"].isna().tolist() == [False, False, False, True]
    assert read["source"].tolist() == ["ours", "paper", "ours", "ours"]
    assert read["who"][0] == "a_1 [x]|&"
    assert not list(tmp_path.glob(".*"))


text = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=12)


@given(text, text)
def test_no_name_breaks_a_table(name: str, note: str) -> None:
    result = ResultTable("t", name, [name, "x"], [Row([name, Number(0.5)])], [note])
    printed(result)
    latex = result.latex().replace(r"\\", "").replace(r"\&", "")
    assert latex.count("&") == 2  # one between the two cells of the header and of the row
    row = result.markdown().splitlines()[4]
    assert row.replace(r"\|", "").replace("\\\\", "").count("|") == 3
    read = pd.read_csv(io.StringIO(result.spreadsheet().to_csv(index=False)), keep_default_na=False)
    assert len(read) == 1


def test_names_fetch_nothing_and_break_no_line_in_markdown() -> None:
    site = "![x](http://example.org/p.png)\n\n# Title\n[y][z] [0.25]"
    lines = table(rows=[Row([site, 1, Number(0.5), Number(0.5)])]).markdown().splitlines()
    assert lines[4] == r"| \![x\](http://example.org/p.png) # Title [y\][z] [0.25] | 1 | 0.500 | 0.500 |"
