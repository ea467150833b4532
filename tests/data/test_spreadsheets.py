"""Tables as people keep them: other columns, other words, one row per box, workbooks."""

import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from liverattn.configuration import build
from liverattn.data import workbooks
from liverattn.data.manifest import Manifest, read_manifest
from liverattn.data.sources.spreadsheet import SpreadsheetSource
from liverattn.data.spreadsheets import read_cells
from liverattn.errors import InputError, InputListError

from .conftest import save_case
from .test_importing import composed

EXPORTS = Path(__file__).parent / "exports"
LABELS = ["lesion", "malignant", "type"]
GERMAN = {"path": "Bild", "patient_id": "Patient", "x0": "links", "y0": "oben", "width": "breit", "height": "hoch"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate("abcdef"):
        save_case(tmp_path / f"{name}.png", seed)
    return tmp_path


def read(path: Path, root: Path, columns: dict[str, Any], **options: Any) -> Manifest:
    return SpreadsheetSource(path=str(path), root=str(root), columns=columns, **options).manifest()


def test_a_workbook_with_classes_and_a_row_per_box(root: Path) -> None:
    classes = {"zyste": "cyst", "kein Herd": "none", "hcc": "hcc", "fnh": "fnh", "metastasis": "metastasis"}
    manifest = read(EXPORTS / "cases.xlsx", root, GERMAN | {"class": "Befund"}, classes=classes, sheet="Befunde")
    (root / "cases.csv").write_bytes((EXPORTS / "cases.csv").read_bytes())
    expected = read_manifest(root / "cases.csv").table
    assert manifest.table["patient_id"].tolist() == list("123456")
    for column in ("image_id", "path", "lesion", "malignant", "type"):
        assert manifest.table[column].astype(str).tolist() == expected[column].astype(str).tolist()
    for found, known in zip(manifest.table["boxes"], expected["boxes"], strict=True):
        np.testing.assert_array_equal(found, known)
    assert manifest.notes == ("1 row(s) were joined with another of the same image",)


def test_other_words_other_separators_and_decimal_commas(root: Path) -> None:
    (root / "own.csv").write_text(
        "Nr;Herd;b;links;oben;breit;hoch\na;NEIN;;;;;\nb;ja;x;8;10,5;16;20\nc;Ja;x;;;;\n", encoding="utf-8-sig"
    )
    columns = {"image_id": "Nr", "lesion": "Herd", "x0": "links", "y0": "oben", "width": "breit", "height": "hoch"}
    table = read(root / "own.csv", root, columns, values={"lesion": {"ja": 1, "nein": 0}}).table
    assert table["lesion"].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(table.at[1, "boxes"], [[8, 10.5, 24, 30.5]])
    assert table.at[2, "boxes"] is None


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"'])
def test_a_first_line_with_the_separator_is_no_row(root: Path, first: str) -> None:
    (root / "own.csv").write_text(f"{first}\r\npath;lesion;a, b, c, d\r\na;1;\r\nzz;0;\r\n")
    with pytest.raises(InputListError, match="row 3: 'zz' is not among the images"):
        read(root / "own.csv", root, {"path": "path", "lesion": "lesion"})


def test_boxes_as_edges_and_as_lists(root: Path) -> None:
    rows = ['a,1,1,2,3,4,"[[5, 6, 7, 8]]"', "a,1,9,9,12,12,", "a,1,1,2,3,4,"]
    (root / "own.csv").write_text("\n".join(["path,lesion,l,t,r,b,more", *rows]))
    columns = {"path": "path", "lesion": "lesion", "x0": "l", "y0": "t", "x1": "r", "y1": "b", "boxes": "more"}
    boxes = read(root / "own.csv", root, columns).table.at[0, "boxes"]
    np.testing.assert_array_equal(boxes, [[5, 6, 7, 8], [1, 2, 3, 4], [9, 9, 12, 12]])


def test_boxes_in_shares_and_with_separated_thousands_are_refused(root: Path) -> None:
    columns = {"path": "path", "lesion": "lesion", "x0": "l", "y0": "t", "x1": "r", "y1": "b"}
    for row, message in {
        "a;1;0,2;0,3;0,5;0,6": r"box \[0\.2, 0\.3, 0\.5, 0\.6\] lies within the first pixel: give edges in pixels",
        "a;1;1,024;2;1,100;40": r"row\(s\) 2 \(a\.png\): '1,024' may be 1024 or 1\.024: write one",
    }.items():
        (root / "own.csv").write_text(f"path;lesion;l;t;r;b\n{row}\n")
        with pytest.raises(InputListError, match=message):
            read(root / "own.csv", root, columns)
    (root / "own.csv").write_text("path;lesion;l;t;r;b\na;1;10,125;2,5;12,75;40\n")  # no image is 10,125 pixels wide
    boxes = read(root / "own.csv", root, columns).table.at[0, "boxes"]
    np.testing.assert_array_equal(boxes, [[10.125, 2.5, 12.75, 40]])


def test_boxes_on_turned_images_are_refused(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (64, 48), 90).save(root / "a.png", exif=exif)
    (root / "own.csv").write_text('path,lesion,boxes\na,1,"[[1, 2, 30, 40]]"\nb,0,\n')
    columns = {name: name for name in ("path", "lesion", "boxes")}
    with pytest.raises(InputListError, match=r"row\(s\) 2 \(a\.png\): is turned by its EXIF orientation \(6\)"):
        read(root / "own.csv", root, columns)
    (root / "own.csv").write_text("path,lesion,boxes\na,1,\nb,0,\n")
    assert len(read(root / "own.csv", root, columns)) == 2


def test_boxes_of_ignored_classes_are_no_lesions(root: Path) -> None:
    rows = ['a,cyst,"[[1, 2, 9, 9]]"', 'a,liver,"[[0, 0, 60, 40]]"', 'b,liver,"[[0, 0, 60, 40]]"']
    (root / "own.csv").write_text("\n".join(["path,kind,boxes", *rows]))
    columns = {"path": "path", "class": "kind", "boxes": "boxes"}
    table = read(root / "own.csv", root, columns, classes={"cyst": "cyst", "liver": "ignore"}).table
    assert table["lesion"].tolist() == [1, 0]
    np.testing.assert_array_equal(table.at[0, "boxes"], [[1, 2, 9, 9]])


def test_what_cannot_be_translated_is_all_listed(root: Path) -> None:
    rows = [
        "a,cyst,1,2,3,4",
        "a,cyst,1,x,3,4",
        "b,Zyste,,,,",
        "zz,none,,,,",
        "c,none,,,,",
        "c,cyst,1,1,9,9",
        "d,cyst,1,,,",
    ]
    (root / "own.csv").write_text("\n".join(["path,kind,l,t,r,b", *rows]))
    columns = {"path": "path", "class": "kind", "x0": "l", "y0": "t", "x1": "r", "y1": "b"}
    with pytest.raises(InputListError) as caught:
        read(root / "own.csv", root, columns, classes={"cyst": "cyst", "none": "none"})
    assert caught.value.problems == (
        "row 5: 'zz' is not among the images below data.root",
        "row(s) 2, 3 (a.png): x0, y0, x1, y1 are not four numbers: '1', 'x', '3', '4'",
        "row(s) 4 (b.png): unknown class 'Zyste': say what it means in data.classes",
        "row(s) 6, 7 (c.png): is called lesion-free and has a lesion at once",
        "row(s) 8 (d.png): x0, y0, width, height are not four numbers: '1', '', '', ''",
    )


def test_rows_of_one_image_must_agree(root: Path) -> None:
    (root / "own.csv").write_text("path,lesion\na,1\na.png,0\n")
    with pytest.raises(InputListError, match="rows of one image differ in lesion: '0', '1'"):
        read(root / "own.csv", root, {"path": "path", "lesion": "lesion"})


def test_classes_never_override_what_a_row_says(root: Path) -> None:
    columns = {"path": "path", "lesion": "lesion", "malignant": "mal", "class": "kind"}
    classes = {"hcc": "hcc", "cyst": "cyst", "lesion": "lesion", "none": "none", "liver": "ignore"}

    def cases(*rows: str, **given: str | None) -> list[list[str]]:
        (root / "own.csv").write_text("\n".join(["path,lesion,mal,kind", *rows]))
        table = read(root / "own.csv", root, columns | given, classes=classes).table
        return [["" if pd.isna(cell) else str(cell) for cell in row] for row in table[LABELS].values.tolist()]

    assert cases("a,1,,", "b,1,1,", "c,1,1,lesion", "d,,,cyst", "e,1,,liver", "f,0,0,none") == [
        ["1", "", ""],
        ["1", "1", ""],
        ["1", "1", ""],
        ["1", "0", "cyst"],
        ["1", "", ""],
        ["0", "", ""],
    ]
    assert cases("a,,,", "b,,,liver", lesion=None, malignant=None)[0] == ["0", "", ""]
    with pytest.raises(InputListError) as caught:
        cases("a,0,,hcc", "b,1,0,hcc", "c,1,,none")
    assert caught.value.problems == (
        "row(s) 2 (a.png): lesion is '0', but class 'hcc' means '1'",
        "row(s) 3 (b.png): malignant is '0', but class 'hcc' means '1'",
        "row(s) 4 (c.png): lesion is '1', but class 'none' means '0'",
    )
    with pytest.raises(InputListError, match="must not be blank"):
        cases("a,,,")


def test_rows_of_images_in_other_folders(root: Path) -> None:
    (root / "P1").mkdir()
    (root / "a.png").rename(root / "P1/a.png")
    (root / "own.csv").write_text("path,lesion\nP1/a.png,1\nP2/a.png,1\n")
    with pytest.raises(InputListError, match=r"row 3: 'P2/a.png' is not among .* \(P1/a.png lies in another folder\)"):
        read(root / "own.csv", root, {"path": "path", "lesion": "lesion"})
    (root / "own.csv").write_text("path,lesion\nX/b.png,1\nY/b.png,1\n")
    with pytest.raises(InputListError, match=r"row 3: 'Y/b.png' would be b.png, as 'X/b.png' is"):
        read(root / "own.csv", root, {"path": "path", "lesion": "lesion"})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('office:string-value="" calcext:value-type="error"', r"1 formula\(s\) in it failed, such as #N/A"),
        (
            'table:number-columns-spanned="1" table:number-rows-spanned="12"',
            r"1 cell\(s\) in it are merged over several",
        ),
    ],
)
def test_what_reads_as_blank_in_ods_is_refused(root: Path, cell: str, message: str) -> None:
    cells = f'<table:table-cell table:number-rows-spanned="1"/><table:table-cell {cell}/>'
    with zipfile.ZipFile(root / "own.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", f"<office:document-content>{cells}")
    with pytest.raises(InputError, match=rf"own.ods cannot be read \({message}"):
        read_cells(root / "own.ods")


