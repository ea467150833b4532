"""Preparing a data set against a single-threaded OpenCV loop of the same steps; in turns, each time from nothing.

    python -m benchmarks.prepare [--rounds 3]

The loop decodes, converts to grey, crops, measures, resizes and saves; the pixels are the same (this is checked). It
neither hashes files, nor refuses truncated ones, nor could it go on after an interruption.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.images import cases, settings
from benchmarks.machine import described
from liverattn.configuration import build
from liverattn.data.cache import prepare_cases
from liverattn.data.datasets import NO_BOXES
from liverattn.data.manifest import Manifest


def plain_loop(manifest: Manifest, steps: Any, folder: Path) -> None:
    """One thread, OpenCV's included."""
    folder.mkdir()
    cv2.setNumThreads(0)
    for number, row in enumerate(manifest.table.to_dict("records")):
        image = cv2.imread(str(manifest.root / row["path"]))
        assert image is not None
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
        prepared = steps.apply(grey, NO_BOXES if row["boxes"] is None else row["boxes"])
        np.save(folder / f"{number}.npy", prepared.image)
    cv2.setNumThreads(-1)


def main() -> None:
    """Print seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"OpenCV loop": [], "liverattn.prepare": []}
    with tempfile.TemporaryDirectory() as folder:
        cfg = settings(Path(folder))
        manifest, steps = cases(cfg), build(cfg.data.preprocessing)
        for turn in range(options.rounds):
            started = time.perf_counter()
            plain_loop(manifest, steps, Path(folder) / f"plain{turn}")
            times["OpenCV loop"].append(time.perf_counter() - started)
            started = time.perf_counter()
            prepared = prepare_cases(manifest, steps, Path(folder) / f"cache{turn}")
            times["liverattn.prepare"].append(time.perf_counter() - started)
        for row in range(len(prepared)):
            assert np.array_equal(prepared.image(row), np.load(Path(folder) / "plain0" / f"{row}.npy"))
    print(f"{described()}; {cfg.data.name}, {len(manifest.table)} images")
    for name, values in times.items():
        print(f"{name:18s} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})")
    print(f"ratio {statistics.median(times['OpenCV loop']) / statistics.median(times['liverattn.prepare']):.2f}")


if __name__ == "__main__":
    main()
