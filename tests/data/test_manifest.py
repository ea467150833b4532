"""The table of cases: every invariant, every violation named at once, and tables as spreadsheets save them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.data.box_cells import parse_boxes
from liverattn.data.manifest import LESION_TYPES, check_manifest, read_manifest, write_manifest
from liverattn.errors import InputError

Write = Callable[..., Path]


def problems(path: Path) -> list[str]:
    """The lines of the error, without heading and remedy."""
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    heading, *lines, remedy = str(caught.value).splitlines()
    assert heading == f"{path}: {len(lines)} problem(s):"
    assert remedy == "Correct these rows and run again."
    return [line.removeprefix("  - ") for line in lines]


def test_all_columns_are_read_and_what_is_blank_is_filled_in(table: Write) -> None:
    path = table(
        '1,a.png,p1,1,1,hcc,"[[1,2,10.5,20],[0,0,64,48]]",Lille',
        "2,b.png,p1,1,,cyst,,",
        "3,c.png,,1,,,,",
        "4,d.png,,1,1,,,",
        "5,e.png,,0,,,,",
    )
    manifest = read_manifest(path)
    read = manifest.table
    assert (len(manifest), manifest.root, len(manifest.warnings)) == (5, path.parent, 1)
    assert read["image_id"].tolist() == ["1", "2", "3", "4", "5"]
    assert read["patient_id"].tolist() == ["p1", "p1", "3", "4", "5"]
    assert read["lesion"].tolist() == [1, 1, 1, 1, 0]
    assert read["malignant"].tolist() == [1, 0, pd.NA, 1, pd.NA]  # the second one follows from the type
    assert read["type"].tolist() == ["hcc", "cyst", None, None, None]
    assert read["site"].tolist() == ["Lille", None, None, None, None]
    np.testing.assert_array_equal(read.at[0, "boxes"], [[1, 2, 10.5, 20], [0, 0, 64, 48]])
    assert read.at[1, "boxes"] is None  # a lesion whose boxes are not known
    assert read.at[4, "boxes"].shape == (0, 4)  # none, which is known


@pytest.mark.parametrize("kind", LESION_TYPES)
def test_malignancy_follows_from_the_type(table: Write, kind: str) -> None:
    malignant = int(kind in ("hcc", "metastasis"))
    assert read_manifest(table(f"1,a.png,,1,,{kind},,")).table["malignant"].tolist() == [malignant]
    (problem,) = problems(table(f"1,a.png,,1,{1 - malignant},{kind},,"))
    assert problem == (
        f"row 2 (image_id '1'), column 'malignant', value '{1 - malignant}': "
        "must be 1 exactly where type is hcc or metastasis"
    )


def test_every_violation_is_named_at_once_with_row_column_and_value(table: Write) -> None:
    path = table(
        'x,a.png,,1,,,"[[NaN,2,10,20]]",',
        'x,b.png,,1,0,hcc,"[[1,2,Infinity,20]]",',
        '3,../c.png,,0,1,cyst,"[[1,2,3,4]]",',
        "4,/etc/d.png,,2,9,Foo,oops,",
        '5,C:\\e.png,,,,,"[[-1,2,3,4],[5,5,1,1],[1,2,3]]",',
        "6,zz.png,,1,,,[],",
        ',f.png,,1,,,"[[7,7,7,9]]",',
        "x,,,1,,,,",
        '9,g.png,,1,,,"[[1,2,65,4],[1,2,3,49],[0,0,64,48]]",',
        "10,h.png,,0,,,,",
    )
    found = problems(path)
    expected = [
        ("row 2 (image_id 'x'), column 'boxes'", "NaN", "box [nan, 2.0, 10.0, 20.0] is not four finite numbers"),
        ("row 2 (image_id 'x'), column 'image_id'", "'x'", "must be unique, but occurs more than once"),
        ("row 3 (image_id 'x'), column 'boxes'", "Infinity", "is not four finite numbers"),
        ("row 3 (image_id 'x'), column 'image_id'", "'x'", "must be unique"),
        ("row 3 (image_id 'x'), column 'malignant'", "value '0'", "must be 1 exactly where type is hcc or metastasis"),
        ("row 4 (image_id '3'), column 'boxes'", "[[1,2,3,4]]", "must be blank where lesion is 0"),
        ("row 4 (image_id '3'), column 'malignant'", "value '1'", "must be 1 exactly where"),
        ("row 4 (image_id '3'), column 'malignant'", "value '1'", "must be blank where lesion is 0"),
        ("row 4 (image_id '3'), column 'path'", "'../c.png'", "must be relative, without '..', inside the root"),
        ("row 4 (image_id '3'), column 'type'", "value 'cyst'", "must be blank where lesion is 0"),
        ("row 5 (image_id '4'), column 'boxes'", "value 'oops'", "is not JSON (Expecting value at character 0)"),
        ("row 5 (image_id '4'), column 'lesion'", "value '2'", "must be 0 or 1"),
        ("row 5 (image_id '4'), column 'malignant'", "value '9'", "must be 0, 1 or blank (unknown)"),
        ("row 5 (image_id '4'), column 'path'", "'/etc/d.png'", "must be relative"),
        (
            "row 5 (image_id '4'), column 'type'",
            "'Foo'",
            "must be one of angioma, hcc, fnh, cyst, metastasis, or blank",
        ),
        ("row 6 (image_id '5'), column 'boxes'", "box [-1.0, 2.0, 3.0, 4.0] begins outside", "[1.0, 2.0, 3.0] is not"),
        ("row 6 (image_id '5'), column 'lesion'", "value blank", "must not be blank"),
        ("row 6 (image_id '5'), column 'path'", "C:", "must be relative"),
        ("row 7 (image_id '6'), column 'boxes'", "'[]'", "has no boxes; leave the cell blank where boxes are unknown"),
        ("row 7 (image_id '6'), column 'path'", "'zz.png'", "the file does not exist"),
        ("row 8 (image_id None), column 'boxes'", "[[7,7,7,9]]", "is empty or inverted"),
        ("row 8 (image_id None), column 'image_id'", "value blank", "must not be blank"),
        ("row 9 (image_id 'x'), column 'image_id'", "'x'", "must be unique"),
        ("row 9 (image_id 'x'), column 'path'", "value blank", "must not be blank"),
        ("row 10 (image_id '9'), column 'boxes'", "[1.0, 2.0, 65.0, 4.0], [1.0, 2.0, 3.0, 49.0]", "of 64x48 pixels"),
    ]
    assert len(found) == len(expected)
    for line, (start, *parts) in zip(found, expected, strict=True):
        assert line.startswith(start)
        assert all(part in line for part in parts), line
    assert "[5.0, 5.0, 1.0, 1.0] is empty or inverted" in found[15]  # all boxes of a cell, not only the first
    assert "[0.0, 0.0, 64.0, 48.0]" not in found[24]  # the whole image is a box


@pytest.mark.parametrize(
    "path",
    ["/etc/a.png", "..", "../a.png", "x/../../a.png", "x\\..\\..\\a.png", "C:\\a.png", "C:a.png", "\\a.png", "\0"],
)
def test_paths_that_leave_the_root_are_refused(table: Write, path: str) -> None:
    (problem,) = problems(table(f"1,{path},,0,,,,"))
    assert "column 'path'" in problem
    assert problem.endswith("must be relative, without '..', inside the root")


def test_links_may_stay_inside_the_root_but_not_lead_out(table: Write, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = table("1,in.png,,0,,,,", "2,out.png,,0,,,,", "3,loop.png,,0,,,,").rename(root / "cases.csv")
    (tmp_path / "a.png").rename(root / "a.png")
    (root / "in.png").symlink_to("a.png")
    (root / "out.png").symlink_to("../b.png")
    (root / "loop.png").symlink_to("loop.png")
    outside, loop = problems(path)
    assert outside == "row 3 (image_id '2'), column 'path', value 'out.png': leads outside the root through a link"
    assert loop.startswith("row 4 (image_id '3'), column 'path', value 'loop.png': cannot be opened as an image")


def test_unusable_images_are_named(table: Write, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    path = table("1,empty.png,,0,,,,", "2,text.png,,0,,,,", "3,.,,0,,,,", "4,x\\a.png,,0,,,,")
    assert [line.rpartition(": ")[2] for line in problems(path)] == [
        "the file is empty (0 bytes)",
        "not an image in a known format",
        "is a folder, not an image",
        "the file does not exist (write folders with / instead of \\)",
    ]


def test_an_image_is_listed_once(table: Write) -> None:
    path = table("1,a.png,p1,0,,,,", "2,b.png,p2,0,,,,", "3,./a.png,p3,0,,,,", "4,.//b.png,p4,0,,,,", "5,,,0,,,,")
    assert problems(path) == [
        "row 4 (image_id '3'), column 'path', value './a.png': "
        "is the same image as in row 2 (image_id '1'): each may be listed once",
        "row 5 (image_id '4'), column 'path', value './/b.png': "
        "is the same image as in row 3 (image_id '2'): each may be listed once",
        "row 6 (image_id '5'), column 'path', value blank: must not be blank",
    ]
    (path.parent / "link.png").symlink_to(path.parent / "a.png")
    (problem,) = problems(table("1,a.png,p1,0,,,,", "2,link.png,p2,0,,,,"))
    assert problem.endswith("is the same image as in row 2 (image_id '1'): each may be listed once")
    frame = pd.DataFrame({"image_id": ["1", "2"], "path": ["a.png", "a.png"], "lesion": ["0", "0"]})
    assert len(check_manifest(frame, path.parent, "to predict", open_images=False)) == 2


def test_long_cells_are_cut_in_messages(table: Write) -> None:
    deep, wide = problems(table(f"1,a.png,,1,,,{'[' * 100_000},", f'2,b.png,,1,,,"[[1,2,3,1{"0" * 400}]]",'))
    assert deep.endswith("is not a list of boxes (nested too deeply)")
    assert wide.endswith("box [1.0, 2.0, 3.0, inf] is not four finite numbers [x0, y0, x1, y1]")
    assert max(len(deep), len(wide)) < 300


def test_patients_that_may_be_one(table: Callable[..., Path]) -> None:
    patients = {
        "a": "P1",
        "b": "p1",
        "c": "P1 ",
        "d": "7",
        "e": "007.0",
        "f": "M\u00fcller",
        "g": "Mu\u0308ller",
        "h": "",
    }
    path = table(*(f"{name},{name}.png,{patient},0,,,," for name, patient in patients.items()))
    manifest = read_manifest(path)
    assert manifest.table["patient_id"].nunique() == 6
    assert manifest.table["patient_id"].tolist()[-2:] == ["M\u00fcller", "h"]
    blank, alike = manifest.warnings
    assert "1 image(s) of 8 have no patient_id, and each counts as a patient of its own" in blank and "(h)" in blank
    assert "2 patient_id(s) are spelled in several ways" in alike and "(images a and b, d and e)" in alike
    assert read_manifest(table("a,a.png,,0,,,,", "b,b.png,,0,,,,")).warnings == ()
    assert read_manifest(table("a,a.png,1,0,,,,", "b,b.png,11,0,,,,", "c,c.png,10,0,,,,")).warnings == ()


edges = st.floats(0, 1e4) | st.integers(0, 10_000)
boxes = st.lists(
    st.tuples(edges, edges, edges, edges).filter(lambda box: box[0] < box[2] > 1 and box[1] < box[3]),
    min_size=1,
    max_size=4,
)


@given(boxes)
def test_boxes_survive_json_exactly(values: list[tuple[float, ...]]) -> None:
    distinct = np.array(list(dict.fromkeys(values)), dtype=np.float64)
    np.testing.assert_array_equal(parse_boxes(json.dumps([*values, values[0]])), distinct)


@pytest.mark.parametrize(
    "text", ["{}", "5", "null", '"[[1,2,3,4]]"', "[1,2,3,4]", "[[true,false,3,4]]", '[["1",2,3,4]]']
)
def test_other_json_is_not_boxes(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(has no boxes|box .* is not four finite numbers)"):
        parse_boxes(text)


def test_what_is_written_reads_back_the_same(table: Write, tmp_path: Path) -> None:
    path = table(
        '007,a.png,"Doe, ""J""",1,1,hcc,"[[1,2,10.25,20],[0,0,64,48]]",Besançon', "NA,b.png,,1,,,,", "-1,c.png,,0,,,,"
    )
    first = read_manifest(path)
    write_manifest(first, tmp_path / "copy.csv")
    second = read_manifest(tmp_path / "copy.csv")
    assert first.table["image_id"].tolist() == ["007", "NA", "-1"]
    assert first.table.at[0, "patient_id"] == 'Doe, "J"'
    for column in first.table.columns.drop("boxes"):
        pd.testing.assert_series_equal(first.table[column], second.table[column])
    np.testing.assert_array_equal(first.table.at[0, "boxes"], second.table.at[0, "boxes"])
    assert second.table.at[1, "boxes"] is None
    assert second.table.at[2, "boxes"].shape == (0, 4)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_write_what_they_like(table: Write, tmp_path: Path, encoding: str, separator: str) -> None:
    content = pd.DataFrame(
        {
            "image_id ": [" 1", "2 "],
            "path": [" a.png ", "b.png"],
            "lesion": ["1.0", " 0.0 "],
            "malignant": ["1.0", "  "],
            "type": [" hcc ", " "],
            "boxes": ["[[1, 2, 10, 20]]", ""],
        }
    )
    path = tmp_path / "cases.csv"
    table()
    content.to_csv(path, index=False, sep=separator, encoding=encoding, lineterminator="\r\n")
    read = read_manifest(path).table
    assert read["image_id"].tolist() == ["1", "2"]
    assert read["lesion"].tolist() == [1, 0]
    assert read["malignant"].tolist() == [1, pd.NA]
    assert read["type"].tolist() == ["hcc", None]
    np.testing.assert_array_equal(read.at[0, "boxes"], [[1, 2, 10, 20]])
    assert read.at[1, "boxes"].shape == (0, 4)


