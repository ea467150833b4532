"""One cell of a sweep, in its own process."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from liverattn.errors import InputError
from liverattn.locks import BusyError
from liverattn.runs import RunFolder
from liverattn.sweeps import cell_job
from liverattn.sweeps.cell_job import work_on_cell


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Hydra's choices in this process."""
    choices = {"hydra/launcher": "basic"}
    config = SimpleNamespace(get=lambda: SimpleNamespace(runtime=SimpleNamespace(choices=choices)))
    monkeypatch.setattr(cell_job, "HydraConfig", config)
    return choices


def raising(error: BaseException) -> None:
    print("before")
    raise error


def test_alone_it_speaks_to_the_terminal(
    launcher: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "a")
    assert work_on_cell(run, lambda: print("epoch 1")) is None
    assert work_on_cell(run, lambda: raising(InputError("no weights\nsecond line"))) == "no weights\nsecond line"
    said = capsys.readouterr()
    assert said.out == "epoch 1\nbefore\n"
    assert said.err == "Error: no weights\nsecond line\n"
    assert not run.path.exists()


def test_beside_others_it_speaks_to_its_log(
    launcher: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher["hydra/launcher"] = "slurm"
    run = RunFolder(tmp_path / "a")
    assert work_on_cell(run, lambda: print("epoch 1")) is None
    assert work_on_cell(run, lambda: raising(MemoryError())) == "MemoryError"
    assert (run.path / "output.log").read_text() == "epoch 1\nbefore\nError: MemoryError\n"
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_a_busy_run_is_no_failure(launcher: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert work_on_cell(RunFolder(tmp_path), lambda: raising(BusyError("Another process works on it."))) is None
    assert "Skipped for now: Another process works on it." in capsys.readouterr().out


def test_ctrl_c_is_passed_on(launcher: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        work_on_cell(RunFolder(tmp_path), lambda: raising(KeyboardInterrupt()))
    launcher["hydra/launcher"] = "slurm"
    with pytest.raises(SystemExit, match="130"):
        work_on_cell(RunFolder(tmp_path), lambda: raising(KeyboardInterrupt()))


def test_a_worker_leaves_when_its_sweep_is_gone() -> None:
    code = "import time, liverattn.sweeps.cell_job as job; job._leave_with({}); time.sleep({}); print('on')"
    gone, there = (
        subprocess.run([sys.executable, "-c", code.format(mother, wait)], capture_output=True, text=True, timeout=60)
        for mother, wait in (("2**22 + 1", 30), ("__import__('os').getppid()", 0.5))
    )
    assert (gone.returncode, gone.stdout) == (1, "")
    assert (there.returncode, there.stdout) == (0, "on\n")


def test_a_process_that_ended_lives_no_longer_even_before_its_parent_looks() -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert cell_job._lives(ended.pid)
    ended.communicate(b"\n")  # which waits for it
    assert not cell_job._lives(ended.pid)
    zombie = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert not cell_job._lives(zombie.pid)
    zombie.wait()
