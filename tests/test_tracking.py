"""Where runs are tracked, and what may leave the run folder."""

import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from liverattn import train
from liverattn.errors import InputError
from liverattn.runs import find_runs
from liverattn.tracking import MlflowTracking, NoTracking, noted_runs
from tests.conftest import Result

TABLE = pd.DataFrame({"image_id": ["anna-1", "anna-2"], "patient_id": ["anna", "anna"], "logit_lesion": [0.5, 1.5]})


def test_the_database_lies_in_the_folder_unless_a_server_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = MlflowTracking(folder=str(tmp_path))
    assert tracking.address == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5999")
    assert tracking.address == "http://127.0.0.1:5999"
    assert tracking.database is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")  # as MLflow itself does
    assert tracking.database == tmp_path / "mlflow.db"
    assert MlflowTracking(folder=str(tmp_path), uri="sqlite:///x.db").address == "sqlite:///x.db"


@pytest.mark.parametrize("address", ["sqlite:///there/own.db", "sqlite:///{}/there/own.db?timeout=9"])
def test_artifacts_of_any_database_lie_beside_it(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    (tmp_path / "there").mkdir()
    shutil.copy(database, tmp_path / "there" / "own.db")
    (tmp_path / "note.txt").touch()
    monkeypatch.chdir(tmp_path)
    tracking = MlflowTracking(folder="outputs", uri=address.format(tmp_path))
    tracking.publish("a", {}, [tmp_path / "note.txt"], {}, tmp_path / "there" / "mlflow.json")
    assert list((tmp_path / "there" / "mlartifacts").rglob("artifacts/note.txt"))
    assert {path.name for path in tmp_path.iterdir()} == {"there", "note.txt"}


def test_patients_are_hashed_unless_switched_on(tmp_path: Path) -> None:
    shared = MlflowTracking(folder=str(tmp_path)).shared_predictions(TABLE)
    assert not shared.astype(str).apply(lambda column: column.str.contains("anna")).to_numpy().any()
    assert shared["patient_id"].nunique() == 1
    assert shared["image_id"].nunique() == 2
    # No plain hash, which could be found by trying all numbers of a hospital; the same in every run of these outputs.
    assert hashlib.sha256(TABLE["patient_id"][0].encode()).hexdigest()[:12] not in shared["patient_id"].tolist()
    again, elsewhere = (MlflowTracking(folder=str(tmp_path / name)).shared_predictions(TABLE) for name in (".", "b"))
    pd.testing.assert_frame_equal(again, shared)
    assert elsewhere["patient_id"][0] != shared["patient_id"][0]
    assert TABLE["image_id"].tolist() == ["anna-1", "anna-2"]
    pd.testing.assert_frame_equal(MlflowTracking(folder="x", identifiers=True).shared_predictions(TABLE), TABLE)


@pytest.mark.parametrize("value", ["no", "off", 0, None])
def test_what_only_looks_like_no_names_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"tracking\.identifiers to be true or false, but got (no|off|0|null)\."):
        MlflowTracking(folder=str(tmp_path), identifiers=value)


def test_what_is_left_out_is_not_named_either(tmp_path: Path) -> None:
    config = {"data": {"name": "manifest", "exclude": ["anna-1", 12]}, "seed": 0}
    command = "python -m liverattn.train -m '++data.exclude=[\"anna (1)\"]' protocol.fold=0,1"
    shared = MlflowTracking(folder=str(tmp_path)).shared_config(config)
    hashes = MlflowTracking(folder=str(tmp_path)).shared_predictions(TABLE)["image_id"]
    assert shared["data"]["exclude"][0] == hashes[0] and len(shared["data"]["exclude"]) == 2
    assert shared["seed"] == 0 and config["data"] == {"name": "manifest", "exclude": ["anna-1", 12]}
    said = MlflowTracking(folder=str(tmp_path)).shared_command(command)
    assert said == "python -m liverattn.train -m ++data.exclude=... protocol.fold=0,1"
    named = MlflowTracking(folder=str(tmp_path), identifiers=True)
    assert named.shared_config(config) == config and named.shared_command(command) == command


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


