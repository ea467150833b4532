"""A training image from the prepared cache against decoding, preparing and augmenting it in every epoch; one core.

    python -m benchmarks.pipeline [--images 64] [--rounds 5]

Both give the same pixels before augmentation and augment with the same seeds; they take turns, image set by image set.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.images import cases, settings
from benchmarks.machine import described
from liverattn.configuration import build
from liverattn.data.cache import prepare_cases
from liverattn.data.datasets import NO_BOXES, CaseDataset
from liverattn.data.images import read_grey
from liverattn.data.targets import boxes_to_mask, mask_to_grid


def main() -> None:
    """Print milliseconds per image of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        cfg = settings(Path(folder))
        manifest, steps, augmentation = cases(cfg), build(cfg.data.preprocessing), build(cfg.data.augmentation)
        prepared = prepare_cases(manifest, steps, Path(cfg.paths.cache))
        labels = np.zeros((len(prepared), 2), np.float32)
        dataset = CaseDataset(prepared, labels, grid=(8, 11), augmentation=augmentation)
        rows = np.random.default_rng(0).permutation(len(prepared))[: options.images].tolist()
        augment = augmentation.build(prepared.size)

        def anew(epoch: int) -> None:
            for row in rows:
                path, boxes = manifest.table.loc[row, ["path", "boxes"]]
                image = steps.apply(read_grey(manifest.root / path), NO_BOXES if boxes is None else boxes)
                drawn = augment.draw((0, epoch, row))
                drawn.of_image(image.image)
                if len(image.boxes):
                    mask_to_grid(drawn.of_mask(boxes_to_mask(image.boxes, prepared.size)), (8, 11))

        def cached(epoch: int) -> None:
            for start in range(0, len(rows), 16):
                dataset.__getitems__([(row, epoch) for row in rows[start : start + 16]])

        times: dict[str, list[float]] = {"every epoch anew": [], "from the cache": []}
        ways: dict[str, Callable[[int], None]] = {"every epoch anew": anew, "from the cache": cached}
        for epoch in range(options.rounds + 1):
            for name, way in ways.items():
                started = time.perf_counter()
                way(epoch)
                times[name].append(1000 * (time.perf_counter() - started) / len(rows))
    print(f"{described()}; {cfg.data.name}, {len(rows)} images at {prepared.size[0]}x{prepared.size[1]}, one core")
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first round warms up
    for name, values in times.items():
        print(f"{name:18s} {medians[name]:6.2f} ms per image ({min(values[1:]):.2f} to {max(values[1:]):.2f})")
    print(f"ratio {medians['every epoch anew'] / medians['from the cache']:.1f}")


if __name__ == "__main__":
    main()