def test_cells_that_are_merged_over_rows_are_said_of_each(root: Path) -> None:
    merged = (
        b'<mergeCells><mergeCell ref="B3:B5"/><mergeCell ref="C1:C2"/><mergeCell ref="X3:Z9"/></mergeCells><pageMargins'
    )
    with zipfile.ZipFile(EXPORTS / "cases.xlsx") as old, zipfile.ZipFile(root / "own.xlsx", "w") as new:
        for name in old.namelist():
            content = old.read(name).replace(b"<pageMargins", merged)
            for row in (4, 5):
                content = content.replace(f'<c r="B{row}" t="n"><v>3</v></c>'.encode(), b"")
            new.writestr(name, content)
    cells = read_cells(root / "own.xlsx", "Befunde")
    assert cells["Patient"].tolist() == ["1", "2", "2", "2", "4", "5", "6"]
    assert cells["Befund"].tolist()[0] == "kein Herd"


@pytest.mark.parametrize("name", ["own.xls", "own.XLSB"])
def test_workbooks_in_which_failed_formulas_are_blank_are_refused(root: Path, name: str) -> None:
    (root / name).write_bytes((EXPORTS / "cases.xlsx").read_bytes())
    with pytest.raises(InputError, match=rf"The workbook .*{name} cannot be read: .* #N/A, .* Save it as XLSX\."):
        read_cells(root / name, "Befunde")


