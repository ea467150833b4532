"""Two gloo processes train one fold: as a user types it, and what happens when one of them fails."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from liverattn import train
from liverattn.data.datamodule import EpochSampler
from liverattn.data.datasets import CaseDataset
from liverattn.errors import InputError
from liverattn.evaluation.scores import task_aucs
from liverattn.runs import RunFolder, find_runs
from liverattn.training import distributed
from liverattn.training.copies import read_copy
from liverattn.training.distributed import following, is_leader, leading
from liverattn.training.fold_run import FoldRun
from liverattn.training.objective import attention_loss, output_loss
from liverattn.training.outputs import read_outputs
from tests.conftest import TINY, Result, shell

EPOCHS = 3
# Of 24 cases 19 train and 5 are held out: neither can be halved. The name needs quoting wherever it goes.
SETTINGS = (*TINY, "protocol.folds=5", f"trainer.max_epochs={EPOCHS}", "trainer.ema=0.9", r"name='{a} b\'s'")
TOGETHER = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2")


@pytest.mark.parametrize(("rank", "leads"), [(None, True), ("0", True), ("1", False), ("3", False)])
def test_the_first_process_leads(monkeypatch: pytest.MonkeyPatch, rank: str | None, leads: bool) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert is_leader() == leads


def test_a_follower_is_silent_and_waits_before_it_tells_of_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("liverattn.training.distributed.time.sleep", waited.append)
    with following():
        print("said")
        warnings.warn("warned", UserWarning, stacklevel=1)  # an error in these tests
    print("after")
    assert not waited
    with pytest.raises(InputError, match="alone"), following():
        raise InputError("alone")
    assert waited == [distributed.PATIENCE]
    assert capsys.readouterr().out == "after\n"


def test_a_follower_ends_with_its_leader_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, killed, done = iter([7, 7, 1]), [], threading.Event()

    def kill(process: int, number: int) -> None:
        killed.append((process, number))
        done.set()

    monkeypatch.setattr("os.getppid", lambda: next(parents))
    monkeypatch.setattr("os.kill", kill)
    monkeypatch.setattr(done, "wait", lambda _: done.is_set())
    distributed._end_with(7, done)
    assert killed == [(os.getpid(), signal.SIGKILL)] and next(parents, None) is None
    distributed._end_with(8, done)  # the work is done
    assert len(killed) == 1


Started = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def started() -> Iterator[Started]:
    processes = []

    def start(code: str) -> "subprocess.Popen[bytes]":
        processes.append(subprocess.Popen([sys.executable, "-S", "-c", code]))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def trainer_with(*followers: "subprocess.Popen[bytes]") -> Any:
    launcher = SimpleNamespace(procs=list(followers), num_processes=len(followers) + 1)
    return SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))


def test_an_error_of_the_leader_ends_the_followers(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "PATIENCE", 0.2)
    for error in (InputError("no space left"), RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(1)):
        follower = started("import time; time.sleep(60)")
        with pytest.raises(type(error)) as caught, leading(trainer_with(follower)):
            raise error
        assert caught.value is error
        assert follower.wait(10) == -signal.SIGKILL


def test_a_follower_that_failed_by_itself_is_named(started: Started) -> None:
    well, failing = started("import time; time.sleep(60)"), started("raise SystemExit(3)")
    message = r"ended with status 3; its own message, if it left one, stands above\. The same command"
    with pytest.raises(InputError, match=message), leading(trainer_with(well, failing)):
        raise RuntimeError("Connection closed by peer")
    assert well.wait(10) == -signal.SIGKILL


def test_a_follower_whose_leader_is_gone_when_it_begins_ends_too() -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    code = "import time; from liverattn.training.distributed import following\nwith following(): time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, distributed.LEADER: str(gone.pid)})
    assert process.wait(30) == -signal.SIGKILL


# A leader that waits where Python hears nothing, as for a process that has not begun.
STUCK = """
import subprocess, sys, time
from types import SimpleNamespace
from liverattn.training import distributed
distributed.PATIENCE = 0.2
codes = ("import time; time.sleep(60)", {code!r})
watched = [subprocess.Popen([sys.executable, "-S", "-c", code]) for code in codes]
launcher = SimpleNamespace(procs=watched, num_processes=3)
with distributed.leading(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))):
    while watched: time.sleep(0.01)  # Lightning's own watch has nothing left to kill this process for
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [
        ("raise SystemExit(3)", 1, "Error: Another process of this run ended with status 3;"),
        ("import os; os.kill(os.getpid(), 9)", 1, "Error: Another process of this run ended with status -9;"),
        ("import os; os.kill(os.getpid(), 15)", 130, "Interrupted. The same command goes on"),
        ("raise SystemExit(130)", 130, ""),  # which has said it
    ],
)
def test_a_leader_that_waits_ends_with_a_message_when_a_follower_is_gone(ends: str, status: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK.format(code=ends)], capture_output=True, text=True, timeout=50, check=False
    )  # in time: the process that was well is gone, too, or it would hold the pipes
    assert done.returncode == status and done.stderr.startswith(said), done.stderr
    assert len(done.stderr.splitlines()) == bool(said)


