"""Cells as jobs, as SLURM's would be, without SLURM; several per machine are tested in ``tests/test_kill.py``."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.liverattn_launcher import _joblib_cell
from liverattn.configuration import config_folder
from liverattn.runs import find_runs
from liverattn.sweeps.record import find_sweeps
from tests.conftest import shell

JOBS = ("-m", "tracking=none", "hydra/launcher=local")


@pytest.mark.slow
def test_every_cell_is_a_job_two_at_a_time(tiny: list[str], tmp_path: Path) -> None:
    rates = "optim.head_rate=0.02,1e30,0.03"  # the second makes the loss NaN
    process = shell("liverattn.train", *JOBS, *tiny, "trainer.max_epochs=1", rates)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 1, out + err
    (sweep,), _ = find_sweeps(tmp_path / "outputs")
    done, failed, third = sweep.progress()
    assert (done.state, failed.state, third.state) == ("finished", "failed", "finished"), out + err
    assert "NaN" in str(failed.error)
    said = out.splitlines()
    (third_begins,) = (i for i, line in enumerate(said) if " running: run head_rate=0.03 " in line)
    assert any(" done: " in line or " failed: " in line for line in said[:third_begins])  # it waited for a place
    assert " done: run head_rate=0.02 repeat 0 fold 0: score" in out
    assert " failed: run head_rate=1000000" in out
    assert "epoch   1/1" not in out
    assert "epoch   1/1" in (sweep.run(sweep.cells[0]).path / "output.log").read_text()
    assert "again: python -m liverattn.train" in out


@pytest.mark.slow
def test_a_killed_job_costs_the_others_nothing_and_its_cell_is_submitted_again(tiny: list[str], tmp_path: Path) -> None:
    process = shell("liverattn.train", *JOBS, *tiny, "protocol.fold=0,1,2", "trainer.max_epochs=3")
    job = job_with_an_epoch(tmp_path, process)
    os.kill(job, signal.SIGKILL)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, out + err
    (sweep,), _ = find_sweeps(tmp_path / "outputs")
    assert [item.state for item in sweep.progress()] == ["finished"] * 3
    assert out.count(" interrupted: ") == 1 and "All are finished." in out


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [signal.SIGINT, signal.SIGKILL])
def test_jobs_of_this_machine_end_with_their_sweep(tiny: list[str], tmp_path: Path, stopped: signal.Signals) -> None:
    process = shell("liverattn.train", *JOBS, *tiny, "protocol.fold=0,1,2", "trainer.max_epochs=2000", apart=True)
    job = job_with_an_epoch(tmp_path, process)
    if stopped == signal.SIGINT:  # as a terminal sends it
        os.killpg(process.pid, stopped)
    else:
        process.send_signal(stopped)
    _, err = process.communicate(timeout=60)  # when no process holds the pipes any more
    told = stopped != signal.SIGKILL
    assert process.returncode == (130 if told else -signal.SIGKILL)
    assert err == "Interrupted. The same command goes on from here.\n" * told
    assert not Path(f"/proc/{job}").exists()
    (sweep,), _ = find_sweeps(tmp_path / "outputs")
    assert {item.state for item in sweep.progress()} <= {"interrupted", "missing"}


def test_joblib_is_ours_and_hydra_has_no_remark_on_it() -> None:  # warnings are errors
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        options = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]
        launcher = compose("train", options, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith(".JoblibCells") and (launcher.n_jobs, launcher.batch_size) == (3, "1")


@pytest.mark.parametrize("failing", ["in its work", "before it", "not"])
def test_what_a_process_sends_back_fits_into_one_write(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "no " * 5000

    def execute_job(*arguments: Any) -> JobReturn:
        if failing == "before it":
            raise ValueError(long)
        returned = long if failing == "in its work" else None
        configuration = OmegaConf.create({"large": "x" * 30_000})
        return JobReturn(cfg=configuration, status=JobStatus.COMPLETED, _return_value=returned)

    monkeypatch.setattr("hydra_plugins.hydra_joblib_launcher._core.execute_job", execute_job)
    failure = _joblib_cell(0, [])
    assert (failure is None) == (failing == "not")
    assert failure is None or long.startswith(failure)
    assert len(cloudpickle.dumps(failure)) < 2048  # of 4096 bytes that a pipe takes whole or not at all


def job_with_an_epoch(folder: Path, sweep: "subprocess.Popen[str]") -> int:
    """The process that works on the first run folder that holds an epoch."""
    while sweep.poll() is None:
        for run in find_runs(folder / "outputs" / "runs"):
            if run.epoch(0).exists() and not run.is_finished:
                for entry in Path("/proc").iterdir():
                    if entry.name.isdigit() and _holds(entry, run.path / "run.lock"):
                        return int(entry.name)
        time.sleep(0.02)
    raise AssertionError("The sweep ended before a job could be killed.")


def _holds(process: Path, lock: Path) -> bool:
    try:
        return any(os.path.samefile(descriptor, lock) for descriptor in (process / "fd").iterdir())
    except OSError:  # not ours, or gone
        return False
