"""Tables, as the terminal shows them."""

import math
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from liverattn.reporting.tables import attention_table, counts_table, distribution_table, metrics_table, number


def lines(table: Table, width: int = 100) -> list[str]:
    """The table as printed, one stripped line each."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def row(table: Table, first: str) -> list[str]:
    """The cells of the line that begins with ``first``."""
    found = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines(table) if "│" in line]
    (cells,) = [cells for cells in found if cells[0] == first]
    return cells


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9145, "0.914"), (0.8996, "0.900"), (1.0, "1.000"), (0, "0.000"), (math.nan, "-"), (None, "-")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


METRICS: dict[str, Any] = {
    "score": 0.87654,
    "auc": {"lesion": 0.9134, "malignancy": None, "type": 0.75},
    "outputs": {"lesion": 0.9134, "malignancy": math.nan, "cyst": 1.0, "hcc": None, "[odd]": 0.5},
    "copies": {"lesion": {"epoch": 4}, "type": {"epoch": 0}},
    "attention": {
        "cases_with_boxes": 36.0,
        "pointing": 0.8611,
        "chance": 0.0712,
        "energy": 0.5,
        "average_precision": 0.654321,
        "iou": None,
    },
}


def test_metrics_table() -> None:
    table = metrics_table(METRICS, "paper")
    assert row(table, "lesion") == ["lesion", "0.913", "5"]  # epochs are counted from 1
    assert row(table, "malignancy") == ["malignancy", "-", "-"]
    assert row(table, "type") == ["type", "0.750", "1"]
    assert row(table, "cyst")[1] == "1.000"
    assert row(table, "hcc")[1] == "-"
    assert row(table, "[odd]")[1] == "0.500"  # a name is no markup
    assert row(table, "score (Eq. 4) (without malignancy: weights renormalized)")[1] == "0.877"
    complete = {**METRICS, "auc": {"lesion": 0.9, "malignancy": 0.8, "type": 0.7}, "score": 0.83}
    assert row(metrics_table(complete, "paper"), "score (Eq. 4)")[1] == "0.830"


def test_attention_table() -> None:
    table = attention_table(METRICS)
    assert lines(table)[0] == "Attention on 36 lesion images"
    assert row(table, "maximum inside a box (pointing game)")[1:] == ["0.861", "0.071"]
    assert row(table, "energy inside the boxes")[1:] == ["0.500", "0.071"]
    assert row(table, "average precision over cells")[1] == "0.654"
    assert row(table, "IoU at 0.5")[1] == "-"


def test_counts_in_the_form_of_table_1() -> None:
    counts = {"none": 258, "angioma": 17, "cyst": 30, "fnh": 8, "hcc": 6, "metastasis": 48}
    table = counts_table(counts)
    assert lines(table)[0] == "367 images (form of Table 1)"
    assert row(table, "none") == ["none", "258 (70.3%)"]
    assert row(table, "hcc") == ["hcc", "6 (1.6%)"]
    assert len(table.rows) == 6
    assert lines(counts_table({}))[0] == "0 images (form of Table 1)"
    assert row(counts_table({"none": 0}), "none") == ["none", "0 (0.0%)"]


def test_titles_stay_whole_over_narrow_tables() -> None:
    for table in (
        counts_table({"none": 491}),
        metrics_table({**METRICS, "outputs": {}}, "last"),
        attention_table(METRICS),
    ):
        assert lines(table)[0] == table.title
    assert lines(counts_table({"none": 491}))[0] == "491 images (form of Table 1)"


def test_distribution_table() -> None:
    table = distribution_table(
        {"width": {"5%": 480.4, "median": 640.6}, "top [gray]": {"5%": 30.0, "median": math.nan}}
    )
    assert [column.header for column in table.columns] == ["quantity", "5%", "median"]
    assert row(table, "width") == ["width", "480", "641"]
    assert row(table, "top [gray]") == ["top [gray]", "30", "-"]
    assert lines(distribution_table({}))[0] == "Distributions"
