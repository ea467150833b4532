"""The record of a sweep, and what its run folders say."""

import fcntl
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.errors import InputError
from liverattn.sweeps.record import Progress, find_sweeps, known_or_new, read_sweep
from tests.sweeps.builders import cell, epochs_done, fail, finish, sweep


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = sweep(tmp_path, cell("a"), cell("b", fold=1), jobs=2, started=12.5)
    assert read_sweep(written.path) == written
    assert written.path == tmp_path / "sweeps" / f"{written.id}.json"
    assert str(tmp_path) not in written.path.read_text(), "outputs that are moved keep their sweeps"


def test_the_same_cells_are_the_same_sweep_in_any_order(tmp_path: Path) -> None:
    first = sweep(tmp_path, cell("a"), cell("b", fold=1)).marked("finished")
    again = sweep(tmp_path, cell("b", fold=1), cell("a"))
    assert (again.id, again.key) == (first.id, first.key)
    known = known_or_new(tmp_path, first.cells, name="x", command="y", started=1.0, jobs=1)
    assert known.status == "running"
    other = known_or_new(tmp_path, [cell("a"), cell("c", fold=1)], name="x", command="y", started=1.0, jobs=1)
    assert other.id != first.id and other.key != first.key and other.status == "new"
    assert not other.path.exists()


def test_sweeps_are_found_the_last_started_first(tmp_path: Path) -> None:
    assert find_sweeps(tmp_path) == ([], [])
    old = sweep(tmp_path, cell("a"), started=1.0)
    new = sweep(tmp_path, cell("b"), started=2.0)
    (tmp_path / "sweeps" / f".{old.id}.json.0123.part").write_text("{")
    assert [found.id for found in find_sweeps(tmp_path)[0]] == [new.id, old.id]


