"""All GPU rows of the table, by one command on a machine with a GPU; without one, they stay empty.

    python -m benchmarks.gpu [--epochs 60] [--jobs 1,2,4,8] [OVERRIDES]

1. An epoch of ``resnet_240`` against a bare loop whose data lie on the device (``benchmarks.epoch``), also compiled.
2. Several fold runs at once on the GPU: nine of three epochs, for each number of jobs.
3. The 27 fold runs of Table 2 (``+sweep=paper``) with the number that was fastest: minutes.

Overrides go to every training, such as ``data=aul`` or ``backbone.weights=null``. To try the script itself without a
GPU: ``--trainer cpu --experiment quickstart --sweep quick --epochs 1 --jobs 1,2 trainer.limit_batches=2``.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from benchmarks.machine import described

EPOCHS_OF_NINE = 3


def run(module: str, *overrides: str) -> tuple[float, list[str]]:
    """Seconds, and what was printed."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *overrides], stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - started, done.stdout.splitlines()


def main() -> None:
    """Print every row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="resnet_240")
    parser.add_argument("--sweep", default="paper")
    parser.add_argument("--trainer", default="gpu")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--jobs", default="1,2,4,8")
    options, overrides = parser.parse_known_args()
    print(described(), flush=True)
    chosen = [f"+experiment={options.experiment}", f"trainer={options.trainer}", *overrides]
    for more in ("trainer.compile=false", "trainer.compile=true"):
        _, printed = run("benchmarks.epoch", *chosen, more)
        print(f"{more}: {printed[-1]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"paths.outputs={folder}", "tracking=none"]
        run("liverattn.train", *chosen, *outputs, "name=warm", "trainer.max_epochs=1")  # renders and prepares
        seconds = {}
        for jobs in map(int, options.jobs.split(",")):
            cells = ["protocol.repeat=0,1,2", "protocol.fold=0,1,2", f"trainer.max_epochs={EPOCHS_OF_NINE}"]
            several = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}", f"name=jobs{jobs}"]
            seconds[jobs], _ = run("liverattn.train", "-m", *chosen, *outputs, *cells, *several)
            print(f"nine fold runs of {EPOCHS_OF_NINE} epochs, {jobs} at once: {seconds[jobs]:.0f} s", flush=True)
        best = min(seconds, key=lambda jobs: seconds[jobs])
        several = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={best}", f"trainer.max_epochs={options.epochs}"]
        whole, _ = run(
            "liverattn.train",
            "-m",
            f"+sweep={options.sweep}",
            f"trainer={options.trainer}",
            *overrides,
            *outputs,
            *several,
        )
        print(f"+sweep={options.sweep}, {options.epochs} epochs, {best} at once: {whole / 60:.1f} minutes")


if __name__ == "__main__":
    main()
