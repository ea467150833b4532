"""Finished fold runs that tests read, change and break."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.held_out import FoldPredictions, read_folds
from liverattn.runs import RunFolder
from tests.finished_runs import TWO_TASKS, Cohort

COHORT = Cohort(counts=(6, 0, 3, 0, 3, 0), tasks=TWO_TASKS)


def read_all(outputs: Path, *, inner: bool = False) -> list[FoldPredictions]:
    architectures = group_architectures(finished_runs(outputs))
    return [
        fold
        for architecture in architectures
        for fold in read_folds(architecture, architecture.cells(inner=inner), inner=inner)
    ]


def change(run: RunFolder, edit: Callable[[pd.DataFrame], Any]) -> None:
    table = run.read_predictions()
    run.write_predictions(table if (edited := edit(table)) is None else edited)


def change_split(run: RunFolder, **parts: Any) -> None:
    run.split.write_text(json.dumps({**json.loads(run.split.read_text()), **parts}))
