"""50 000 cases against 500: reading the table, preparing, folding and one epoch, per image, and peak memory.

    python -m benchmarks.scale [--cases 500 50000] [--folder FOLDER]

Synthetic images (128x176 JPEG, half with a bright lesion), a network of one block, each size in a process of its own.
With ``--folder`` the images stay and are taken again.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.machine import described

NETWORK = (
    "data=manifest", "data.tasks.type=null", "data.preprocessing.height=64", "data.preprocessing.width=92",
    "backbone=resnet18_layer3", "backbone.cut=layer2", "backbone.weights=null", "tracking=none", "trainer=cpu",
    "trainer.batch_size=16", "trainer.max_epochs=1",
)  # fmt: skip


def write_cases(folder: Path, count: int) -> Path:
    """Speckle with and without a lesion, and the table."""
    table = folder / f"cases{count}.csv"
    if table.exists():
        return table
    random, rows = np.random.default_rng(0), []
    noise = random.integers(40, 110, (64, 128, 176), dtype=np.uint8)
    for case in range(count):
        image = np.roll(noise[case % len(noise)], case // len(noise), axis=1)
        x, y = (int(edge) for edge in random.integers((20, 20), (120, 80)))
        lesion = case % 2
        if lesion:
            image[y : y + 30, x : x + 40] += 90
        path = folder / "images" / f"{case // 1000:03d}" / f"{case:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        boxes = json.dumps([[x, y, x + 40, y + 30]]) if lesion else None
        malignant = case // 2 % 2 if lesion else None
        rows.append((f"c{case:06d}", str(path.relative_to(folder)), f"p{case // 3}", lesion, malignant, boxes))
    columns = ["image_id", "path", "patient_id", "lesion", "malignant", "boxes"]
    pd.DataFrame(rows, columns=columns).astype({"malignant": "Int64"}).to_csv(table, index=False)
    return table


def measure(table: Path, outputs: Path) -> dict[str, float]:
    """Seconds of each part, and MiB at the peak, of this process."""
    from hydra import compose, initialize_config_dir

    from liverattn.configuration import build, config_folder
    from liverattn.data.cache import prepare_cases
    from liverattn.runs import RunFolder
    from liverattn.train import compose as compose_run

    found, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        found[name], started = time.perf_counter() - started, time.perf_counter()

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("train", [*NETWORK, f"data.manifest={table}", f"paths.outputs={outputs}"])
        manifest = build(cfg.data.source).manifest()
        lap("read and check the table")
        prepare_cases(manifest, build(cfg.data.preprocessing), Path(cfg.paths.cache))
        lap("prepare")
        prepare_cases(manifest, build(cfg.data.preprocessing), Path(cfg.paths.cache))
        lap("open what is prepared")
        build(cfg.protocol).assignment(manifest, outputs / "splits")
        lap("fold")
        del manifest  # the next step reads its own
        fold = compose_run(cfg, RunFolder(outputs / "run"))
        started = time.perf_counter()
        fold.execute()
        lap("one epoch, validation, results")
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    """Print milliseconds per image of both sizes, the ratios, and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs=2, default=(500, 50_000))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, results = options.folder or Path(temporary), []
        for count in options.cases:
            table, outputs = write_cases(folder, count), Path(temporary) / f"outputs{count}"
            command = [sys.executable, "-m", "benchmarks.scale", "--one", str(table), str(outputs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    print(described())
    print(f"{'ms per image':34s}" + "".join(f"{count:>10d}" for count in options.cases) + f"{'ratio':>8s}")
    for name in results[0]:
        if name != "peak":
            few, many = (1000 * one[name] / count for one, count in zip(results, options.cases, strict=True))
            print(f"{name:34s}{few:10.2f}{many:10.2f}{many / few:8.2f}")
    few, many = (one["peak"] for one in results)
    print(f"{'peak memory, MiB':34s}{few:10.0f}{many:10.0f}{many / few:8.2f}")


if __name__ == "__main__":
    main()