@pytest.mark.parametrize(("rank", "handler"), [("0", signal.default_int_handler), ("1", signal.SIG_DFL)])
def test_sigterm_stops_each_process_by_itself(monkeypatch: pytest.MonkeyPatch, rank: str, handler: Any) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    before = signal.getsignal(signal.SIGTERM)
    try:
        distributed.stop_at_once()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_is_left_to_the_leader() -> None:
    with following():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_without_an_error_or_without_followers_nothing_happens(started: Started) -> None:
    follower = started("import time; time.sleep(60)")
    with leading(trainer_with(follower)):
        pass
    assert follower.poll() is None
    begun = time.monotonic()
    alone: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    with pytest.raises(RuntimeError, match="mine"), leading(alone):
        raise RuntimeError("mine")
    assert time.monotonic() - begun < 1


def finished(process: "subprocess.Popen[str]") -> Result:
    out, err = process.communicate(timeout=240)
    return Result(process.returncode, out, err)


def only_run(outputs: Path) -> RunFolder:
    (run,) = find_runs(outputs)
    return run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two processes")


@pytest.fixture(scope="module")
def arguments(phantoms: Path, outputs: Path) -> list[str]:
    return [*SETTINGS, *TOGETHER, f"data.root={phantoms}", f"paths.cache='{outputs / 'prepared'}'"]


