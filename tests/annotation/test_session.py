"""A person at work on a table."""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liverattn.annotation.journal import Action
from liverattn.annotation.labels import LABEL_KEYS, Labels
from liverattn.annotation.session import Session
from liverattn.data.manifest import read_manifest
from liverattn.data.spreadsheets import read_cells
from liverattn.errors import InputError
from tests.annotation.conftest import write_images

TABLE = 'image_id,path,lesion,who,boxes\na,0.png,,me,\nb,1.png,1,"you, too","[[1.5, 2, 9, 9]]"\nc,2.png,0,,\n'
BOX = st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(2, 9), st.integers(2, 9)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)
CASE = st.integers(0, 2)
STEP = st.one_of(
    st.tuples(st.just("answer"), CASE, st.sampled_from(list(LABEL_KEYS))),
    st.tuples(st.just("box"), CASE, st.lists(BOX, max_size=3)),
    st.tuples(st.just("accept"), CASE, st.lists(BOX, max_size=2)),
    st.tuples(st.just("undo")),
    st.tuples(st.just("again")),
)


@dataclass
class Work:
    """A table in a folder of its own, and a session on it."""

    path: Path

    def __post_init__(self) -> None:
        self.session = Session(self.path)

    def do(self, step: tuple[object, ...]) -> None:
        name, *arguments = step
        if name == "again":
            self.session.close()
            self.session = Session(self.path)
        else:
            getattr(self.session, str(name))(*arguments)

    def labels(self) -> list[Labels]:
        return [self.session.table.labels(case) for case in range(3)]


def copied(folder: Path) -> Path:
    path = Path(tempfile.mkdtemp(dir=folder)) / "cases.csv"
    write_images(path.parent, 3)
    path.write_text(TABLE)
    return path


