"""MLflow for all verbs: SQLite beside the runs by default, a server by ``MLFLOW_TRACKING_URI``.

MLflow's telemetry is off. Patients are not named in it unless ``tracking.identifiers`` is on.
"""

import logging
import math
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from liverattn.commands import make
from liverattn.errors import InputError, expect_boolean
from liverattn.files import read_json, replacing, write_json
from liverattn.locks import locked
from liverattn.mlflow_requests import prompt_requests
from liverattn.pseudonyms import pseudonyms, secret_key

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from liverattn.mlflow_logger import MetricsTogether

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")

SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class MlflowTracking:
    """Where runs are tracked.

    Attributes:
        folder: Of the database ``mlflow.db`` and the artifacts, unless another one or a server is given.
        experiment: Name of the MLflow experiment.
        uri: Tracking server or database; None: the variable ``MLFLOW_TRACKING_URI``, else SQLite in ``folder``.
        identifiers: Name images and patients in what is uploaded; else they are replaced by hashes with a key that
            stays in ``folder``.
    """

    folder: str
    experiment: str = "liverattn"
    uri: str | None = None
    identifiers: bool = False

    def __post_init__(self) -> None:
        """Refuse what only looks like a refusal to name patients: ``no`` is a text, and texts are true."""
        expect_boolean("tracking.identifiers", self.identifiers)

    @property
    def address(self) -> str:
        """Tracking URI in force."""
        own = f"{SQLITE}{Path(self.folder).resolve() / 'mlflow.db'}"
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI") or own

    @property
    def database(self) -> Path | None:
        """File of an SQLite database, beside which its artifacts lie; None: a server, which sees to both."""
        path = self.address.removeprefix(SQLITE).partition("?")[0]
        return Path(path).resolve() if self.address.startswith(SQLITE) else None

    @property
    def shown_by(self) -> str:
        """Where a person looks at the runs: a command, or a server."""
        if self.database is None:
            return self.address
        if self.database == Path(self.folder).resolve() / "mlflow.db":
            return make("ui", self.folder)
        return f"python -m mlflow ui --backend-store-uri {shlex.quote(self.address)}"

    def logger(self, name: str, tags: Mapping[str, str], run_id: str | None = None) -> "MetricsTogether":
        """Open a new run, or the one that a resumed fold run had.

        Args:
            name: Of the run.
            tags: People filter by them.
            run_id: Of the run to go on with.

        Raises:
            InputError: The tracking server does not answer as one.
        """
        from mlflow.exceptions import MlflowException

        from liverattn.mlflow_logger import MetricsTogether

        with self.usable():
            client, _ = self.store()
        if run_id is not None:
            try:
                client.update_run(run_id, status="RUNNING")  # it may have failed or been killed
            except MlflowException:  # tracked in another database before, or deleted there
                run_id = None
        return MetricsTogether(
            experiment_name=self.experiment,
            run_name=name,
            tracking_uri=self.address,
            tags=dict(tags),
            run_id=run_id,
            artifact_location=self._artifacts,
        )

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Say in one line that the server or database cannot be used, and what to do.

        Raises:
            InputError: It does not answer as one.
        """
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, ImportError, OSError) as error:  # ImportError: no driver of a database
            said = str(error).strip().partition("\n")[0].rstrip(".")
            raise InputError(
                f"MLflow at {self.address} cannot be used: {said}. Correct MLFLOW_TRACKING_URI (or tracking.uri), or "
                "go on without it: tracking=none."
            ) from error

    def store(self) -> tuple["MlflowClient", str]:
        """The server or database, and the id of the experiment in it; both are made if they are new.

        A server that does not answer is found out within seconds. Of several processes one makes them; one that is
        killed while it does leaves nothing that counts.

        Raises:
            InputError: The experiment was deleted.
        """
        from mlflow import MlflowClient

        for chatty in ("alembic", "mlflow", "pytorch_lightning"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # traces of errors that it raises, too
        database = self.database
        with _alone(database):
            if database is not None and not database.exists():
                with replacing(database) as temporary:
                    MlflowClient(f"sqlite:///{temporary}").search_experiments()
            client = MlflowClient(self.address)
            with prompt_requests():
                known = client.get_experiment_by_name(self.experiment)
            if known is not None and known.lifecycle_stage == "deleted":
                restore = f"python -m mlflow experiments restore --experiment-id {known.experiment_id}"
                raise InputError(
                    f"The experiment {self.experiment!r} of MLflow at {self.address} was deleted. Restore it "
                    f"(MLFLOW_TRACKING_URI={shlex.quote(self.address)} {restore}), or take another: "
                    "tracking.experiment=NAME."
                )
            if known is not None:
                return client, known.experiment_id
            return client, client.create_experiment(self.experiment, artifact_location=self._artifacts)

    @property
    def _artifacts(self) -> str | None:
        # Without a location, artifacts of a database land in ./mlruns of whatever folder is current.
        return None if self.database is None else self.database.with_name("mlartifacts").as_uri()

    def upload(self, logger: "MetricsTogether", files: Mapping[Path, str | None], metrics: Mapping[str, float]) -> None:
        """Upload what the logger could not send, files (each with its folder among the artifacts) and final metrics."""
        self.store()  # is it there? An upload is patient
        logger.complete("success")
        run_id = logger.run_id
        assert run_id is not None
        for path, folder in files.items():
            logger.experiment.log_artifact(run_id, str(path), folder)
        for name, value in metrics.items():
            if value == value:
                logger.experiment.log_metric(run_id, name, value)

    def check(self) -> None:
        """Find out now whether anything can be tracked, before what takes long is done.

        Raises:
            InputError: The tracking server does not answer as one, or the experiment was deleted.
        """
        with self.usable():
            self.store()

    def publish(
        self,
        name: str,
        tags: Mapping[str, str],
        files: Iterable[Path],
        metrics: Mapping[str, float],
        note: Path,
    ) -> None:
        """Write finished results as a run of their own, without Lightning, in the place of those of earlier calls.

        Args:
            name: Of the run.
            tags: People filter by them.
            files: To upload.
            metrics: NaN ones are left out.
            note: Keeps the run's id, from its beginning on. Runs that it names now, also of a call that was killed, are
                deleted (MLflow can restore them) once the new one is whole.

        Raises:
            InputError: The tracking server does not answer as one.
        """
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        earlier = noted_runs(note)
        with self.usable():
            client, experiment = self.store()
            run_id: str = client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id
            write_json(note, {"run_id": run_id, "replaces": earlier})
            for path in files:
                client.log_artifact(run_id, str(path))
            now = int(1000 * time.time())
            defined = [Metric(name, value, now, 0) for name, value in metrics.items() if value == value]
            client.log_batch(run_id, metrics=defined)
            client.set_terminated(run_id)
        for one in earlier:
            with suppress(MlflowException):  # of another database, or deleted already
                client.delete_run(one)
        write_json(note, {"run_id": run_id})

    def shared_predictions(self, table: pd.DataFrame) -> pd.DataFrame:
        """The prediction table as it may leave the run folder: names of images and patients replaced by hashes."""
        if self.identifiers:
            return table
        return table.assign(**{name: self._hashes(table[name]) for name in ("image_id", "patient_id")})

    def shared_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A run's configuration as it may leave the run folder: ``data.exclude`` names images, too."""
        data = config["data"]
        if self.identifiers or not data["exclude"]:
            return config
        return {**config, "data": {**data, "exclude": self._hashes(data["exclude"])}}

    def shared_command(self, command: str) -> str:
        """A command as it may leave this machine: without what ``data.exclude`` holds."""
        if self.identifiers:
            return command
        words = [(word, *word.partition("=")) for word in shlex.split(command)]
        return shlex.join(f"{option}=..." if "exclude" in word else word for word, option, *_ in words)

    def _hashes(self, names: Iterable[Any]) -> list[str]:
        return pseudonyms(secret_key(Path(self.folder) / "tracking.key"), names)


