"""CONTRACT on disk: the files of a run folder.

=========================  ==========================================================================================
``config.yaml``            the composed configuration
``run.json``               state, identity of data and folds, choices made for the machine, what trained
``split.json``             image_ids: ``held_out``, ``train``, ``selection`` (empty unless ``protocol=inner``), and the
                           hash of the fold assignment
``epochs/NNN.safetensors`` what epoch NNN's weights say of the held-out and the selection cases
``epochs.csv``             AUCs and score of every epoch on the held-out and the selection cases
``checkpoints/TASK.ckpt``  best epoch by that task's AUC; an inference copy (:func:`read_copy`), no optimizer state; an
                           epoch that is best for several tasks is one file with several names
``checkpoints/last.ckpt``  where to resume
``predictions.parquet``    one row per held-out case, task and protocol: :data:`PREDICTION_KEYS`, ``truth_OUTPUT``,
                           ``logit_OUTPUT``, then attention quality; each task's rows come from the epoch that the
                           protocol chooses for it
``selection.parquet``      the same of the cases that select under ``protocol=inner``, from the epochs that it chooses
                           and from the last one: not trained on, and no held-out case had a part in it
``cases.parquet``          one row per held-out case: ``image_id``, ``site``, metadata, and the attention quality of a
                           map that was fitted on the training boxes and looks at no image
``metrics.json``           by protocol: AUC of every output and task, the score (Eq. 4), attention quality; digests of
                           the tables above; written last
``traceback.txt``          of a run that failed
``roc.png attention.png``  to look at
``run.lock``               held by the process that works on the run
=========================  ==========================================================================================

Whoever needs numbers reads these files, so tables and figures are rebuilt without a model.
"""

import fcntl
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from liverattn.errors import InputError
from liverattn.files import file_digest, forget_unfinished, read_json, replacing, write_json
from liverattn.locks import BusyError, locked

PREDICTION_KEYS = ("protocol", "task", "image_id", "patient_id", "epoch")
State = Literal["missing", "running", "interrupted", "failed", "finished"]


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
    def selection(self) -> Path:
        """Predictions of the cases that an inner split put aside."""
        return self.path / "selection.parquet"

    @property
    def cases(self) -> Path:
        """What is known of the held-out cases besides their labels."""
        return self.path / "cases.parquet"

    @property
    def epochs(self) -> Path:
        """AUCs of every epoch."""
        return self.path / "epochs.csv"

    @property
    def metrics(self) -> Path:
        """Numbers of the run; a whole one says that the run is finished."""
        return self.path / "metrics.json"

    @property
    def last(self) -> Path:
        """Where to resume."""
        return self.copy("last")

    @property
    def is_finished(self) -> bool:
        """All results are there; where the numbers are damaged, the command of the run goes on and makes them again."""
        try:
            self.read_metrics()
        except InputError:
            return False
        return True

    @property
    def state(self) -> State:
        """What has become of the run; ``interrupted``: the same command goes on with it."""
        if self.is_finished:
            return "finished"
        if not (self.path / "run.json").exists():
            return "missing"
        try:
            with locked(self._lock, fcntl.LOCK_SH):  # so that two who ask do not take each other for the worker
                return "interrupted" if self.failure is None else "failed"
        except BusyError:
            return "running"

    @property
    def failure(self) -> str | None:
        """Why an unfinished run failed: with a damaged record it cannot go on, either. None: it can."""
        try:
            record = self.record()
        except InputError as damaged:
            return str(damaged)
        return str(record.get("error")) if record.get("state") == "failed" else None

    def copy(self, task: str) -> Path:
        """The checkpoint of one task."""
        return self.path / "checkpoints" / f"{task}.ckpt"

    def epoch(self, number: int) -> Path:
        """What the weights of one epoch (from 0) say of the cases that are not trained on."""
        return self.path / "epochs" / f"{number:03d}.safetensors"

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the run for this process, and record how the work ends.

        A killed process releases it; what the run is then called is decided by :attr:`state`.

        Raises:
            BusyError: Another process works on it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self._lock, patience=10):  # somebody may be asking for the state just now
            forget_unfinished(self.path)
            self.update_record(state="running", error=None)
            try:
                yield
            except Exception as error:
                with suppress(OSError, InputError):  # a full disk must not hide what happened
                    (self.path / "traceback.txt").write_text(traceback.format_exc())
                    self.update_record(state="failed", error=str(error) or type(error).__name__)
                raise
            self.update_record(state="finished")

    @property
    def _lock(self) -> Path:
        return self.path / "run.lock"

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

    def digests(self) -> dict[str, str]:
        """SHA-256 of the tables that are there, by name, for ``metrics.json``; a table that differs is damaged."""
        tables = (self.predictions, self.selection, self.cases, self.epochs)
        return {path.name: file_digest(path) for path in tables if path.exists()}

    def recorded_digests(self) -> dict[str, str]:
        """:meth:`digests` when the run ended; empty where it has not, or a version that recorded none made it."""
        try:
            return dict(self.read_metrics().get("digests", {}))
        except InputError:
            return {}

    def _is_due(self, path: Path) -> bool:
        return path.exists() or path.name in self.recorded_digests()

    def read_predictions(self) -> pd.DataFrame:
        """``predictions.parquet``.

        Raises:
            InputError: Absent, damaged, or without the columns of the contract.
        """
        return _read_table(self.predictions, PREDICTION_KEYS)

    def read_selection(self) -> pd.DataFrame | None:
        """``selection.parquet``; None where no inner split selected.

        Raises:
            InputError: Damaged or lost, or without the columns of the contract.
        """
        return _read_table(self.selection, PREDICTION_KEYS) if self._is_due(self.selection) else None

    def read_cases(self) -> pd.DataFrame | None:
        """``cases.parquet``, by image_id; None where the run was made by a version that wrote none.

        Raises:
            InputError: Damaged or lost, or without the columns of the contract.
        """
        return _read_table(self.cases, ("image_id", "site")).set_index("image_id") if self._is_due(self.cases) else None

    def read_epochs(self) -> pd.DataFrame | None:
        """``epochs.csv``; None where the run was made by a version that wrote none.

        Raises:
            InputError: Damaged or lost, or without the columns of the contract.
        """
        return _read_table(self.epochs, ("epoch", "cases", "score")) if self._is_due(self.epochs) else None

    def write_predictions(self, table: pd.DataFrame) -> None:
        """Write ``predictions.parquet``."""
        write_table(table, self.predictions)


def _read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    recorded = RunFolder(path.parent).recorded_digests().get(path.name)
    try:
        if recorded not in (None, file_digest(path)):
            raise ValueError("its content is not what the run wrote")
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. {_tables_again(path)}") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise InputError(f"{path} lacks the column(s) {', '.join(missing)}. {_tables_again(path)}")
    return table


def anew(folder: Path) -> str:
    """The remedy where a run can neither be used nor go on."""
    return f"Remove the folder {folder}, then run the fold again."


def _tables_again(path: Path) -> str:
    metrics = RunFolder(path.parent).metrics
    return f"Remove {metrics}, then run the fold again: nothing is trained again, only its tables are made."


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, whole or not at all."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def find_runs(outputs: Path) -> Sequence[RunFolder]:
    """All run folders below a folder, by path."""
    return [RunFolder(path.parent) for path in sorted(outputs.glob("**/run.json"))]


def _read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        if missing is not None:
            return missing
        raise InputError(f"{path} does not exist: the run is not finished.") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}). {anew(path.parent)}") from None
