"""All GPU rows of the table, by one command on a machine with a GPU; without one, they stay empty.

    python -m benchmarks.gpu [--parts epoch,jobs,sweep] [--epochs 60] [--jobs 1,2,4,8] [OVERRIDES]

- epoch: of ``resnet_240`` against bare loops whose data lie on the device (``benchmarks.epoch``), also compiled.
- jobs: several fold runs at once on the GPU: nine of twenty epochs, for each number of jobs.
- sweep: the 27 fold runs of Table 2 (``+sweep=paper``) with the number that was fastest: minutes.

Overrides go to every training, such as ``data=aul`` or ``backbone.weights=null``. To try the script itself without a
GPU: ``--trainer cpu --experiment quickstart --sweep quick --epochs 1 --jobs 1,2 trainer.limit_batches=2``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import described
from liverattn.runs import find_runs

EPOCHS_OF_NINE = 20


def run(module: str, *overrides: str) -> tuple[float, list[str]]:
    """Seconds, and what was printed."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *overrides], stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - started, done.stdout.splitlines()


def main() -> None:
    """Print every row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="epoch,jobs,sweep")
    parser.add_argument("--experiment", default="resnet_240")
    parser.add_argument("--sweep", default="paper")
    parser.add_argument("--trainer", default="gpu")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--jobs", default="1,2,4,8")
    options, overrides = parser.parse_known_args()
    parts, jobs = options.parts.split(","), [int(number) for number in options.jobs.split(",")]
    print(described(), flush=True)
    chosen = [f"+experiment={options.experiment}", f"trainer={options.trainer}", *overrides]
    if "epoch" in parts:
        for more in ("trainer.compile=false", "trainer.compile=true"):
            _, printed = run("benchmarks.epoch", *chosen, more)
            print(f"{more}: {printed[-1]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"paths.outputs={folder}"]
        run("liverattn.train", *chosen, *outputs, "name=warm", "trainer.max_epochs=1")  # renders and prepares
        if "jobs" in parts:
            jobs = [fastest_number(jobs, [*chosen, *outputs])]
        if "sweep" in parts:
            several = [
                "hydra/launcher=joblib",
                f"hydra.launcher.n_jobs={jobs[0]}",
                f"trainer.max_epochs={options.epochs}",
            ]
            sweep = [f"+sweep={options.sweep}", f"trainer={options.trainer}", *overrides, *outputs, *several]
            seconds, _ = run("liverattn.train", "-m", *sweep)
            print(f"+sweep={options.sweep}, {options.epochs} epochs, {jobs[0]} at once: {seconds / 60:.1f} minutes")
            for name, taken in training_seconds(Path(folder)).items():
                print(
                    f"{name}: {len(taken)} trainings of {np.median(taken):.0f} s ({min(taken):.0f} to {max(taken):.0f})"
                )


def fastest_number(jobs: list[int], settings: list[str]) -> int:
    """How many fold runs at once end nine of them first."""
    seconds = {}
    for number in jobs:
        cells = ["protocol.repeat=0,1,2", "protocol.fold=0,1,2", f"trainer.max_epochs={EPOCHS_OF_NINE}"]
        several = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={number}", f"name=jobs{number}"]
        seconds[number], _ = run("liverattn.train", "-m", *settings, *cells, *several)
        print(f"nine fold runs of {EPOCHS_OF_NINE} epochs, {number} at once: {seconds[number]:.0f} s", flush=True)
    return min(seconds, key=lambda number: seconds[number])


def training_seconds(outputs: Path) -> dict[str, list[float]]:
    """Of the finished fold runs of a sweep, by name; several shared the GPU."""
    taken: dict[str, list[float]] = {}
    for found in find_runs(outputs):
        name = found.path.parent.name
        if found.is_finished and name != "warm" and not name.startswith("jobs"):
            taken.setdefault(name, []).append(found.read_metrics()["seconds"])
    return taken


if __name__ == "__main__":
    main()
