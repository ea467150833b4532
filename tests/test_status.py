"""``python -m liverattn.status``."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from liverattn import status
from tests.conftest import Result
from tests.sweeps.builders import cell, epochs_done, fail, finish, sweep

Command = Callable[..., Result]


def test_the_newest_sweep_is_shown_and_others_are_named(command: Command, tmp_path: Path) -> None:
    old = sweep(tmp_path, cell("a"), cell("b", fold=1), started=1.0, name="old one")
    finish(old.run(old.cells[0]))
    new = sweep(tmp_path, *(cell(f"n{i}", fold=i, experiment="quickstart") for i in range(3)), started=2.0)
    fail(new.run(new.cells[0]), "no memory\nat all")
    epochs_done(new.run(new.cells[1]), 2, seconds=60)
    result = command(status.main, f"paths.outputs={tmp_path}")
    assert result.status == 0, result.err
    assert f"Sweep {new.id}: test" in result.out and "quickstart" in result.out
    assert "Failed: quickstart repeat 0 fold 0: no memory\n" in result.out
    assert "again: python -m liverattn.train +experiment=quickstart protocol.fold=0" in result.out
    assert "Time left: 6 min" in result.out  # 2 of 4 epochs and 4 of 4, a minute each
    assert "Started with: python -m liverattn.train -m" in result.out
    assert f"id={old.id}  1 of 2 finished  old one" in result.out

    chosen = command(status.main, f"paths.outputs={tmp_path}", f"id={old.id[:4]}")
    assert f"Sweep {old.id}: old one" in chosen.out and f"id={new.id}" in chosen.out


def test_a_finished_sweep_is_not_started_again(command: Command, tmp_path: Path) -> None:
    done = sweep(tmp_path, cell("a"))
    finish(done.run(done.cells[0]))
    result = command(status.main, f"paths.outputs={tmp_path}")
    assert "+ 1 done" in result.out and f"Next: make ensemble OUTPUTS={tmp_path}\n" in result.out
    assert not any(word in result.out for word in ("Time left", "Started with", "Other sweeps", "Failed"))


def test_what_is_not_there_is_said(command: Command, tmp_path: Path) -> None:
    result = command(status.main, f"paths.outputs={tmp_path}")
    assert result.status == 1
    assert "No sweep was started in" in result.err and "make sweep" in result.err
    known = sweep(tmp_path, cell("a"), name="mine")
    result = command(status.main, f"paths.outputs={tmp_path}", "id=zz")
    assert result.status == 1
    assert "'zz'" in result.err and f"{known.id} (mine)" in result.err


def test_a_damaged_record_hides_no_other(command: Command, tmp_path: Path) -> None:
    good = sweep(tmp_path, cell("a"))
    broken = good.path.with_name("0123.json")
    broken.write_text("")
    result = command(status.main, f"paths.outputs={tmp_path}")
    assert result.status == 1
    assert f"Sweep {good.id}: test" in result.out
    assert result.err.startswith(f"Error: {broken} is not the record of a sweep") and "Remove it" in result.err
    good.path.unlink()
    result = command(status.main, f"paths.outputs={tmp_path}")
    assert result.status == 1 and "0123.json" in result.err and "No sweep" not in result.err


def test_it_needs_no_torch() -> None:
    code = "import sys, liverattn.status; print([name for name in ('torch', 'mlflow') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
