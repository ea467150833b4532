"""Where runs are tracked, and what may leave the run folder."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from liverattn.tracking import MlflowTracking, flat_parameters, versions

TABLE = pd.DataFrame({"image_id": ["anna-1", "anna-2"], "patient_id": ["anna", "anna"], "logit_lesion": [0.5, 1.5]})


def test_the_database_lies_in_the_folder_unless_a_server_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = MlflowTracking(folder=str(tmp_path))
    assert tracking.address == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5999")
    assert tracking.address == "http://127.0.0.1:5999"
    assert not tracking.is_local
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")  # as MLflow itself does
    assert tracking.is_local
    assert MlflowTracking(folder=str(tmp_path), uri="sqlite:///x.db").address == "sqlite:///x.db"


def test_patients_are_hashed_unless_switched_on(tmp_path: Path) -> None:
    shared = MlflowTracking(folder=str(tmp_path)).shared_predictions(TABLE)
    assert not shared.astype(str).apply(lambda column: column.str.contains("anna")).to_numpy().any()
    assert shared["patient_id"].nunique() == 1
    assert shared["image_id"].nunique() == 2
    assert TABLE["image_id"].tolist() == ["anna-1", "anna-2"]
    pd.testing.assert_frame_equal(MlflowTracking(folder="x", identifiers=True).shared_predictions(TABLE), TABLE)


def test_what_is_left_out_is_not_named_either() -> None:
    config = {"data": {"name": "manifest", "exclude": ["anna-1", 12]}, "seed": 0}
    command = "python -m liverattn.train -m '++data.exclude=[\"anna (1)\"]' protocol.fold=0,1"
    shared = MlflowTracking(folder="x").shared_config(config)
    hashes = MlflowTracking(folder="x").shared_predictions(TABLE)["image_id"]
    assert shared["data"]["exclude"][0] == hashes[0] and len(shared["data"]["exclude"]) == 2
    assert shared["seed"] == 0 and config["data"] == {"name": "manifest", "exclude": ["anna-1", 12]}
    said = MlflowTracking(folder="x").shared_command(command)
    assert said == "python -m liverattn.train -m ++data.exclude=... protocol.fold=0,1"
    named = MlflowTracking(folder="x", identifiers=True)
    assert named.shared_config(config) == config and named.shared_command(command) == command


def test_parameters_are_flat_and_short() -> None:
    flat = flat_parameters({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None, "f": "x" * 9000, "g": {}})
    assert flat == {"a.b": "1", "a.c.d": "[1, 2]", "e": "None", "f": "x" * 500, "g": "{}"}


def test_versions_name_what_results_depend_on() -> None:
    found = versions()
    assert found["torch"][0].isdigit()
    assert len(found["git_commit"]) > 6


def test_metrics_are_sent_together_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("liverattn.mlflow_logger.time.time", lambda: now)
    logger = MlflowTracking(folder=str(tmp_path)).logger("run", {})
    sent: list[int] = []
    log_batch = type(logger.experiment).log_batch

    def counted(client: Any, run_id: str, metrics: list[Any]) -> None:
        sent.append(len(metrics))
        log_batch(client, run_id=run_id, metrics=metrics)

    monkeypatch.setattr(type(logger.experiment), "log_batch", counted)
    for step, seconds in enumerate([0, 1, 2, 6, 7]):
        now = 1000.0 + seconds
        logger.log_metrics({"loss": 1 / (step + 1), "score": step}, step)
    logger.finalize("success")
    assert sent == [2, 6, 2]  # at once, after five seconds, at the end
    history = logger.experiment.get_metric_history(logger.run_id, "loss")
    assert [(entry.step, entry.value) for entry in history] == [(step, 1 / (step + 1)) for step in range(5)]
    assert logger.experiment.get_run(logger.run_id).info.status == "FINISHED"