@pytest.mark.parametrize("content", ["{", "[]", "{}", "null", '"text"', '{"cells": [{"folder": "a"}]}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sweeps" / "0123.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match=r"0123.json is not the record of a sweep.*Remove it"):
        read_sweep(path)
    whole = sweep(tmp_path, cell("a"))
    (found,), (problem,) = find_sweeps(tmp_path)
    assert found == whole and "0123.json is not the record of a sweep" in problem


@given(st.lists(st.text("a =,;:'\"\\$`!*?(){}[]<>|&#~\n\t", min_size=1), min_size=1))
def test_the_command_of_a_cell_survives_any_shell(values: list[str]) -> None:
    one = replace(cell("a"), overrides=("+sweep=quick", *(f"name={value}" for value in values)))
    assert shlex.split(one.command) == ["python", "-m", "liverattn.train", *one.overrides[1:]]


def test_what_has_become_of_a_cell_is_read_from_its_folder(tmp_path: Path) -> None:
    recorded = sweep(tmp_path, *(cell(name, fold=i) for i, name in enumerate("abcde")))
    done, broken, failed, missing, busy = (recorded.run(one) for one in recorded.cells)
    epochs_done(done, 4, seconds=3)
    finish(done)
    epochs_done(broken, 1)
    fail(failed, "no memory\nat all")
    epochs_done(busy, 3, seconds=2)
    with (busy.path / "run.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        progress = recorded.progress()
    assert progress == [
        Progress("finished", 1.0, 12.0, None),
        Progress("interrupted", 0.25, None, None),
        Progress("failed", 0.0, None, "no memory\nat all"),
        Progress("missing", 0.0, None, None),
        Progress("running", 0.75, 8.0, None),
    ]
    assert recorded.progress()[4].state == "interrupted"
    assert not missing.path.exists()
    assert recorded.unfinished() == [1, 2, 3, 4]
    (busy.path / "run.json").write_text("")
    item = recorded.progress()[4]
    assert item.state == "failed" and item.error is not None
    assert item.error.startswith(f"{busy.path / 'run.json'} is damaged") and "Remove the folder" in item.error


def test_who_asks_is_not_taken_for_who_works(tmp_path: Path) -> None:
    recorded = sweep(tmp_path, cell("a"))
    run = recorded.run(recorded.cells[0])
    epochs_done(run, 1)
    with (run.path / "run.lock").open("a") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert run.state == "interrupted"


def test_cells_that_share_a_run_are_one_run(tmp_path: Path) -> None:
    recorded = sweep(tmp_path, cell("a"), cell("a", protocol="last"), cell("b", fold=1))
    assert recorded.runs() == [0, 2]
    assert recorded.unfinished() == [0, 2]
    assert recorded.rows() == {"resnet_240 protocol=paper": [0, 2], "resnet_240 protocol=last": [1]}


def test_rows_are_named_by_what_differs(tmp_path: Path) -> None:
    experiments = sweep(tmp_path, *(cell(n, experiment=n, architecture=n) for n in "ab"))
    assert list(experiments.rows()) == ["a", "b"]
    assert experiments.columns() == ["experiment", "architecture", "lambda", "resolution"]
    lambdas = sweep(
        tmp_path,
        cell("a", label="resnet_240 lambdas=1"),
        cell("b", label="resnet_240 lambdas=0.25,1", **{"lambda": "0.25,1"}),
        cell("c", label="resnet_240 lambdas=1", settings="data.exclude=0123abcd"),
    )
    assert list(lambdas.rows()) == [
        "resnet_240 lambdas=1",
        "resnet_240 lambdas=0.25,1",
        "resnet_240 lambdas=1 data.exclude=0123abcd",
    ]
    assert lambdas.columns()[-1] == "settings"
    assert lambdas.cell_name(1) == "resnet_240 lambdas=0.25,1 repeat 0 fold 0"


def test_the_record_of_an_older_version_is_read(tmp_path: Path) -> None:
    path = sweep(tmp_path, cell("a"), cell("b", **{"lambda": "4"})).path
    content = json.loads(path.read_text())
    for one in content["cells"]:
        del one["label"]
    path.write_text(json.dumps(content))
    assert list(read_sweep(path).rows()) == ["resnet_240 lambda=1", "resnet_240 lambda=4"]


def item(state: str, share: float = 0.0, seconds: float | None = None) -> Progress:
    return Progress(state, share, seconds, None)  # type: ignore[arg-type]


def test_time_left_by_hand(tmp_path: Path) -> None:
    small = [cell(f"s{i}", fold=i, experiment="small") for i in range(3)]
    large = [cell(f"l{i}", fold=i, experiment="large") for i in range(2)]
    recorded = sweep(tmp_path, *small, *large, jobs=2)
    unknown = [item("running", 0.25), *[item("missing")] * 4]
    assert recorded.seconds_left(unknown) is None
    # small: median of 10 and 30 for the one that is missing; large: 100 by its own epochs, a half and a whole.
    progress = [
        item("finished", 1, 10),
        item("finished", 1, 30),
        item("missing"),
        item("running", 0.5, 100),
        item("missing"),
    ]
    assert recorded.seconds_left(progress) == pytest.approx((20 + 0.5 * 100 + 100) / 2)
    # Nothing is known of large yet: the median of all that is.
    progress[3] = item("interrupted", 0.0)
    assert recorded.seconds_left(progress) == pytest.approx((20 + 20 + 20) / 2)
    # A failed cell waits for a remedy, and finished rows take no time.
    progress[2], progress[3], progress[4] = item("failed"), item("failed"), item("failed")
    assert recorded.seconds_left(progress) == 0


def test_a_run_that_cells_share_takes_its_time_once(tmp_path: Path) -> None:
    recorded = sweep(tmp_path, cell("a"), cell("a", protocol="last"), cell("b", fold=1))
    assert recorded.seconds_left([item("running", 0.5, 8), item("running", 0.5, 8), item("missing")]) == 4 + 8