def test_columns_that_are_not_named_are_said(root: Path) -> None:
    (root / "own.csv").write_text("path,lesion,boxes,patient_id\na.png,1,,P1\nb.png,0,,P1\n")
    manifest = read(root / "own.csv", root, {"path": "path", "lesion": "lesion", "boxes": "boxes"})
    said = f"{root / 'own.csv'}: column(s) not used: patient_id; name them in data.columns where they count"
    assert manifest.warnings == (said,)
    everything = {name: name for name in ("path", "lesion", "boxes", "patient_id")}
    assert read(root / "own.csv", root, everything).warnings == ()


def test_blank_classes_are_said(root: Path) -> None:
    columns, classes = {"path": "path", "class": "kind"}, {"cyst": "cyst", "none": "none"}
    (root / "own.csv").write_text("path,lesion,kind\na,1,\nb,0,none\n")
    assert read(root / "own.csv", root, columns | {"lesion": "lesion"}, classes=classes).warnings == ()
    (root / "own.csv").write_text("path,kind\na,cyst\nb,\nc,none\nd,\n")
    manifest = read(root / "own.csv", root, columns, classes=classes)
    assert manifest.table["lesion"].tolist() == [1, 0, 0, 0]
    (warning,) = manifest.warnings
    assert warning.startswith(f"{root / 'own.csv'}: 2 image(s) with a blank class are taken as lesion-free")


def test_columns_that_are_not_there(root: Path) -> None:
    (root / "own.csv").write_text("Bild,Herd\na,1\n")
    with pytest.raises(InputError, match=r"has no column\(s\) path='path'. Found: Bild, Herd\. Give their names as"):
        read(root / "own.csv", root, {"path": "path", "lesion": "Herd"})
    with pytest.raises(InputError, match=r"Unknown column\(s\) bild in data\.columns\. Valid: image_id, path"):
        read(root / "own.csv", root, {"bild": "Bild"})
    for columns in ({"path": "Bild"}, {"lesion": "Herd"}):
        with pytest.raises(InputError, match="a column for path or image_id, and one for lesion or class"):
            read(root / "own.csv", root, columns)