@pytest.fixture
def nobody() -> str:
    """Address of a server that does not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def gone(*_: Any, **__: Any) -> None:
    """What MLflow does once its server is lost."""
    raise MlflowException("no answer\nsecond line")


def test_a_server_that_does_not_answer_is_found_out_at_once(tmp_path: Path, nobody: str) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=f"MLflow at {nobody} cannot be used: .*MLFLOW_TRACKING_URI.*tracking=none"):
        MlflowTracking(folder=str(tmp_path), uri=nobody).logger("run", {})
    assert time.monotonic() - started < 30  # MLflow itself takes four minutes
    assert not any(name.startswith("MLFLOW_HTTP_REQUEST") for name in os.environ)


def test_nothing_is_trained_for_a_server_that_is_not_there(
    command: Callable[..., Result], tiny: list[str], nobody: str, tmp_path: Path
) -> None:
    for address in (nobody, "foo://bar"):
        result = command(train.main, *tiny, f"tracking.uri={address}")
        (said,) = [line for line in result.err.splitlines() if "MLflow at" in line]
        assert result.status == 1 and "Traceback" not in result.err and "epoch" not in result.out
        assert said.startswith(f"Error: MLflow at {address} cannot be used") and said.endswith("tracking=none.")


def test_a_deleted_experiment_is_named_and_can_be_restored(tmp_path: Path, database: Path) -> None:
    tracking = MlflowTracking(folder=str(tmp_path / "a b"), experiment="Läsionen 2")
    (tmp_path / "a b").mkdir()
    shutil.copy(database, tmp_path / "a b")
    client, experiment = tracking.store()
    client.delete_experiment(experiment)
    for use in (tracking.store, lambda: tracking.logger("a", {}), tracking.check):
        with pytest.raises(InputError, match=r"^The experiment 'Läsionen 2' of MLflow at .* was deleted\.") as caught:
            use()
    words = str(caught.value).partition("(")[2].partition(")")[0]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(words, shell=True, check=True, capture_output=True, env={**os.environ, "PATH": path})
    assert tracking.store()[1] == experiment


@pytest.mark.parametrize("last", ["log_batch", "set_terminated", "delete_run"])
def test_a_call_that_is_killed_while_it_publishes_leaves_no_second_run(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    shutil.copy(database, tmp_path)
    tracking, note = MlflowTracking(folder=str(tmp_path)), tmp_path / "mlflow.json"
    tracking.publish("a", {}, [], {}, note)
    real = getattr(MlflowClient, last)

    def killed_after(*arguments: Any, **more: Any) -> Any:
        real(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, last, killed_after)
        tracking.publish("a", {}, [], {}, note)
    tracking.publish("a", {}, [], {}, note)
    client, experiment = tracking.store()
    (left,) = client.search_runs([experiment])
    assert left.info.status == "FINISHED" and noted_runs(note) == [left.info.run_id]


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}", '{"run_id": "a", "replaces": 1}'])
def test_a_damaged_note_of_the_tracked_run_stops_nothing(tmp_path: Path, content: str) -> None:
    note = tmp_path / "mlflow.json"
    assert noted_runs(note) == []
    note.write_text(content)
    assert noted_runs(note) == []
    note.write_text('{"run_id": "f00d"}')
    assert noted_runs(note) == ["f00d"]


@pytest.mark.parametrize("call", ["log_batch", "log_artifact", "set_terminated"])
def test_a_server_that_is_lost_costs_no_result(
    command: Callable[..., Result], tiny: list[str], tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.log_batch

    def parameters_only(self: MlflowClient, run_id: str, metrics: Any = (), **more: Any) -> Any:
        return gone() if metrics else real(self, run_id, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, call, parameters_only if call == "log_batch" else gone)
    result = command(train.main, *tiny, "trainer.max_epochs=1")
    assert result.status == 0, result.err
    (said,) = [line for line in result.out.splitlines() if "Not tracked" in line]
    (run,) = find_runs(tmp_path / "outputs")
    assert said.endswith("no answer") and "to track it later, remove its metrics.json" in said and str(run.path) in said
    assert run.is_finished and not list(run.path.glob(".upload*"))


def test_a_server_that_is_lost_in_a_sweep_stops_no_later_run(
    command: Callable[..., Result], tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowTracking.logger

    def lost_for_the_second(self: MlflowTracking, name: str, tags: Any, run_id: str | None = None) -> Any:
        return gone() if "-f1-" in name else real(self, name, tags, run_id)

    sweep = ["-m", *tiny, "trainer.max_epochs=1", "protocol.fold=0,1"]
    with monkeypatch.context() as lost:
        lost.setattr(MlflowTracking, "logger", lost_for_the_second)
        result = command(train.main, *sweep)
    runs = find_runs(tmp_path / "outputs")
    assert result.status == 0 and [run.is_finished for run in runs] == [True, True], result.err
    (said,) = [line for line in result.out.splitlines() if "Not tracked" in line]
    assert str(runs[1].path) in said and "remove its metrics.json" in said
    assert "mlflow_run_id" not in runs[1].record()

    runs[1].metrics.unlink()
    again = command(train.main, *sweep)
    assert again.status == 0 and "/1  loss" not in again.out, again.out  # as was promised, nothing is trained
    found = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db").get_run(runs[1].record()["mlflow_run_id"])
    assert found.info.status == "FINISHED" and "final/score" in found.data.metrics and "sweep" in found.data.tags


def test_metrics_wait_for_a_server_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liverattn.mlflow_logger.INTERVAL", 0.0)
    logger = MlflowTracking(folder=str(tmp_path)).logger("run", {})
    assert logger.run_id is not None
    with monkeypatch.context() as lost:
        lost.setattr(MlflowClient, "log_batch", gone)
        for step in range(1100):  # MLflow takes 1000 at once
            logger.log_metrics({"loss": 1.0}, step)
    logger.finalize("success")
    assert len(logger.experiment.get_metric_history(logger.run_id, "loss")) == 1100


def test_a_database_that_cannot_be_written_prints_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = MlflowTracking(folder=str(tmp_path)).logger("run", {})
    assert logger.run_id is not None
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("DROP TABLE metrics")  # raises what a full disk does
    logger.log_metrics({"loss": 1.0}, 0)
    with pytest.raises(MlflowException, match="no such table"):
        logger.complete("success")
    assert capfd.readouterr() == ("", "")


def test_what_shows_the_runs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert MlflowTracking(folder=str(tmp_path)).shown_by == f"make ui OUTPUTS={tmp_path}"
    other = MlflowTracking(folder=str(tmp_path), uri=f"sqlite:///{tmp_path}/a b.db")
    assert other.shown_by == f"python -m mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/a b.db'"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert MlflowTracking(folder=str(tmp_path)).shown_by == "http://127.0.0.1:1"
    assert NoTracking().shown_by == "not tracked"
