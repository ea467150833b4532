"""The table as a person keeps it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from liverattn.annotation.labels import Labels
from liverattn.annotation.table import CaseTable, create_table
from liverattn.data.manifest import read_manifest
from liverattn.errors import InputError
from tests.annotation.conftest import write_images

Table = Callable[..., Path]


def test_everything_else_stays_as_it_is(table: Table) -> None:
    path = table(
        "\ufeffremark;path;image_id;lesion;;boxes\r\n"
        '"says ""x"";";0.png;a;;extra;\r\n'
        "\r\n"
        ';1.png;b;1;;"[[1, 2, 9, 9]]"\r\n'
        ";2.png;c;0\r\n"
    )
    before = path.read_bytes()
    cases = CaseTable(path)
    assert cases.image_ids == ["a", "b", "c"]
    cases.write(0, Labels("1", "1", "hcc", "[[3, 4, 8, 9]]"))
    assert path.read_bytes().decode() == (
        "\ufeffremark;path;image_id;lesion;;boxes;malignant;type\r\n"
        '"says ""x"";";0.png;a;1;extra;[[3, 4, 8, 9]];1;hcc\r\n'
        "\r\n"
        ";1.png;b;1;;[[1, 2, 9, 9]];;\r\n"
        ";2.png;c;0;;;;\r\n"
    )
    assert (path.parent / "cases.before-annotation.csv").read_bytes() == before
    assert CaseTable(path).labels(0) == Labels("1", "1", "hcc", "[[3, 4, 8, 9]]")


def test_the_original_is_kept_once(blank: Path) -> None:
    original = blank.read_bytes()
    for answer in ("benign", "no lesion"):
        cases = CaseTable(blank)
        cases.write(1, cases.labels(1).answered(answer))
    assert (blank.parent / "cases.before-annotation.csv").read_bytes() == original


def test_complete_tables_are_manifests_and_others_are_refused(blank: Path) -> None:
    cases = CaseTable(blank)
    cases.write(0, Labels("0"))
    cases.write(1, Labels("1", "0", "cyst", "[[3, 4, 8, 9]]"))
    with pytest.raises(InputError, match=r"row 4 \(image_id 'c'\), column 'lesion', value blank"):
        read_manifest(blank)
    cases.write(2, Labels("1"))
    manifest = read_manifest(blank)
    assert manifest.table["lesion"].tolist() == [0, 1, 1]
    assert manifest.table.at[1, "boxes"].tolist() == [[3, 4, 8, 9]]


def test_changes_by_others_are_noticed(blank: Path) -> None:
    cases = CaseTable(blank)
    cases.write(0, Labels("0"))
    assert cases.is_unchanged()
    blank.write_text(blank.read_text().replace("0.png,0", "0.png,1"))
    assert not cases.is_unchanged()
    blank.unlink()
    assert not cases.is_unchanged()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image_id,path\na,0.png\na,1.png\n", "must be unique"),
        ("image_id,path\na,9.png\n", "does not exist"),
        ("image_id,path\na,../0.png\n", "inside the root"),
        ("image_id,path,lesion\na,0.png,perhaps\n", "must be 0 or 1"),
        ('image_id,path,lesion,boxes\na,0.png,,"[[1, 2, 50, 9]]"\n', "outside the image of 40x30"),
        ("image_id,lesion\na,\n", r"lacks the column\(s\) path"),
    ],
)
def test_what_no_manifest_allows_is_refused(table: Table, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        CaseTable(table(text))


def test_blank_lesions_with_other_labels_are_kept(table: Table) -> None:
    cases = CaseTable(table("image_id,path,lesion,type\na,0.png,,cyst\n"))
    assert cases.labels(0) == Labels("", "", "cyst", "")


def test_a_table_of_a_folder(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for folder in (images / "b", images / ".hidden"):
        folder.mkdir(parents=True)
        write_images(folder, 11)
    write_images(images, 1, size=(60, 50))
    (images / "0.txt").write_text("no image")
    (images / "0.tif").write_bytes((images / "0.png").read_bytes())
    (images / "broken.png").write_bytes(b"")
    left_out = create_table(images, tmp_path / "cases.csv")
    assert left_out == ["broken.png: the file is empty (0 bytes)"]
    cases = CaseTable(tmp_path / "cases.csv", images)
    assert cases.paths[:5] == ["0.png", "0.tif", "b/0.png", "b/1.png", "b/2.png"] or cases.paths[0] == "0.png"
    assert cases.image_ids[:3] == ["0.png", "0.tif", "b/0"] and cases.image_ids[-1] == "b/10"
    assert {cases.labels(case) for case in range(len(cases))} == {Labels()}


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        create_table(tmp_path / "nowhere", tmp_path / "cases.csv")
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"No usable images below .*\n  - broken.png: the file is empty"):
        create_table(tmp_path, tmp_path / "cases.csv")
