"""A small hospital with images, and finished fold runs on it that recorded logits and attention logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from liverattn.comparison.explained import Data
from liverattn.data.cache import prepare_cases
from liverattn.data.manifest import MALIGNANT_TYPES, Manifest, check_manifest
from liverattn.data.preprocessing import Preprocessing
from liverattn.runs import RunFolder
from liverattn.training.outputs import Outputs
from tests.finished_runs import Cohort, write_run

CLINIC = Cohort(counts=(6, 2, 2, 2, 4, 4), repeats=2, folds=2, name="clinic")
EPOCH = 3  # that all predictions of ``finished_runs`` are said to be from
GRID = (4, 6)


def manifest(folder: Path, cohort: Cohort = CLINIC) -> Manifest:
    """Images of 96x64 gray pixels, a box of 32x16 on those that show a lesion; written once per folder."""
    rows = []
    for number, (name, kind) in enumerate(zip(cohort.images, cohort.kinds, strict=True)):
        path = folder / f"{name}.png"
        if not path.exists():
            pixels = np.random.default_rng(number).integers(40, 200, (64, 96), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        box = f"[[{16 + number},16,{48 + number},32]]"
        labels = {"malignant": str(int(kind in MALIGNANT_TYPES)), "type": kind, "boxes": box}
        row = {"image_id": name, "path": path.name, "lesion": str(int(kind != "none"))}
        rows.append({**row, **(labels if kind != "none" else dict.fromkeys(labels))})
    return check_manifest(pd.DataFrame(rows), folder, "the clinic")


def data(folder: Path, cohort: Cohort = CLINIC, **steps: Any) -> Data:
    """The images, prepared to 64x96 as they are."""
    found = manifest(folder, cohort)
    return Data(
        found, prepare_cases(found, Preprocessing(**{"height": 64, "width": 96, "crop": False, **steps}), folder)
    )


def attention_logits(grid: tuple[int, int], count: int, seed: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, *grid)).astype(np.float32)


def recorded_run(
    outputs: Path,
    name: str,
    of: Data,
    repeat: int = 0,
    fold: int = 0,
    cohort: Cohort = CLINIC,
    grid: tuple[int, int] = GRID,
    **more: Any,
) -> RunFolder:
    """A finished run whose epoch 3 recorded attention logits that depend on its cell and size of the grid."""
    run = write_run(outputs, name, cohort, repeat, fold, **more)
    run.update_record(data=of.cases.fingerprint)
    images = sorted(set(run.read_predictions()["image_id"]))
    rows = np.sort(pd.Index(of.manifest.table["image_id"]).get_indexer(images))
    scores = attention_logits(grid, len(rows), [repeat, fold, *grid])
    Outputs(rows, np.zeros((len(rows), len(cohort.outputs)), np.float32), scores).write(run.epoch(EPOCH))
    return run
