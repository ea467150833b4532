"""Cells of CSV files that a spreadsheet would take for formulas."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.annotation.session import Session
from liverattn.annotation.table import create_table
from liverattn.data.manifest import read_manifest, write_manifest
from liverattn.data.spreadsheets import read_cells
from liverattn.formulas import as_meant, as_text, without_formulas
from liverattn.reporting.results import ResultTable, Row
from tests.annotation.conftest import write_images

HOSTILE = "=HYPERLINK(CHAR(1),1)"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        (HOSTILE, f"'{HOSTILE}"), ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"), ("@SUM(1)", "'@SUM(1)"),
        ("-a", "'-a"), ("'=a", "''=a"), ("\t=a", "'\t=a"), ("-0.5", "-0.5"), ("+3", "+3"), ("a=b", "a=b"),
        ("'a'", "'a'"), ("", ""), (-1.5, -1.5), (None, None),
    ],
)  # fmt: skip
def test_formulas_stand_behind_an_apostrophe(cell: object, written: object) -> None:
    assert as_text(cell) == written
    assert not isinstance(written, str) or as_meant(written) == cell


@given(st.text(st.sampled_from("'=+-@\t\r1a."), max_size=6))
def test_nothing_is_lost(cell: str) -> None:
    assert as_meant(str(as_text(cell))) == cell


def test_numbers_and_blanks_of_a_table_stay(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [HOSTILE, None], "b": [-1.5, 2.0], "c": pd.Series([1, None], dtype=object)})
    assert without_formulas(table).to_csv(index=False) == f'a,b,c\n"\'{HOSTILE}",-1.5,1\n,2.0,\n'
    ResultTable("t", "t", ["site"], [Row([HOSTILE])]).write(tmp_path)
    assert pd.read_csv(tmp_path / "t.csv")["site"][0] == f"'{HOSTILE}"


def test_names_of_images_come_back_as_they_are(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    for path, name in zip(sorted(tmp_path.glob("*.png")), (HOSTILE, "@a"), strict=True):
        path.rename(tmp_path / f"{name}.png")
    create_table(tmp_path, tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open() as stream:
        assert all(cell[:1] not in "=@" for row in csv.reader(stream) for cell in row if cell)
    session = Session(tmp_path / "cases.csv")
    assert sorted(session.table.image_ids) == sorted([HOSTILE, "@a"])
    for case in range(2):
        session.answer(case, "n")
    session.close()
    first = read_manifest(tmp_path / "cases.csv")
    write_manifest(first, tmp_path / "copy.csv")
    assert not (tmp_path / "copy.csv").read_text().count(f"\n{HOSTILE}")
    assert read_manifest(tmp_path / "copy.csv").table["path"].tolist() == first.table["path"].tolist()
    assert sorted(read_cells(tmp_path / "copy.csv")["image_id"]) == sorted([HOSTILE, "@a"])
