"""Cells in processes of their own, as SLURM's would be; several per machine are tested in ``tests/test_kill.py``."""

from pathlib import Path

import pytest

from liverattn.sweeps.record import find_sweeps
from tests.conftest import shell


@pytest.mark.slow
def test_submitit_runs_every_cell_as_a_job(tiny: list[str], tmp_path: Path) -> None:
    rates = "optim.head_rate=0.02,1e30"  # the second makes the loss NaN
    arguments = ("-m", *tiny, "tracking=none", "trainer.max_epochs=1", "hydra/launcher=submitit_local", rates)
    process = shell("liverattn.train", *arguments)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 1, out + err
    (sweep,) = find_sweeps(tmp_path / "outputs")
    done, failed = sweep.progress()
    assert (done.state, failed.state) == ("finished", "failed"), out + err
    assert "NaN" in str(failed.error)
    assert " running: run optim.head_rate=0.02 repeat 0 fold 0" in out
    assert " done: run optim.head_rate=0.02 repeat 0 fold 0: score" in out
    assert " failed: run optim.head_rate=1e+30 repeat 0 fold 0: " in out
    assert "epoch   1/1" not in out
    assert "epoch   1/1" in (sweep.run(sweep.cells[0]).path / "output.log").read_text()
    assert "again: python -m liverattn.train" in out
