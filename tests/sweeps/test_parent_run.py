"""The MLflow run of a sweep and its children."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig

from liverattn import train
from liverattn.configuration import build, plain
from liverattn.errors import InputError
from liverattn.provenance import run_tags
from liverattn.runs import RunFolder
from liverattn.sweeps.matrix import summary
from liverattn.sweeps.parent_run import open_parent
from liverattn.sweeps.record import Sweep
from liverattn.tracking import MlflowTracking, NoTracking
from tests.conftest import Result
from tests.sweeps import builders
from tests.sweeps.conftest import Cells

Command = Callable[..., Result]


def tracked(cfg: DictConfig, run: RunFolder) -> None:
    """What a fold run does with MLflow when it begins."""
    logger = build(cfg.tracking).logger(run.path.name, run_tags(plain(cfg), {}), run.record().get("mlflow_run_id"))
    run.update_record(mlflow_run_id=logger.run_id)
    if cfg.protocol.fold == 1:
        raise MemoryError("no memory")
    logger.finalize("success")


def runs(outputs: Path) -> tuple[dict[str, Any], Any, list[Any]]:
    """Children by fold, the parent, and all others of a local database."""
    client = MlflowClient(f"sqlite:///{outputs}/mlflow.db")
    experiment = client.get_experiment_by_name("liverattn")
    found = list(client.search_runs([experiment.experiment_id]))
    (parent,) = [run for run in found if "sweep_key" in run.data.tags]
    children = {run.data.tags["fold"]: run for run in found if "fold" in run.data.tags}
    others = [run for run in found if run is not parent and run not in children.values()]
    return children, parent, others


def test_parent_and_children_of_a_sweep(
    command: Command, tiny: list[str], cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "show", lambda *_: None)
    outputs = tmp_path / "outputs"
    cells.actions = dict.fromkeys(range(3), tracked)
    arguments = ("-m", *tiny, "protocol.fold=0,1,2", "model.attention.lambdas=[0.25,1]")
    # One cell ran by itself before.
    assert command(train.main, *tiny, "protocol.fold=2", "model.attention.lambdas=[0.25,1]").status == 0
    assert cells.begun == [2]

    assert command(train.main, *arguments).status == 1
    children, parent, others = runs(outputs)
    assert not others and children.keys() == {"0", "1", "2"}
    assert parent.info.status == "FAILED" and parent.info.run_name == "sweep run"
    assert {fold: run.info.status for fold, run in children.items()} == {
        "0": "FINISHED",
        "1": "FAILED",
        "2": "FINISHED",
    }
    for child in children.values():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["sweep"] == parent.data.tags["sweep"]
        wanted = {
            "architecture": "resnet18",
            "lambda": "0.25,1",
            "resolution": "64x92",
            "repeat": "0",
            "data": "phantom",
        }
        assert wanted.items() <= child.data.tags.items() and child.data.tags["protocol"] == "paper"
    numbers = parent.data.metrics
    assert (numbers["cells/finished"], numbers["cells/failed"], numbers["cells/missing"]) == (2, 1, 0)
    assert numbers["run/score"] == pytest.approx((0.5 + 0.7) / 2) and numbers["run/lesion"] == pytest.approx(0.8)

    # The same command: the same parent, which is no longer failed; the child that goes on stays one.
    cells.actions[1] = lambda cfg, run: None
    assert command(train.main, *arguments).status == 0
    again, mended, others = runs(outputs)
    assert mended.info.run_id == parent.info.run_id and mended.info.status == "FINISHED" and not others
    assert {fold: run.info.run_id for fold, run in again.items()} == {
        fold: run.info.run_id for fold, run in children.items()
    }
    assert {run.info.status for run in again.values()} == {"FINISHED"}
    artifacts = outputs / "mlartifacts" / parent.info.run_id / "artifacts"
    assert (artifacts / "summary.csv").read_text().splitlines()[1].startswith("run,3,3,0.6")


def test_a_sweep_names_no_image_in_mlflow(command: Command, tiny: list[str], cells: Cells, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    varied = "data.exclude=[phantom-00003],[phantom-00004]"
    assert command(train.main, "-m", *tiny, "protocol.fold=0", varied).status == 0
    assert cells.begun == [0, 0]
    for path in [outputs / "mlflow.db", *(outputs / "mlartifacts").rglob("*.csv")]:
        assert b"phantom-0000" not in path.read_bytes(), path
    _, parent, _ = runs(outputs)
    assert "data.exclude=..." in parent.data.tags["command"]
    summary_file = outputs / "mlartifacts" / parent.info.run_id / "artifacts" / "summary.csv"
    assert summary_file.read_text().count("data.exclude=") == 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database: making it takes seconds."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        MlflowTracking(folder=str(folder)).store()
    return folder / "mlflow.db"


@pytest.fixture
def tracking(made: Path, tmp_path: Path) -> MlflowTracking:
    """In a database of its own."""
    shutil.copy(made, tmp_path)
    return MlflowTracking(folder=str(tmp_path))


def recorded(outputs: Path) -> Sweep:
    cells = [builders.cell(f"c{fold}", fold=fold) for fold in range(4)]
    return builders.sweep(outputs, *cells)


def check_states(tracking: MlflowTracking, sweep: Sweep) -> None:
    """Open, mend and reopen a parent whose children were killed."""
    parent = open_parent(tracking, sweep)
    assert parent is not None
    client, experiment = tracking.store()
    tags = json.loads(parent.environment["MLFLOW_RUN_CONTEXT"])
    lost, done, failed, broken = (client.create_run(experiment, tags=tags).info.run_id for _ in range(4))
    stranger = client.create_run(experiment).info.run_id
    builders.finish(sweep.run(sweep.cells[0]))
    builders.fail(sweep.run(sweep.cells[1]), "x")
    builders.epochs_done(sweep.run(sweep.cells[2]), 1)
    builders.finish(sweep.run(sweep.cells[3]))
    for cell, run_id in zip(sweep.cells, (done, failed, broken, "of another database"), strict=True):
        sweep.run(cell).update_record(mlflow_run_id=run_id)
    client.set_terminated(failed, "FINISHED")  # its training ended well, its evaluation did not
    progress = sweep.progress()
    parent.close("interrupted", progress, summary(sweep, progress))

    def status(run_id: str) -> str:
        return str(client.get_run(run_id).info.status)

    assert [status(run) for run in (done, failed, broken, lost)] == ["FINISHED", "FAILED", "KILLED", "KILLED"]
    assert status(stranger) == "RUNNING" and status(parent.run_id) == "KILLED"
    reopened = open_parent(tracking, sweep)
    assert reopened is not None and reopened.run_id == parent.run_id and status(parent.run_id) == "RUNNING"


def test_children_that_were_killed_do_not_stay_open(tracking: MlflowTracking, tmp_path: Path) -> None:
    check_states(tracking, recorded(tmp_path))


def test_the_same_sweep_of_others_has_another_parent(tracking: MlflowTracking, tmp_path: Path) -> None:
    mine, yours = (open_parent(tracking, recorded(tmp_path / name)) for name in ("mine", "yours"))
    assert mine is not None and yours is not None
    assert mine.sweep.id == yours.sweep.id and mine.run_id != yours.run_id


def test_a_run_that_was_tracked_elsewhere_begins_anew(tracking: MlflowTracking) -> None:
    first = tracking.logger("a", {}).run_id
    tracking.store()[0].set_terminated(first, "KILLED")
    assert tracking.logger("a", {}, first).run_id == first
    assert tracking.store()[0].get_run(first).info.status == "RUNNING"
    assert tracking.logger("a", {}, "0" * 32).run_id not in (first, "0" * 32)


def test_without_tracking_there_is_no_parent(tmp_path: Path) -> None:
    assert open_parent(NoTracking(), recorded(tmp_path)) is None


def test_what_is_no_tracking_server_is_refused(tmp_path: Path) -> None:
    nonsense = MlflowTracking(folder=str(tmp_path), uri="carrier-pigeon://loft")
    with pytest.raises(InputError, match=r"carrier-pigeon://loft cannot be used.*tracking=none"):
        open_parent(nonsense, recorded(tmp_path))


def busy_writer(folder: str, number: int) -> str:
    """One of several processes that track at once, as fold runs do."""
    try:
        client, experiment = MlflowTracking(folder=folder).store()
        run = client.create_run(experiment, tags={"number": str(number)}).info.run_id
        for step in range(6):
            for name in ("train/loss", "val/loss", "val/auc_lesion", "lr"):
                client.log_metric(run, name, step, step=step)
        client.set_terminated(run)
    except Exception as error:
        return repr(error)
    return ""


@pytest.mark.slow
def test_eight_processes_make_and_fill_one_database_at_once(tmp_path: Path) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "sqlalchemy", "alembic", "tests.sweeps.test_parent_run"])
    with context.Pool(8) as pool:
        errors = pool.starmap(busy_writer, [(str(tmp_path), number) for number in range(8)], chunksize=1)
    assert errors == [""] * 8
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "liverattn"]
    found = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["number"] for run in found} == {str(number) for number in range(8)}
    assert all(len(client.get_metric_history(run.info.run_id, "lr")) == 6 for run in found)


def test_a_database_that_was_being_made_when_its_process_was_killed(tmp_path: Path) -> None:
    # What is left of it: the temporary file, and the lock that the system has released.
    (tmp_path / ".mlflow.db.0123456789ab.part").write_bytes(b"SQLite format 3\0")
    (tmp_path / "mlflow.lock").touch()
    client, experiment = MlflowTracking(folder=str(tmp_path)).store()
    assert client.get_experiment(experiment).artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert MlflowTracking(folder=str(tmp_path)).store()[1] == experiment


@pytest.fixture
def server(made: Path, tmp_path: Path) -> Iterator[str]:
    """A tracking server of its own on this machine."""
    shutil.copy(made, tmp_path / "server.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    # Its job runner would start eight more processes.
    switches = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | switches, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"{address}/health") as answer:
            if answer.status == 200:
                break
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        time.sleep(0.2)
    yield address
    os.killpg(process.pid, 15)
    process.wait()


@pytest.mark.slow
def test_a_tracking_server_works_as_the_database_does(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    tracking = MlflowTracking(folder=str(tmp_path / "outputs"), experiment="one that is new")
    check_states(tracking, recorded(tmp_path / "outputs"))
    assert not (tmp_path / "outputs" / "mlflow.db").exists()
