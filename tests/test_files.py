"""Files appear whole or not at all."""

import errno
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from liverattn.errors import InputError, InputListError
from liverattn.files import digest, digest_of_lists, file_digest, forget_unfinished, replacing, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with pytest.raises(RuntimeError, match="stopped"), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")
    assert list((tmp_path / "new").iterdir()) == []
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    folder, beside, other = tmp_path / "a[b]", tmp_path / "c.zip", tmp_path / "d"
    mine = [folder / "checkpoints" / "last.ckpt", beside, other]
    left = []
    for path in mine:
        with replacing(path) as temporary:
            temporary.write_text("whole")
            left.append(temporary)
    for path in left:
        path.write_text("a part")
    (folder / ".mine.part").write_text("no temporary name")
    forget_unfinished(folder)
    forget_unfinished(beside)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*mine, left[2], folder / ".mine.part"]
    )


def test_a_folder_that_another_process_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    left = tmp_path / "here" / ".a.0123456789ab.part"
    left.mkdir(parents=True)
    list_folder = os.scandir

    def listed(folder: Any) -> Any:
        if str(folder).endswith("gone"):
            os.rmdir(folder)
        return list_folder(folder)

    monkeypatch.setattr(os, "scandir", listed)
    forget_unfinished(tmp_path, age=86400)
    assert left.exists() and not (tmp_path / "gone").exists()
    os.utime(left, (0, 0))
    forget_unfinished(tmp_path, age=86400)
    assert not left.exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "no space left"),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
            "could not be written whole",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "file system is read-only"),
        (ValueError("I/O error: Read-only file system (os error 30)"), "file system is read-only"),  # safetensors
    ],
)
def test_a_full_disk_is_told_with_a_remedy(tmp_path: Path, error: Exception, said: str) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match=said) as caught, replacing(tmp_path / "file"):
        raise error
    assert str(tmp_path / "file") in str(caught.value)
    assert "paths.outputs" in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"


def test_a_read_only_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for call in ("mkdir", "unlink"):
        monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(InputError, match=r"a\.json: the file system is read-only.*paths\.outputs"):
        write_json(tmp_path / "new" / "a.json", {})


def test_json_holds_nan_as_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1.5, math.nan, {"y": (math.nan, "z")}]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1.5, None, {"y": [None, "z"]}]}


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "abc") == known
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1}) != digest({"a": 1, "b": [2.50001]})


def test_a_list_of_problems_is_cut_in_its_message_and_says_so() -> None:
    error = InputListError("52 problems", [f"p{i}" for i in range(52)], "Mend them.")
    assert str(error).splitlines()[0] == "52 problems:"
    assert "p49" in str(error)
    assert "p50" not in str(error)
    assert str(error).endswith("... and 2 more\nMend them.")
    assert error.problems[51] == "p51"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.problems) == (str(error), error.problems)


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("kept")
    with pytest.raises(InputError, match=rf"Cannot write {tmp_path}/a: a file is where a folder is needed.*move it"):
        write_json(tmp_path / "a" / "b" / "c.json", {})
    assert (tmp_path / "a").read_text() == "kept"


def test_an_error_of_ours_is_no_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), replacing(tmp_path / "a"):
        tmp_path.mkdir()


@pytest.mark.parametrize("lists", [([], []), (["a", 'b"'], [None, [[1.5, 2]]], [math.nan]), ([{"b": 1, "a": 2}],)])
def test_long_lists_have_the_digest_of_what_they_are(lists: tuple[list[Any], ...]) -> None:
    assert digest_of_lists(*map(iter, lists)) == digest(list(lists))