def test_blank_rows_are_passed_over_and_counted(table: Write) -> None:
    (problem,) = problems(table("1,a.png,,0,,,,", "", ",,,,,,,,,", "2,zz.png,,0,,,,"))
    assert problem.startswith("row 5 (image_id '2')")
    read = read_manifest(table("1,a.png,,0,,,,", "", "2,b.png,,0")).table
    assert read.index.tolist() == [0, 1]
    assert read["image_id"].tolist() == ["1", "2"]


def test_columns_that_are_not_used_are_mentioned(table: Write) -> None:
    path = table("1,a.png,0,x", header="image_id,path,lesion,malignent")
    assert read_manifest(path).warnings == (f"{path}: column(s) not used: malignent",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no header in its first row"),
        (b"\n\n", "has no header"),
        (b"image_id,path,lesion\n", "has no rows. Add one row per image."),
        (b"image_id,lesion\n1,0\n", r"lacks the column\(s\) path. Found: image_id, lesion. Required: image_id, path"),
        (b"image_id,path,lesion,lesion\n1,a.png,0,1\n", r"has the column\(s\) lesion more than once"),
        (b"image_id,path,lesion,boxes\n1,a.png,1,[[1,2,3,4]]\n", "row 2 has 7 cells under 4 columns"),
        (b'image_id,path,lesion\n1,"a.png,0\n', "cannot be read as CSV in UTF-8"),
        ("image_id,path,lesion\né,a.png,0\n".encode("latin-1"), "In a spreadsheet, save it as 'CSV UTF-8'"),
        ("image_id,path,lesion\n".encode("utf-16"), "cannot be read as CSV in UTF-8"),
        (b"PK\x03\x04\xff", "cannot be read as CSV in UTF-8"),
    ],
)
def test_files_that_are_not_such_a_table(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_absent_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cases.csv does not exist. Give its path as data.manifest=\.\.\."):
        read_manifest(tmp_path / "cases.csv")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_manifest(tmp_path)


def test_tables_in_memory_are_checked_alike(table: Write, tmp_path: Path) -> None:
    table()
    frame = pd.DataFrame({"image_id": ["1"], "path": ["a.png"], "lesion": ["1"], "type": [np.nan], "boxes": [None]})
    manifest = check_manifest(frame, tmp_path, "the set", ["said before"])
    assert manifest.table.at[0, "type"] is None
    assert manifest.table.at[0, "boxes"] is None
    assert manifest.warnings == ("said before",)


def test_control_characters_are_refused(table: Write) -> None:
    found = problems(table('"a\x1b]0;owned\x07",a.png,p,0,,,,', '2,b.png,"p\nq",0,,,,'))
    said = "must have no line breaks or other control characters, which a terminal would obey"
    assert found == [
        rf"row 2 (image_id 'a\x1b]0;owned\x07'), column 'image_id', value 'a\x1b]0;owned\x07': {said}",
        rf"row 3 (image_id '2'), column 'patient_id', value 'p\nq': {said}",
    ]