def _alone(database: Path | None) -> AbstractContextManager[None]:
    if database is None:  # a server sees to that itself
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return locked(database.with_name("mlflow.lock"), patience=math.inf)


def noted_runs(note: Path) -> list[str]:
    """MLflow runs of earlier calls; none where the note is absent or damaged: they stay where they are."""
    try:
        found = read_json(note)
        return [str(found["run_id"]), *map(str, found.get("replaces", []))]
    except (OSError, ValueError, TypeError, KeyError):
        return []


@dataclass(frozen=True, kw_only=True)
class NoTracking:
    """``tracking=none``: the run folder holds everything all the same.

    Attributes:
        experiment: Taken and ignored, so that a debug switch that names one composes.
    """

    experiment: str = "none"
    shown_by: ClassVar[str] = "not tracked"

    def logger(self, name: str, tags: Mapping[str, str], run_id: str | None = None) -> None:
        """No logger."""

    def upload(self, logger: None, files: Mapping[Path, str | None], metrics: Mapping[str, float]) -> None:
        """Nothing is uploaded."""

    def check(self) -> None:
        """Nothing can be missing."""

    def publish(
        self,
        name: str,
        tags: Mapping[str, str],
        files: Iterable[Path],
        metrics: Mapping[str, float],
        note: Path,
    ) -> None:
        """Nothing is published."""

    def shared_predictions(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as it is; it goes nowhere."""
        return table

    def shared_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The configuration as it is; it goes nowhere."""
        return config


Tracking = MlflowTracking | NoTracking
