"""MLflow for all verbs: SQLite beside the runs by default, a server by ``MLFLOW_TRACKING_URI``.

MLflow's telemetry is off. Patients are not named in it unless ``tracking.identifiers`` is on.
"""

import hashlib
import logging
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from pytorch_lightning.loggers import MLFlowLogger

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")

PACKAGES = (
    "liverattn", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "mlflow", "albumentations",
    "opencv-python-headless", "timm", "scikit-learn", "numpy", "pandas", "pillow",
)  # fmt: skip
LONGEST_PARAMETER = 500


@dataclass(frozen=True, kw_only=True)
class MlflowTracking:
    """Where runs are tracked.

    Attributes:
        folder: Of the database ``mlflow.db`` and the artifacts, unless a server is given.
        experiment: Name of the MLflow experiment.
        uri: Tracking server or database; None: the variable ``MLFLOW_TRACKING_URI``, else SQLite in ``folder``.
        identifiers: Name images and patients in what is uploaded; else they are replaced by hashes.
    """

    folder: str
    experiment: str = "liverattn"
    uri: str | None = None
    identifiers: bool = False

    @property
    def is_local(self) -> bool:
        """The database lies in ``folder``."""
        return self.uri is None and not os.environ.get("MLFLOW_TRACKING_URI")

    @property
    def address(self) -> str:
        """Tracking URI in force."""
        local = f"sqlite:///{Path(self.folder).resolve() / 'mlflow.db'}"
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI") or local

    def logger(self, name: str, tags: Mapping[str, str], run_id: str | None = None) -> "MLFlowLogger":
        """Open a new run, or the one that a resumed fold run had.

        Args:
            name: Of the run.
            tags: People filter by them.
            run_id: Of the run to go on with.
        """
        import mlflow  # noqa: F401  (sets its own log levels when it is imported)
        from pytorch_lightning.loggers import MLFlowLogger

        for chatty in ("alembic", "mlflow", "mlflow.store.db.utils", "pytorch_lightning"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)  # warns of every new experiment
        if self.is_local:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        return MLFlowLogger(
            experiment_name=self.experiment,
            run_name=name,
            tracking_uri=self.address,
            tags=dict(tags),
            run_id=run_id,
            # Without a location, artifacts of a local database land in ./mlruns of whatever folder is current.
            artifact_location=(Path(self.folder).resolve() / "mlartifacts").as_uri() if self.is_local else None,
        )

    def upload(self, logger: "MLFlowLogger", files: Mapping[Path, str | None], metrics: Mapping[str, float]) -> None:
        """Upload files (each with its folder among the artifacts) and final metrics."""
        run_id = logger.run_id
        assert run_id is not None
        for path, folder in files.items():
            logger.experiment.log_artifact(run_id, str(path), folder)
        for name, value in metrics.items():
            if value == value:
                logger.experiment.log_metric(run_id, name, value)

    def shared_predictions(self, table: pd.DataFrame) -> pd.DataFrame:
        """The prediction table as it may leave the run folder: names of images and patients replaced by hashes."""
        if self.identifiers:
            return table
        hashed = {
            name: [hashlib.sha256(str(value).encode()).hexdigest()[:12] for value in table[name]]
            for name in ("image_id", "patient_id")
        }
        return table.assign(**hashed)


def flat_parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as ``a.b.c`` names with text values, short enough for MLflow."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flat_parameters(value, f"{name}."))
        else:
            flat[name] = str(value)[:LONGEST_PARAMETER]
    return flat


def run_tags(config: Mapping[str, Any], fingerprints: Mapping[str, str]) -> dict[str, str]:
    """What people filter fold runs by, and the hashes of what the numbers rest on.

    Args:
        config: The composed configuration of ``liverattn.train``, plain.
        fingerprints: Of data and fold assignment.
    """
    size, protocol, attention = config["data"]["preprocessing"], config["protocol"], config["model"]["attention"]
    return {
        "experiment": config["name"],
        "architecture": config["backbone"]["name"],
        "lambda": ",".join(f"{scale:g}" for scale in attention["lambdas"]),
        "alpha": f"{attention['alpha']:g}",
        "resolution": f"{size['height']}x{size['width']}",
        "data": config["data"]["name"],
        "protocol": protocol["name"],
        "repeat": str(protocol["repeat"]),
        "fold": str(protocol["fold"]),
        "seed": str(config["seed"]),
        "git_commit": versions()["git_commit"],
        **{f"{name}_hash": value for name, value in fingerprints.items()},
    }


def versions() -> dict[str, str]:
    """Versions of what results depend on, and the project's git commit where it runs from a checkout."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "git_commit": _git_commit()}


def _git_commit() -> str:
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return "unknown (not a git checkout)"
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (git failed)"


@dataclass(frozen=True, kw_only=True)
class NoTracking:
    """``tracking=none``: the run folder holds everything all the same.

    Attributes:
        experiment: Taken and ignored, so that a debug switch that names one composes.
    """

    experiment: str = "none"

    def logger(self, name: str, tags: Mapping[str, str], run_id: str | None = None) -> None:
        """No logger."""

    def upload(self, logger: None, files: Mapping[Path, str | None], metrics: Mapping[str, float]) -> None:
        """Nothing is uploaded."""

    def shared_predictions(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as it is; it goes nowhere."""
        return table


Tracking = MlflowTracking | NoTracking