@pytest.fixture(scope="module")
def trained(arguments: list[str], outputs: Path) -> tuple[RunFolder, Result]:
    """One undisturbed run of two processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        result = finished(shell("liverattn.train", *arguments, f"paths.outputs='{outputs}'"))
    assert result.status == 0, result.err
    return only_run(outputs), result


@pytest.mark.slow
def test_one_process_writes_prints_and_tracks(trained: tuple[RunFolder, Result], outputs: Path) -> None:
    run, result = trained
    assert run.path.parent.name == "{a} b's"
    assert result.err.strip() == ""
    assert result.out.count("Cases: 19 train, 5 held out") == 1
    assert [result.out.count(f"epoch {epoch + 1:3d}/{EPOCHS}") for epoch in range(EPOCHS)] == [1] * EPOCHS
    assert result.out.count("Run folder:") == 1
    assert run.state == run.record()["state"] == "finished"
    assert not list(outputs.rglob("*.part")) and not list(run.path.rglob("*-1*"))
    with sqlite3.connect(outputs / "mlflow.db") as database:
        counts = dict(database.execute("SELECT key, COUNT(*) FROM metrics GROUP BY key"))
        runs = database.execute("SELECT status FROM runs").fetchall()
    database.close()
    assert runs == [("FINISHED",)]
    assert {counts[f"{stage}/loss"] for stage in ("train", "val")} == {counts["images_per_second"]} == {EPOCHS}


@pytest.mark.slow
def test_the_cases_are_those_of_a_single_process(
    trained: tuple[RunFolder, Result], command: Callable[..., Result], phantoms: Path, outputs: Path, tmp_path: Path
) -> None:
    shared = (f"data.root={phantoms}", f"paths.cache='{outputs / 'prepared'}'", f"paths.outputs={tmp_path}")
    result = command(train.main, *SETTINGS, *shared, "tracking=none")
    assert result.status == 0, result.err
    alone, together = only_run(tmp_path), trained[0]
    assert alone.path.name != together.path.name  # another result
    assert alone.split.read_text() == together.split.read_text()
    (drawn,), (shared_file,) = ((folder / "splits").iterdir() for folder in (tmp_path, outputs))
    assert drawn.name == shared_file.name and drawn.read_bytes() == shared_file.read_bytes()
    keys = ["protocol", "task", "image_id"]
    expected, actual = (run.read_predictions()[keys] for run in (alone, together))
    assert not actual.duplicated().any()
    assert set(actual.itertuples(index=False)) == set(expected.itertuples(index=False))
    held_out = json.loads(together.split.read_text())["held_out"]
    assert set(actual["image_id"]) == set(held_out) and len(held_out) == 5


@pytest.fixture(scope="module")
def fold(trained: tuple[RunFolder, Result], tmp_path_factory: pytest.TempPathFactory) -> FoldRun:
    config: Any = OmegaConf.load(trained[0].config)
    return train.compose(config, RunFolder(tmp_path_factory.mktemp("composed")))


def logged(outputs: Path, name: str) -> list[float]:
    with sqlite3.connect(outputs / "mlflow.db") as database:
        found = database.execute("SELECT value FROM metrics WHERE key = ? ORDER BY step", [name]).fetchall()
    database.close()
    return [value for (value,) in found]


@pytest.mark.slow
def test_the_logged_aucs_are_those_of_the_recorded_outputs(
    trained: tuple[RunFolder, Result], fold: FoldRun, outputs: Path
) -> None:
    values = {task.name: logged(outputs, f"val/auc_{task.name}") for task in fold.tasks}
    for epoch in range(EPOCHS):
        recorded = read_outputs(trained[0].epoch(epoch))
        np.testing.assert_array_equal(recorded.rows, fold.rows.held_out)  # each once, although one came twice
        aucs = task_aucs(fold.truth[recorded.rows], recorded.logits, fold.tasks)
        for task, value in aucs.items():
            assert values[task][epoch] == pytest.approx(value, abs=1e-7), (task, epoch)


@pytest.mark.slow
def test_a_single_process_gets_the_same_from_the_same_weights(
    trained: tuple[RunFolder, Result], fold: FoldRun, outputs: Path
) -> None:
    copy = read_copy(trained[0].copy("lesion"))
    recorded = read_outputs(trained[0].epoch(copy.epoch))
    fold.model.load_state_dict(copy.weights)
    fold.model.eval()
    logits, scores, _ = forward(fold, fold.rows.held_out.tolist())
    np.testing.assert_allclose(recorded.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(recorded.scores, scores[:, 0].numpy(), rtol=1e-4, atol=1e-5)
    losses = []
    for rank in range(2):
        share = EpochSampler(fold.rows.held_out, seed=0, shuffle=False, rank=rank, processes=2)
        logits, scores, cases = forward(fold, [row for row, _ in share])
        outputs_part = output_loss(logits, stacked(cases, "labels"), stacked(cases, "label_weight"))
        losses.append(outputs_part + attention_loss(scores, stacked(cases, "target"), stacked(cases, "target_weight")))
    assert logged(outputs, "val/loss")[copy.epoch] == pytest.approx(float(sum(losses)) / 2, rel=1e-4)


def forward(fold: FoldRun, rows: list[int]) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
    dataset = CaseDataset(fold.cases, fold.labels, grid=fold.model.grid(*fold.cases.size))
    cases = [dataset[row, 0] for row in rows]
    images = torch.stack([case["image"].float() * case["factor"] for case in cases])
    with torch.no_grad():
        logits, scores = fold.model(images)
    return logits, scores, cases


def stacked(cases: list[dict[str, Any]], name: str) -> Tensor:
    return torch.from_numpy(np.stack([case[name] for case in cases]))


def wait_for_an_epoch(process: "subprocess.Popen[str]", folder: Path) -> None:
    deadline = time.monotonic() + 200
    while not list(folder.rglob("last.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_processes_end_and_go_on_to_the_same_weights_bit_for_bit(
    trained: tuple[RunFolder, Result], arguments: list[str], tmp_path: Path
) -> None:
    again = [*arguments, f"paths.outputs={tmp_path}", "tracking=none"]
    process = shell("liverattn.train", *again)
    wait_for_an_epoch(process, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)  # the other process holds the pipes as long as it lives
    killed = only_run(tmp_path)
    assert killed.state == "interrupted" and killed.path.name == trained[0].path.name
    resumed = finished(shell("liverattn.train", *again))
    assert resumed.status == 0, resumed.err
    assert f"epoch {1:3d}/{EPOCHS}" not in resumed.out and f"epoch {EPOCHS:3d}/{EPOCHS}" in resumed.out
    expected, actual = (torch.load(run.last, weights_only=True) for run in (trained[0], killed))
    for kept in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, actual[kept][name]) for name, value in expected[kept].items())
    for epoch in range(EPOCHS):
        first, second = read_outputs(trained[0].epoch(epoch)), read_outputs(killed.epoch(epoch))
        np.testing.assert_array_equal(first.logits, second.logits)
    assert trained[0].read_metrics()["protocols"] == killed.read_metrics()["protocols"]


@pytest.mark.slow
def test_sigterm_to_the_other_process_stops_both(arguments: list[str], tmp_path: Path) -> None:
    process = shell(
        "liverattn.train", *arguments, f"paths.outputs={tmp_path}", "tracking=none", "trainer.max_epochs=99"
    )
    wait_for_an_epoch(process, tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (other,) = (child for child in children if b"train_ddp_process_1" in Path(f"/proc/{child}/cmdline").read_bytes())
    os.kill(int(other), signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "Interrupted. The same command goes on from here.\n"


@pytest.mark.slow
def test_an_error_that_all_processes_meet_is_told_once(arguments: list[str], tmp_path: Path) -> None:
    diverging = ("optim.head_rate=1e30", "optim.warmup=0", "tracking=none", f"paths.outputs={tmp_path}")
    result = finished(shell("liverattn.train", *arguments, *diverging))
    assert result.status == 1, result.err
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("Error: The network's outputs became NaN or infinite in epoch 0")
    assert only_run(tmp_path).state == "failed"
