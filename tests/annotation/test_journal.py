"""The journal of actions."""

from pathlib import Path

import pytest

from liverattn.annotation.journal import UNDO, Action, Journal, undoable
from liverattn.annotation.labels import Labels
from liverattn.errors import InputError


def action(name: str, before: str, after: str) -> Action:
    return Action(1.5, "ä", name, Labels(), Labels("0"), before, after)


def test_actions_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    written = [action("x", "A", "B"), action("y", "B", "C")]
    for line in written:
        journal.append(line)
    journal.close()
    again = Journal(tmp_path / "j.jsonl")
    assert again.actions == written and not again.was_torn


@pytest.mark.parametrize("tail", [b'{"time": 1.5, "ima', b"\0\0\0\0", b"\0\0\0\n", b'{"time": 1.5}\n'])
def test_a_damaged_last_line_is_removed(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append(action("x", "A", "B"))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    again = Journal(path)
    assert again.was_torn and [line.name for line in again.actions] == ["x"]
    again.append(action("y", "B", "C"))
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 2


def test_other_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for _ in range(3):
        journal.append(action("x", "A", "B"))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"?\n", lines[2]]))
    with pytest.raises(InputError, match=r"line 2 is damaged.*move the journal away"):
        Journal(path)


def test_one_process_holds_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(InputError, match=r"Another process annotates this table \(it holds .*j.jsonl\)"):
        Journal(tmp_path / "j.jsonl")
    journal.close()
    Journal(tmp_path / "j.jsonl").close()


def test_a_failing_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append(action("x", "A", "B"))
    whole = (tmp_path / "j.jsonl").read_bytes()

    def fails(_: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="disk"):
        journal.append(action("y", "B", "C"))
    assert (tmp_path / "j.jsonl").read_bytes() == whole and len(journal.actions) == 1


def test_what_can_be_undone() -> None:
    done = [action("x", "A", "B"), action("y", "B", "C"), action(UNDO, "C", "B"), action("z", "B", "D")]
    assert [line.name for line in undoable(done, "D")] == ["x", "z"]
    assert undoable(done, "E") == []  # changed by somebody else since
    changed = [*done, action("w", "E", "F")]  # changed by somebody else in between
    assert [line.name for line in undoable(changed, "F")] == ["w"]
    assert undoable([*changed, action(UNDO, "F", "E"), action(UNDO, "E", "E")], "E") == []
    assert undoable([], "A") == []
