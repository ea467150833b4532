"""CONTRACT on disk: the files of a run folder.

=========================  ==========================================================================================
``config.yaml``            the composed configuration
``run.json``               state, identity of data and folds, choices made for the machine, versions
``split.json``             the held-out and the training image_ids, and the hash of the fold assignment
``checkpoints/TASK.ckpt``  best epoch by that task's AUC; an inference copy (:func:`read_copy`), no optimizer state
``checkpoints/last.ckpt``  where to resume
``predictions.parquet``    one row per held-out case and task copy: :data:`PREDICTION_KEYS`, ``truth_OUTPUT``,
                           ``logit_OUTPUT``, then attention quality
``metrics.json``           AUC of every output and task copy, the score (Eq. 4), attention quality; written last
``roc.png attention.png``  to look at
=========================  ==========================================================================================

Whoever needs numbers reads these files, so tables and figures are rebuilt without a model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from liverattn.errors import InputError
from liverattn.files import replacing, write_json

PREDICTION_KEYS = ("image_id", "patient_id", "task", "epoch")


@dataclass(frozen=True)
class RunFolder:
    """Paths and readers of one fold run."""

    path: Path

    @property
    def config(self) -> Path:
        """The composed configuration."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """Held-out and training cases."""
        return self.path / "split.json"

    @property
    def predictions(self) -> Path:
        """Held-out predictions of every task copy."""
        return self.path / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        """Numbers of the run; its presence says that the run is finished."""
        return self.path / "metrics.json"

    @property
    def last(self) -> Path:
        """Where to resume."""
        return self.copy("last")

    @property
    def is_finished(self) -> bool:
        """All results are there."""
        return self.metrics.exists()

    def copy(self, task: str) -> Path:
        """The checkpoint of one task."""
        return self.path / "checkpoints" / f"{task}.ckpt"

    def record(self) -> dict[str, Any]:
        """``run.json``; empty for a new run.

        Raises:
            InputError: The file is damaged.
        """
        return _read_json(self.path / "run.json", missing={})

    def update_record(self, **changes: Any) -> None:
        """Change entries of ``run.json``."""
        write_json(self.path / "run.json", {**self.record(), **changes})

    def read_metrics(self) -> dict[str, Any]:
        """``metrics.json``; a null is an undefined number.

        Raises:
            InputError: Absent or damaged.
        """
        return _read_json(self.metrics)

    def read_predictions(self) -> pd.DataFrame:
        """``predictions.parquet``.

        Raises:
            InputError: Absent, damaged, or without the columns of the contract.
        """
        try:
            table = pd.read_parquet(self.predictions)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.predictions} cannot be read: {error}. Run the fold again.") from error
        missing = [name for name in PREDICTION_KEYS if name not in table]
        if missing:
            raise InputError(f"{self.predictions} lacks the column(s) {', '.join(missing)}.")
        return table

    def write_predictions(self, table: pd.DataFrame) -> None:
        """Write ``predictions.parquet``."""
        with replacing(self.predictions) as temporary:
            table.to_parquet(temporary, index=False)


def find_runs(outputs: Path) -> Sequence[RunFolder]:
    """All run folders below a folder, by path."""
    return [RunFolder(path.parent) for path in sorted(outputs.glob("**/run.json"))]


def _read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise InputError(f"{path} does not exist: the run is not finished.") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}). Remove the run folder and run the fold again.") from None
    return content
