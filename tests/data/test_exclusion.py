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
    assert exclude_option([f"{i}" for i in range(99)]).endswith('"7",...]\'')
