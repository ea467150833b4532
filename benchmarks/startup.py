"""How long a user waits: from the command to the first training step, between two cells, for ``--help`` and a mistake.

    python -m benchmarks.startup [--rounds 5] [OVERRIDES]

Every time in a process of its own, except cells: those of a sweep share one. The images are prepared beforehand, as
they are from the second command on.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.machine import described

# The first step of the optimizer ends the process: what Lightning would do afterwards is not waited for.
UNTIL_FIRST_STEP = """
import os, runpy, sys
import torch
torch.optim.SGD.step = lambda *given, **more: os._exit(0)
runpy.run_module("liverattn.train", run_name="__main__")
"""

# From a cell's results to the first step of the next one.
BETWEEN_CELLS = """
import runpy, time
import torch
from liverattn.training.fold_run import FoldRun
ended, step, execute = [], torch.optim.SGD.step, FoldRun.execute

def first_step(*given, **more):
    if ended:
        print("BETWEEN", time.perf_counter() - ended.pop(), flush=True)
    return step(*given, **more)

def executed(self):
    execute(self)
    ended[:] = [time.perf_counter()]

torch.optim.SGD.step, FoldRun.execute = first_step, executed
runpy.run_module("liverattn.train", run_name="__main__")
"""


def between_cells(*given: str) -> list[float]:
    """Seconds between the cells of one sweep."""
    sweep = ("-m", "trainer.max_epochs=1", "trainer.limit_batches=1", "protocol.fold=0,1,2", "protocol.repeat=0,1")
    command = [sys.executable, "-c", BETWEEN_CELLS, *sweep, *given]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [float(line.split()[1]) for line in told if line.startswith("BETWEEN")]


def seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> None:
    """Print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options, overrides = parser.parse_known_args()
    overrides = overrides or ["+experiment=resnet18_240", "backbone.weights=null"]
    with tempfile.TemporaryDirectory() as folder:
        given = [*overrides, f"paths.outputs={folder}", "tracking=none"]
        subprocess.run([sys.executable, "-c", UNTIL_FIRST_STEP, *given], check=True)  # renders, prepares, probes
        commands = {
            "command to first training step": ("-c", UNTIL_FIRST_STEP, *given),
            "--help": ("-m", "liverattn.train", "--help"),
            "a mistake": ("-m", "liverattn.train", "+experiment=resnet_24"),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                times[name].append(seconds(*command))
        times["between two cells of a sweep"] = between_cells(*given[:-1])
    print(f"{described()}; {' '.join(overrides)}")
    for name, values in times.items():
        print(f"{name:32s} {statistics.median(values):5.2f} s ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
