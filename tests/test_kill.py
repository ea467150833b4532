"""Kill -9 of any process of a sweep at any moment, then the same command: the tables of an undisturbed sweep.

Here with a few kills; by hand with many: ``python -m tests.test_kill --kills 20 --seed 0 --launcher joblib``.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
import torch

from liverattn import train
from liverattn.runs import find_runs
from liverattn.sweeps.record import find_sweeps
from tests.conftest import TINY, Result

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600  # seconds that a tiny sweep may take on a slow machine before it counts as hanging
LAUNCHERS = {"basic": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}


def sweep_command(launcher: str, *swept: str) -> list[str]:
    """The command; everything lies below the current folder, so that it is the same for all sweeps."""
    return [sys.executable, "-m", "liverattn.train", "-m", *TINY, *LAUNCHERS[launcher], *swept]


def start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    """The sweep in a process group of its own; what it says is added to ``said.txt``."""
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def group(leader: int) -> list[int]:
    """Processes of the sweep that live."""
    members = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            state, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(number) == leader and state != "Z":
                members.append(int(entry.name))
    return sorted(members)


def undisturbed(command: list[str], folder: Path) -> float:
    """Run the sweep to its end; returns the seconds it took."""
    folder.mkdir()
    started = time.monotonic()
    status = start(command, folder).wait(LONGEST)
    assert status == 0, (folder / "said.txt").read_text()
    return time.monotonic() - started


def disturbed(command: list[str], folder: Path, kills: int, seconds: float, rng: random.Random) -> tuple[int, int]:
    """Give the command again and again while its processes are killed, until the sweep is finished.

    Args:
        command: Of the sweep.
        folder: To run it in.
        kills: Most kills.
        seconds: That the undisturbed command takes; the kills come at random moments of these.
        rng: Of moments and victims.

    Returns:
        Kills, and processes that outlived their sweep.
    """
    folder.mkdir()
    done = 0
    leaders = []
    while True:
        process = start(command, folder)
        leaders.append(process.pid)
        if done < kills:
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.8 * seconds))
            members = group(process.pid) if process.poll() is None else []
            if members:
                victim = rng.choice(members)
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    done += 1
                    note = f"\n=== kill {done}: process {members.index(victim) + 1} of {len(members)}\n"
                    with (folder / "said.txt").open("a") as said:
                        said.write(note)
        # A sweep whose worker was killed goes on by itself; one that was killed itself is started again at once.
        if process.wait(LONGEST) == 0:
            return done, left_over(leaders)


def results(folder: Path) -> dict[str, tuple[pd.DataFrame, dict[str, Any]]]:
    """Predictions and metrics by run folder; the place for tables that further commands make of them."""
    outputs = folder / "outputs"
    found = {}
    for run in find_runs(outputs / "runs"):
        metrics = run.read_metrics()
        del metrics["seconds"]
        found[str(run.path.relative_to(outputs))] = (run.read_predictions(), metrics)
    return found


def compare(expected: Path, actual: Path) -> None:
    """Both sweeps ended with the same results, bit for bit, and nothing is left open."""
    whole, parts = results(expected), results(actual)
    assert whole.keys() == parts.keys()
    for name, (predictions, metrics) in whole.items():
        pd.testing.assert_frame_equal(predictions, parts[name][0], check_exact=True)
        assert json.dumps(metrics) == json.dumps(parts[name][1]), name
    (sweep,), _ = find_sweeps(actual / "outputs")
    assert sweep.status == "finished"
    assert len(sweep.runs()) == len(whole)
    with closing(sqlite3.connect(actual / "outputs" / "mlflow.db")) as database:
        states = dict(database.execute("SELECT run_uuid, status FROM runs"))
        parent = dict(database.execute("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'"))
    assert "RUNNING" not in states.values()
    tracked = {run.record()["mlflow_run_id"] for run in find_runs(actual / "outputs" / "runs")}
    assert {states[run] for run in tracked} == {"FINISHED"}
    assert len({parent[run] for run in tracked}) == 1
    assert states[parent[tracked.pop()]] == "FINISHED"


def left_over(leaders: list[int], patience: float = 10) -> int:
    """Count the processes that outlive their sweep, although they were given time to leave, and end them."""
    deadline = time.monotonic() + patience
    while (alive := [leader for leader in leaders if group(leader)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    count = sum(len(group(leader)) for leader in alive)
    for leader in alive:
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
    return count


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_sweeps_end_with_the_tables_of_an_undisturbed_one(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = "model.attention.lambdas=[1],[0.25,1]"
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(max(joblib.cpu_count() // 2, 1))  # as each of two jobs has: sums depend on it
    started = time.monotonic()
    whole = command(train.main, "-m", *TINY, swept, "tracking=none")
    seconds = time.monotonic() - started + 8  # of starting processes
    torch.set_num_threads(threads)
    assert whole.status == 0, whole.err
    kills, outlived = disturbed(sweep_command("joblib", swept), tmp_path / "parts", 2, seconds, random.Random(0))
    assert kills > 0
    assert outlived == 0
    compare(tmp_path / "whole", tmp_path / "parts")


def main() -> None:
    """The same with many kills, in as many sweeps as it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--launcher", choices=LAUNCHERS, default="basic")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    command = sweep_command(options.launcher, "model.attention.lambdas=[1],[0.25,1]", "protocol.fold=0,1,2")
    with tempfile.TemporaryDirectory() as folder:
        seconds = undisturbed(command, Path(folder) / "whole")
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        done = rounds = outlived = 0
        while done < options.kills:
            rounds += 1
            parts = Path(folder) / f"parts-{rounds}"
            kills, left = disturbed(command, parts, options.kills - done, seconds, rng)
            done, outlived = done + kills, outlived + left
            compare(Path(folder) / "whole", parts)
            print(f"{done} kills in {rounds} sweeps: the same tables; {outlived} processes outlived theirs", flush=True)


if __name__ == "__main__":
    main()