@given(st.lists(STEP, max_size=10))
@settings(max_examples=40)
def test_undoing_everything_gives_the_first_table(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    work = Work(copied(tmp_path_factory.getbasetemp()))
    first, cells = work.labels(), read_cells(work.path)
    for step in steps:
        work.do(step)
        on_disk = read_cells(work.path)
        for case, labels in enumerate(work.labels()):
            assert on_disk.get("type", ["", "", ""])[case] == labels.type
            assert on_disk["boxes"][case] == labels.boxes and on_disk["lesion"][case] == labels.lesion
    for _ in steps:
        work.session.undo()
    assert work.labels() == first
    assert read_cells(work.path)[list(cells.columns)].equals(cells)
    before = len(work.session.journal.actions)
    work.session.undo()  # nothing is left to undo
    assert len(work.session.journal.actions) == before
    work.session.close()
    shutil.rmtree(work.path.parent)


def test_a_kill_at_any_byte_loses_at_most_the_unfinished_action(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    tables, journals, expected = [work.path.read_bytes()], [b""], [work.labels()]
    actions = [
        ("answer", 0, "2"),
        ("box", 0, [[1, 2, 9, 9]]),
        ("undo",),
        ("box", 2, [[3, 3, 9, 9]]),
        ("answer", 1, "n"),
    ]
    for step in actions:
        work.do(step)
        tables.append(work.path.read_bytes())
        journals.append((tmp_path / work.path.parent / "cases.journal.jsonl").read_bytes())
        expected.append(work.labels())
    work.session.close()

    def opened(table: bytes, journal: bytes) -> tuple[list[Labels], list[str]]:
        work.path.write_bytes(table)
        (work.path.parent / "cases.journal.jsonl").write_bytes(journal)
        again = Work(work.path)
        again.session.close()
        assert work.path.read_bytes() in tables
        return again.labels(), again.session.notes

    for done, (table, journal) in enumerate(zip(tables, journals, strict=True)):
        assert opened(table, journal) == (expected[done], [])
        if done < len(actions):
            following = journals[done + 1]
            for cut in range(len(journal) + 1, len(following), 37):
                labels, notes = opened(table, following[:cut])
                assert labels == expected[done] and "not whole" in notes[0]
            labels, notes = opened(table, following)  # the line is on the disk, the table is not
            assert labels == expected[done + 1] and "was interrupted; it is done now" in notes[0]


def test_repair_can_be_undone(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    work.do(("answer", 0, "2"))
    before = work.path.read_bytes()
    work.do(("answer", 2, "b"))
    work.session.close()
    work.path.write_bytes(before)
    again = Work(work.path)
    assert again.labels()[2].malignant == "0" and again.session.case == 2
    again.do(("undo",))
    assert work.path.read_bytes() == before


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    assert work.session.case == 0  # the first that is open
    work.do(("box", 2, [[3, 3, 9, 9]]))
    work.do(("answer", 1, "m"))
    work.do(("again",))
    assert work.session.case == 1
    work.do(("undo",))
    work.do(("undo",))
    assert work.session.case == 2 and work.labels()[2] == Labels("0")


def test_steps_and_the_filter(tmp_path: Path) -> None:
    session = Work(copied(tmp_path)).session
    session.step(-1)
    assert session.case == 0
    session.step(1)
    session.step(1)
    session.step(1)
    assert session.case == 2
    session.only_open = True
    session.step(1)
    assert session.case == 0
    session.step(1)
    assert session.case == 0  # no other is open
    session.answer(0, "n")
    session.step(-1)
    assert session.case == 0 and session.progress().left == 0


def test_a_complete_table_is_a_manifest(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    work.do(("answer", 0, "n"))
    work.do(("accept", 1, [[1.5, 2, 9, 9], [4, 4, 60, 20]]))
    manifest = read_manifest(work.path)
    assert manifest.table["lesion"].tolist() == [0, 1, 0]
    assert manifest.table.at[1, "boxes"].tolist() == [[1.5, 2, 9, 9], [4, 4, 40, 20]]
    assert work.session.journal.actions[-1].name == "accepted suggestion"


def test_what_changes_nothing_is_no_action(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    before = work.path.read_bytes()
    work.do(("answer", 2, "n"))
    work.do(("box", 0, [[5, 5, 5.4, 5.4]]))  # a click
    work.do(("accept", 1, []))
    assert work.path.read_bytes() == before
    assert not (work.path.parent / "cases.before-annotation.csv").exists()


def test_a_gesture_changes_one_box_alone(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    first, second, third = [1, 1, 9, 9], [11, 1, 19, 9], [21, 1, 29, 9]
    for step in (
        (None, first),
        (None, second),  # of a tab that does not know the first
        (first, third),
        (second, None),
        ([0, 0, 5, 5], None),  # removed in another tab already
    ):
        work.do(("change", 0, *step))
    assert work.session.table.labels(0).box_list() == [third]
    work.do(("change", 0, second, first))  # removed in another tab while it was moved
    assert work.session.table.labels(0).box_list() == [third, first]
    work.do(("change", 1, [1.5, 2, 9, 9], [2, 2, 10, 9]))
    assert work.session.table.labels(1).box_list() == [[2, 2, 10, 9]]


def test_changes_by_others_stop_the_saving(tmp_path: Path) -> None:
    work = Work(copied(tmp_path))
    work.do(("answer", 0, "b"))
    theirs = work.path.read_text().replace("me", "somebody")
    work.path.write_text(theirs)
    for _ in range(2):
        with pytest.raises(InputError, match=r"cases.csv was changed by another program.*Nothing is saved any more"):
            work.do(("answer", 1, "n"))
    assert work.path.read_text() == theirs and work.session.problem is not None
    work.do(("again",))
    assert "undo does not reach behind that" in work.session.notes[0]
    work.do(("undo",))
    assert work.path.read_text() == theirs
    work.do(("answer", 1, "n"))
    assert "somebody" in work.path.read_text()


def test_a_full_disk_stops_the_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(copied(tmp_path))
    work.do(("answer", 0, "b"))
    before = work.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("os.replace", full)
        with pytest.raises(InputError, match=r"Saving failed: Cannot write .*no space left"):
            work.do(("answer", 2, "m"))
    assert work.path.read_bytes() == before
    with pytest.raises(InputError, match="Saving failed"):  # the action may be in the journal: no further one is taken
        work.do(("answer", 2, "b"))
    work.do(("again",))
    assert work.labels()[2] == Labels("1", "1") and "is done now" in work.session.notes[0]


@pytest.mark.parametrize(("name", "said"), [("cases.xlsx", "Save it as 'CSV UTF-8'"), ("no.csv", "does not exist")])
def test_what_cannot_be_filled_in_leaves_nothing_behind(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Session(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_seconds_per_image(blank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(blank)
    assert session.progress().seconds is None
    clock = {"now": 0.0}
    monkeypatch.setattr(time, "time", lambda: clock["now"])
    # Images end at 3 (a), 8 (b), 12 (c) and, after a break, 112 (a): 5 and 4 seconds.
    for at, case, key in [(0.0, 0, "b"), (3.0, 0, "m"), (8.0, 1, "n"), (10.0, 2, "1"), (12.0, 2, "2"), (112.0, 0, "b")]:
        clock["now"] = at
        session.answer(case, key)
    assert session.progress().seconds == 4.5


def test_journal_lines_say_what_happened(table: Callable[..., Path]) -> None:
    session = Session(table(TABLE))
    session.answer(0, "2")
    (done,) = session.journal.actions
    assert isinstance(done, Action) and done.time > 1.7e9
    assert (done.image_id, done.name, done.before, done.after) == ("a", "hcc", Labels(), Labels("1", "1", "hcc"))


def test_images_that_came_since_are_added_and_undo_reaches_behind(blank: Path) -> None:
    session = Session(blank)
    session.add_new_images()
    assert session.notes == [] and len(session.table) == 3
    session.answer(0, "b")
    session.close()
    for name in ("a.png", "3.png"):  # a is another image's name
        shutil.copy(blank.parent / "0.png", blank.parent / name)
    (blank.parent / "4.png").write_bytes(b"")
    session = Session(blank)
    session.add_new_images()
    assert session.notes[0].startswith("Left out: 4.png: the file is empty")
    assert session.notes[1:] == ["2 image(s) came to the folder since, and are in the table now."]
    assert session.table.image_ids == ["a", "b", "c", "3", "a.png"] and session.case == 3
    session.answer(4, "n")
    session.close()
    session = Session(blank)
    session.add_new_images()
    assert session.notes[1:] == [] and session.case == 4 and session.progress().complete == 1
    session.undo()
    session.undo()
    session.undo()
    assert {session.table.labels(case).lesion for case in range(5)} == {""}
    session.close()


def test_a_table_as_it_was_before_images_came_is_opened(blank: Path) -> None:
    session = Session(blank)
    session.answer(0, "b")
    session.close()
    before = blank.read_bytes()
    shutil.copy(blank.parent / "0.png", blank.parent / "3.png")
    session = Session(blank)
    session.add_new_images()
    session.close()
    blank.write_bytes(before)  # from a backup
    session = Session(blank)
    assert "undo does not reach behind" in session.notes[0] and len(session.table) == 3
    session.add_new_images()
    assert session.table.image_ids[3:] == ["3"] and session.table.labels(0).lesion == "1"
    session.close()
