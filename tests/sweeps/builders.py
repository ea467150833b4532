"""Recorded sweeps whose run folders are written by hand."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from liverattn.files import write_json
from liverattn.runs import RunFolder
from liverattn.sweeps.record import Cell, Sweep, known_or_new

TAGS = {
    "experiment": "resnet_240",
    "architecture": "resnet50",
    "lambda": "1",
    "resolution": "240x345",
    "protocol": "paper",
    "settings": "",
}


def cell(folder: str, repeat: int = 0, fold: int = 0, epochs: int = 4, label: str = "", **tags: str) -> Cell:
    """A cell with some tags of its own."""
    overrides = (f"+experiment={tags.get('experiment', 'resnet_240')}", f"protocol.fold={fold}")
    return Cell(overrides, f"runs/{folder}", epochs, {**TAGS, "repeat": str(repeat), "fold": str(fold), **tags}, label)


def sweep(outputs: Path, *cells: Cell, jobs: int = 1, started: float = 0.0, name: str = "test") -> Sweep:
    """A sweep that is recorded as running."""
    new = known_or_new(outputs, cells, name=name, command="python -m liverattn.train -m", started=started, jobs=jobs)
    return new.marked("running")


def epochs_done(run: RunFolder, count: int, seconds: float = 1.0) -> None:
    """A run that has written so many epochs, so many seconds apart."""
    run.update_record(state="running")
    for number in range(count):
        path = run.epoch(number)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1000 + seconds * number, 1000 + seconds * number))


def finish(run: RunFolder, score: float | None = 0.5, **auc: float | None) -> None:
    """A finished run with these numbers under the protocol ``paper``, and .25 under ``last``."""
    run.update_record(state="finished")
    protocols: Mapping[str, Any] = {"paper": {"score": score, "auc": auc}, "last": {"score": 0.25, "auc": {}}}
    write_json(run.metrics, {"protocols": protocols, "seconds": 1.0})


def fail(run: RunFolder, error: str) -> None:
    """A run that failed."""
    run.update_record(state="failed", error=error)
