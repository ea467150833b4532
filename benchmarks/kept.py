"""A fold run that keeps freed memory, against one that lets the C library give it back; the processes take turns.

    python -m benchmarks.kept [--rounds 3] +experiment=resnet18_240 backbone.weights=null data=aul trainer.max_epochs=3

Printed are seconds of training (without start, pictures and files) and MiB at the peak of each, the ratios of the
medians, and whether the weights are the same to the bit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.machine import described

WAYS = {"kept": {}, "back": {"GLIBC_TUNABLES": "glibc.malloc.check=0"}}  # a default; that it is there counts

FOLD_RUN = """
import resource, runpy
try:
    runpy.run_module("liverattn.train", run_name="__main__")
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(
    outputs: Path, name: str, variables: dict[str, str], overrides: list[str]
) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Seconds, MiB and weights of one fold run."""
    command = [sys.executable, "-c", FOLD_RUN, *overrides, "tracking=none", f"paths.outputs={outputs}", f"name={name}"]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | variables).stdout
    (metrics,) = outputs.glob(f"runs/{name}/*/metrics.json")
    weights = torch.load(metrics.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return json.loads(metrics.read_text())["seconds"], float(told.splitlines()[-1].split()[1]), weights


def main() -> None:
    """Print medians, ranges and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options, overrides = parser.parse_known_args()
    runs: dict[str, list[tuple[float, float, dict[str, torch.Tensor]]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), "first", {}, [*overrides, "trainer.max_epochs=1"])  # prepares, times what is fastest
        for turn in range(options.rounds):
            for way, variables in WAYS.items():
                runs[way].append(measure(Path(folder), f"{way}{turn}", variables, overrides))
    medians = {}
    for way, found in runs.items():
        seconds, peaks = [run[0] for run in found], [run[1] for run in found]
        medians[way] = statistics.median(seconds), statistics.median(peaks)
        print(
            f"{way:5s} {medians[way][0]:6.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), "
            f"{medians[way][1]:5.0f} MiB ({min(peaks):.0f} to {max(peaks):.0f})"
        )
    first, *others = [run[2] for found in runs.values() for run in found]
    same = all(torch.equal(value, other[name]) for other in others for name, value in first.items())
    print(f"{described()}; {' '.join(overrides)}")
    ratios = [kept / back for kept, back in zip(medians["kept"], medians["back"], strict=True)]
    print(f"kept / back: time {ratios[0]:.2f}, memory {ratios[1]:.2f}; same weights: {same}")


if __name__ == "__main__":
    main()