def test_workbooks_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"has no sheet 'x'\. Found: Notizen, Befunde\."):
        read_cells(EXPORTS / "cases.xlsx", "x")
    with pytest.raises(InputError, match=r"has no header in its first row"):
        read_cells(EXPORTS / "cases.xlsx")
    content = (EXPORTS / "cases.xlsx").read_bytes()
    for name, damaged in {"cut.xlsx": content[:900], "text.xlsx": b"image_id,path", "empty.ods": b""}.items():
        (root / name).write_bytes(damaged)
        with pytest.raises(InputError, match=rf"The workbook .*{name} cannot be read"):
            read_cells(root / name)
    for name in ("none.xlsx", "none.csv"):
        with pytest.raises(InputError, match=rf"The table .*{name} does not exist\. Correct its path\."):
            read_cells(root / name)
    with zipfile.ZipFile(root / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(6):
            archive.writestr(f"xl/{i}.xml", bytes(1_000_000))
    monkeypatch.setattr(workbooks, "LARGEST_WORKBOOK", 5_000_000)
    with pytest.raises(InputError, match="it would unpack to 6 MB"):
        read_cells(root / "bomb.xlsx")


def test_formulas_that_failed_are_not_blank(root: Path) -> None:
    cell = b'<c r="C2" t="inlineStr"><is><t>kein Herd</t></is></c>'
    failed = b'<c r="C2" s="4" t="e"><f>VLOOKUP(A2,X!A:B,2,FALSE)</f><v>#N/A</v></c>'
    with zipfile.ZipFile(EXPORTS / "cases.xlsx") as old, zipfile.ZipFile(root / "own.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(cell, failed))
    assert read_cells(root / "own.xlsx", "Befunde")["Befund"].tolist()[:2] == ["#N/A", "Zyste"]
    with pytest.raises(InputListError, match=r"row\(s\) 2 \(a.png\): unknown class '#N/A'"):
        read(root / "own.xlsx", root, GERMAN | {"class": "Befund"}, classes={"zyste": "cyst"}, sheet="Befunde")


@pytest.mark.parametrize("option", ["data.values={lesion: {ja: 1}}", "+data.values={lesion: {ja: 1}}"])
def test_values_may_be_given_with_and_without_a_plus(tmp_path: Path, option: str) -> None:
    save_case(tmp_path / "a.png", 0)
    (tmp_path / "own.csv").write_text("path,lesion\na.png,ja\n")
    source = composed("table", f"data.manifest={tmp_path / 'own.csv'}", option).data.source
    assert build(source).manifest().table["lesion"].tolist() == [1]


def test_values_of_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("path,lesion\na.png,1\n")
    with pytest.raises(InputError, match=r"data\.values\.site is given, but data\.columns\.site is null"):
        SpreadsheetSource(
            path=str(tmp_path / "own.csv"), columns={"path": "path", "lesion": "lesion"}, values={"site": {"a": "b"}}
        ).manifest()


SHEET = "<worksheet xmlns='http://schemas.openxmlformats.org/spreadsheetml/2006/main'>{}</worksheet>"
FIRST = "<row r='1'><c r='A1' t='inlineStr'><is><t>path</t></is></c></row>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"<sheetData>{FIRST}<row r='1048576'><c r='XFD1048576'><v>1</v></c></row></sheetData>", "row 1048576 and"),
        (f"<sheetData>{FIRST}<row r='1048576'><c><v>1</v></c><c r='CV9'><v>1</v></c></row></sheetData>", "column 100 "),
        (
            f"<sheetData>{FIRST}<row r='100000'><c r='A100000'><v>1</v></c></row></sheetData><mergeCells>"
            + "<mergeCell ref='A2:A100000'/>" * 501 + "</mergeCells>",
            "its 501 merged cells overlap",
        ),
        (f"<sheetData>{FIRST}</sheetData><!--" + "<c r='A1' t='e'>" * 20_000 + "-->", None),
    ],
)  # fmt: skip
def test_sheets_that_would_never_be_read(root: Path, content: str, message: str | None) -> None:
    with zipfile.ZipFile(EXPORTS / "cases.xlsx") as old, zipfile.ZipFile(root / "own.xlsx", "w") as new:
        for name in old.namelist():
            is_sheet = name.startswith("xl/worksheets/sheet")
            new.writestr(name, SHEET.format(content) if is_sheet else old.read(name))
    started = time.monotonic()
    if message is None:
        assert read_cells(root / "own.xlsx").columns.tolist() == ["path"]
    else:
        with pytest.raises(InputError, match=f"cannot be read .*{message}"):
            read_cells(root / "own.xlsx")
    assert time.monotonic() - started < 10  # and not minutes
