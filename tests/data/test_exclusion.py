"""``data.exclude``: the named case and no other, before its file is looked at, and options that can be pasted."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from liverattn.data.exclusion import exclude_option, leaving_out, left_out
from liverattn.data.manifest import Manifest, read_manifest
from liverattn.errors import InputError

from .test_importing import Reader, read, root  # noqa: F401


def parsed(option: str) -> Any:
    """What Hydra makes of an option that was written for the shell."""
    (word,) = shlex.split(option)
    return OverridesParser.create().parse_override(word).value()


def chosen(names: list[Any], *image_ids: str) -> set[str]:
    with leaving_out(names):
        return set(left_out(image_ids))


def test_cases_are_left_out_by_name(cases: Callable[..., Manifest], tmp_path: Path) -> None:
    assert len(cases(4)) == 4
    with leaving_out(["case1", "case3"]):
        kept = read_manifest(tmp_path / "cases.csv")
    assert kept.table["image_id"].tolist() == ["case0", "case2"]
    assert kept.table.index.tolist() == [0, 1]
    assert len(read_manifest(tmp_path / "cases.csv")) == 4
    with pytest.raises(InputError, match="names cases that are not in the data: d, x"):
        chosen(["x", "a", "d"], "a", "b")
    with pytest.raises(InputError, match="leaves no case"):
        chosen(["a", "b"], "a", "b")


def test_their_files_and_cells_are_not_looked_at(table: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    path = table("1,a.png,,1,,,,", "2,b.png,,7,,,oops,", "3,c.png,,0,,,,", "4,d.png,,0,1,,,")
    with leaving_out(["1", "2"]), pytest.raises(InputError, match=r"1 problem\(s\):\n  - row 5 \(image_id '4'\)"):
        read_manifest(path)
    with leaving_out([1, 2, 4]):
        assert read_manifest(path).table["image_id"].tolist() == ["3"]


def test_of_an_import_too(read: Reader, root: Path) -> None:  # noqa: F811
    (root / "x.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],'
        '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [900, 0, 9, 9]}],'
        '"categories": [{"id": 1, "name": "cyst"}]}'
    )
    with pytest.raises(InputError, match="outside"):
        read("coco", "annotations=x.json")
    with leaving_out(["a"]):
        assert read("coco", "annotations=x.json").table["image_id"].tolist() == ["b"]


def test_a_name_that_was_read_as_a_number_is_that_case_or_none() -> None:
    assert chosen([12], "12", "13") == {"12"}
    assert chosen([True, 1.5], "True", "1.5", "x") == {"True", "1.5"}
    assert chosen(["1_2"], "12", "1_2") == {"1_2"}
    with pytest.raises(InputError, match="holds 12, which may mean '12' or '1_2'") as caught:
        chosen([12], "1_2", "12", "1_3")
    assert exclude_option(["1_2"]) in str(caught.value)
    for names, image_ids in (([12], ["1_2"]), ([100.0], ["1e2"]), ([None], ["null"]), ([1.5], ["1.50", "1.5"])):
        with pytest.raises(InputError, match="which may mean"):
            chosen(names, *image_ids, "other")


@pytest.mark.parametrize("name", ["1_2", "benign (1)", "it's", 'a "b"', "a,b", "12", "null", "P1/1.png", "[x]"])
def test_the_proposed_option_is_read_back_as_the_names(name: str) -> None:
    assert parsed(exclude_option([name, "b"])) == [name, "b"]


def test_a_long_option_is_cut() -> None:
    assert exclude_option([f"{i}" for i in range(99)]).endswith('"7","..."]\'')


def test_what_an_import_cannot_use_of_an_image_can_be_left_out(read: Reader, root: Path) -> None:  # noqa: F811
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    files = {
        "coco": (
            "x.json",
            '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],'
            '"annotations": [{"image_id": 1, "category_id": 1, "segmentation": []}, '
            '{"image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9]}],'
            '"categories": [{"id": 1, "name": "cyst"}, {"id": 2, "name": "kyste"}]}',
        ),
        "cvat": (
            "x.xml",
            '<annotations><image name="a.png" width="64" height="48"><points label="kyste" points="1,2"/></image>'
            '<image name="b.png" width="64" height="48"/></annotations>',
        ),
        "voc": (
            "a.xml",
            f"<annotation><object><name>kyste</name></object><object><name>kyste</name>{box}</object></annotation>",
        ),
        "labelme": (
            "a.json",
            '{"imagePath": "a.png", "shapes": [{"label": "kyste", "shape_type": "point", "points": [[1, 2]]}, '
            '{"label": "kyste", "shape_type": "rectangle", "points": [[1, 2], [9, 9]]}]}',
        ),
        "yolo": ("a.txt", "0 0.5 0.5\n0 0.5 0.5 0.2 0.2"),
        "masks": ("a_mask.png", ""),
    }
    (root / "classes.txt").write_text("kyste")
    (root / "b_mask.png").write_bytes((root / "b.png").read_bytes())
    for tool, (name, content) in files.items():
        (root / name).write_text(content)
        options = [] if tool in ("masks", "yolo", "voc", "labelme") else [f"annotations={name}"]
        unlisted = "unlisted=lesion_free" if tool in ("voc", "labelme") else "unlisted=null"
        with leaving_out([]), pytest.raises(InputError) as caught:
            read(tool, *options, unlisted)
        assert "leave the cases out too: 'data.exclude=[\"a\"]'" in str(caught.value), tool
        with leaving_out(["a"]):
            assert "b" in read(tool, *options, unlisted).table["image_id"].tolist()
        (root / name).unlink()


def test_an_image_that_cannot_be_read_is_left_out_by_the_named_option(read: Reader, root: Path) -> None:  # noqa: F811
    (root / "x.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}], "annotations": []}'
    )
    (root / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"Correct these rows and run again\.$"):  # nothing asks for data.exclude here
        read("coco", "annotations=x.json")
    with leaving_out([]), pytest.raises(InputError) as caught:
        read("coco", "annotations=x.json")
    assert exclude_option(["a"]) in str(caught.value)
    with leaving_out(["a"]):
        assert read("coco", "annotations=x.json").table["image_id"].tolist() == ["b"]


def test_of_a_spreadsheet_too(read: Reader, root: Path) -> None:  # noqa: F811
    (root / "own.csv").write_text("file,what\na.png,kyste\nb.png,cyst\na.png,none\n")
    options = [f"manifest={root / 'own.csv'}", "columns.path=file", "columns.lesion=null", "columns.class=what"]
    with leaving_out([]), pytest.raises(InputError) as caught:
        read("table", *options)
    assert exclude_option(["a"]) in str(caught.value)
    with leaving_out(["a"]):
        assert read("table", *options).table["image_id"].tolist() == ["b"]
