"""``python -m liverattn.ensemble`` on synthetic run folders, as a user runs it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from liverattn import ensemble
from liverattn.comparison import bundling
from liverattn.configuration import build, config_folder
from liverattn.errors import InputError
from liverattn.tracking import MlflowTracking
from tests.conftest import Result
from tests.finished_runs import TWO_TASKS, Cohort, write_architecture, write_run

Command = Callable[..., Result]
TWO = Cohort(counts=(6, 0, 3, 0, 3, 0), tasks=TWO_TASKS, folds=2)
SEVEN = Cohort(repeats=2)


def write_three(outputs: Path, cohort: Cohort, names: str = "abc") -> None:
    for name, noise in zip(names, (0.2, 0.6, 1.2), strict=False):
        write_architecture(outputs, name, cohort, [0], noise=noise, backbone__name=name)


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Callable[..., Result]:
    """The command on the run folders below ``tmp_path``, without tracking."""
    return lambda *more: command(ensemble.main, f"paths.outputs={tmp_path}", "tracking=none", *more)


def folder(outputs: Path, name: str = "ensemble") -> Path:
    return outputs / "ensembles" / name


def names(outputs: Path) -> set[str]:
    return {path.name for path in folder(outputs).iterdir()}


TABLES = (
    "table2", "intervals", "compare", "protocols", "pooled", "attention", "detection", "calibration",
    "operating_points", "subgroups",
)  # fmt: skip
FILES = {f"{name}.{suffix}" for name in TABLES for suffix in ("md", "csv", "tex")} | {
    "figure5.png", "calibration.png", "decision.png", "evidence.html", "claim.md", "predictions.parquet",
    "metrics.json",
}  # fmt: skip
TABLE_3 = {"table3.md", "table3.csv", "table3.tex"}


def test_seven_outputs_leave_everything_that_is_promised(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, SEVEN, "abc")
    write_architecture(tmp_path, "resnet_240", SEVEN, [0], noise=30)
    write_run(tmp_path, "begun", SEVEN, 0, 2, optim__trunk_rate=1)
    result = run()
    assert result.status == 0, result.err
    assert names(tmp_path) == FILES | TABLE_3
    for words in (
        "Table 2: AUC, mean (deviation) over 3 fold runs, protocol paper",
        "resnet_240 (paper)",
        "Table 3: AUC by type",
        "Protocols side by side",
        "Pooled out-of-fold AUC",
        "- begun is left out: missing 0/0, 0/1 (repeat/fold)",
        "- 1 of 2 repeats: 0.",
        "- The members are the best 3 of 4 by these very folds.",
        f"Folder:  {folder(tmp_path)}",
        "figure5.png",
        "Runs:    not tracked",
    ):
        assert words in result.out
    assert "…" not in result.out  # nothing is cut where the output is not a terminal
    record = json.loads((folder(tmp_path) / "metrics.json").read_text())
    assert record["members"] == ["a", "b", "c"] and record["cells"] == [[0, 0], [0, 1], [0, 2]]
    assert set(record["results"]) == {"a", "b", "c", "resnet_240", "ensemble"}
    assert not list(folder(tmp_path).glob(".*"))

    table = pd.read_csv(folder(tmp_path) / "table2.csv")
    assert table["architecture"].tolist() == [
        "a",
        "b",
        "c",
        "resnet_240",
        "resnet_240 (paper)",
        "ensemble",
        "ensemble (paper)",
    ]
    printed = next(line for line in result.out.splitlines() if line.startswith("│ ensemble "))
    assert f"{table['lesion_mean'][5]:.3f} ({table['lesion_deviation'][5]:.3f})" in printed
    assert table["score_mean"][5] == record["results"]["ensemble"]["protocols"]["paper"]["over_folds"]["score"]["mean"]
    predictions = pd.read_parquet(folder(tmp_path) / "predictions.parquet")
    assert len(predictions) == 30 and "c/probability_hcc" in predictions


def test_two_outputs_have_no_types_and_the_same_files_are_rebuilt(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, TWO)
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "table3.md").write_text("of other data, under the same name")
    first = run()
    assert first.status == 0, first.err
    assert names(tmp_path) == FILES
    assert "Table 3" not in first.out and "paper)" not in first.out and "0.625 lesion + 0.375 malignancy" in first.out
    before = {path.name: path.read_bytes() for path in folder(tmp_path).iterdir()}
    again = run()
    assert again.status == 0 and again.out == first.out
    assert {path.name: path.read_bytes() for path in folder(tmp_path).iterdir()} == before


def test_members_weights_protocol_and_name(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, TWO)
    write_architecture(tmp_path, "a", TWO, [0], backbone__name="a", model__attention__lambdas=[0.25, 1.0])
    members = "members=[c,'a lambdas=0.25,1']"
    result = run(members, "weights=[1,3]", "protocol=last", "name=mine")
    assert result.status == 0, result.err
    assert "probabilities of c (0.25), a lambdas=0.25,1 (0.75)" in result.out
    assert "protocol last" in result.out and "also selected the copies" not in result.out
    table = pd.read_parquet(folder(tmp_path, "mine") / "predictions.parquet")
    expected = 0.25 * table["c/probability_lesion"] + 0.75 * table["a lambdas=0.25,1/probability_lesion"]
    np.testing.assert_allclose(table["probability_lesion"], expected, rtol=1e-12)


def test_fewer_than_the_best_three(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, TWO, "a")
    result = run()
    assert result.status == 0, result.err
    assert "Fewer architectures than best=3 are complete: the ensemble is made of 1." in result.out
    table = pd.read_csv(folder(tmp_path) / "table2.csv")
    assert table["architecture"].tolist() == ["a", "ensemble"]
    assert table["score_mean"][0] == table["score_mean"][1]


def refused(result: Result, *said: str) -> None:
    assert result.status == 1 and "Traceback" not in result.err
    for words in said:
        assert words in result.err, result.err


def test_what_a_user_can_get_wrong(run: Callable[..., Result], tmp_path: Path) -> None:
    refused(run(), "no finished run", "python -m liverattn.train")
    write_three(tmp_path, TWO)
    unknown = run("protocol=outer")
    assert unknown.status == 1 and all(word in unknown.err for word in ("outer", "paper", "inner", "last"))
    refused(run("protocol.name=outer"), "protocol", "paper, inner or last", "outer")
    refused(run("protocol=inner"), "a: missing 0/0, 0/1", "protocol=inner")
    refused(run("members=[a,x]"), "'x'", '"a", "b", "c"')
    refused(run("bundle=al"), "Expected bundle to be one, all or null, but got al")
    refused(run("weights=[1,2]"), "3 members (a, b, c)", "2")
    refused(run("data=aul"), "data=aul", "phantom")
    write_architecture(tmp_path, "d", Cohort(counts=TWO.counts, tasks=TWO_TASKS, folds=2, name="aul"), [0])
    refused(run(), "several data", "aul, assignment", "phantom, assignment", "data=NAME")
    assert not any(path.is_file() for path in folder(tmp_path).iterdir())  # nothing half done
    refused(run("data=manifest", "data.name=clinic"), "data=clinic", "aul", "phantom")
    assert run("data=phantom", f"assignment='{TWO.assignment[:9]}'").status == 0


def test_a_bundle_of_an_earlier_call_is_named(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, TWO)
    earlier = folder(tmp_path) / "bundle"
    assert "Caution" not in run("bundle=null").out
    (earlier / "networks").mkdir(parents=True)  # of a call that was killed
    assert "Caution" not in run("bundle=null").out
    (earlier / "SHA256SUMS").touch()
    for choice in ("null", "one"):  # these runs have no checkpoints
        result = run(f"bundle={choice}")
        assert result.status == 0 and f"Caution: {earlier} of an earlier call: not what these tables" in result.out
    assert earlier.exists()


def test_a_bundle_that_cannot_be_written_fails_the_command_and_costs_no_table(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InputError("Cannot write it: no space left on the disk.")

    write_three(tmp_path, TWO)
    with monkeypatch.context() as patched:
        patched.setattr(bundling, "bundle", full)
        result = run()
    refused(result, "Error: Cannot write it: no space left on the disk.")
    assert "Table 2" in result.out and f"Folder:  {folder(tmp_path)}" in result.out and names(tmp_path) == FILES
    assert run().status == 0  # without checkpoints there is none to write


def test_a_bundle_whose_zip_was_not_written_is_not_of_an_earlier_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "bundle" / "SHA256SUMS", tmp_path / "bundle.zip"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    earlier = ensemble.bundles_of(tmp_path)
    os.utime(tmp_path / "bundle" / "SHA256SUMS", ns=(0, 0))  # written by this call, when the disk became full
    ensemble.print_earlier(earlier, tmp_path)
    assert capsys.readouterr().out.startswith(f"Caution: {tmp_path / 'bundle.zip'} of an earlier call")


def test_leaks_and_damage_are_refused_by_name(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, TWO)
    leaking = next(path.parent for path in (tmp_path / "runs" / "b").glob("*/split.json"))
    split = json.loads((leaking / "split.json").read_text())
    (leaking / "split.json").write_text(json.dumps({**split, "train": [*split["train"], split["held_out"][0]]}))
    refused(run(), "b, repeat 0, fold 0", str(leaking), "was trained on the patient of", split["held_out"][0])
    (leaking / "predictions.parquet").write_bytes(b"")
    other = next((tmp_path / "runs" / "a").glob("*/predictions.parquet"))
    other.write_bytes(b"")
    refused(run(), f"{leaking / 'predictions.parquet'} cannot be read", f"{other} cannot be read")
    assert not any(path.is_file() for path in folder(tmp_path).iterdir())


def test_a_damaged_table_of_epochs_leaves_nothing_half_done(run: Callable[..., Result], tmp_path: Path) -> None:
    write_three(tmp_path, TWO, "a")
    damaged = next(tmp_path.rglob("run.json")).with_name("epochs.csv")
    damaged.write_text("epoch,ca")
    refused(run(), f"{damaged} lacks the column(s) cases, score")
    assert not any(path.is_file() for path in folder(tmp_path).iterdir())


def test_mlflow_gets_one_run_without_patients(command: Command, tmp_path: Path) -> None:
    write_three(tmp_path, TWO, "ab")
    for _ in range(2):
        result = command(ensemble.main, f"paths.outputs={tmp_path}", "best=2")
        assert result.status == 0, result.err
    run_id = json.loads((folder(tmp_path) / "mlflow.json").read_text())["run_id"]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        runs = dict(database.execute("SELECT run_uuid, lifecycle_stage FROM runs"))
        select = "SELECT key, value FROM {} WHERE run_uuid = ?"
        tags = dict(database.execute(select.format("tags"), (run_id,)))
        metrics = dict(database.execute(select.format("metrics"), (run_id,)))
        (status,) = database.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    database.close()
    assert sorted(runs.values()) == ["active", "deleted"] and runs[run_id] == "active" and status == "FINISHED"
    expected = {
        "verb": "ensemble",
        "data": "phantom",
        "protocol": "paper",
        "members": "a; b",
        "mlflow.runName": "ensemble",
    }
    assert expected.items() <= tags.items()
    assert tags["assignment_hash"] == TWO.assignment and tags["git_commit"]
    record = json.loads((folder(tmp_path) / "metrics.json").read_text())
    assert metrics["final/score"] == record["results"]["ensemble"]["protocols"]["paper"]["over_folds"]["score"]["mean"]
    assert {"final/auc_lesion", "final/auc_lesion_deviation", "architectures/a/score"} <= set(metrics)
    artifacts = next((tmp_path / "mlartifacts").rglob(f"{run_id}/artifacts"))
    assert {path.name for path in artifacts.iterdir()} == FILES
    shared = pd.read_parquet(artifacts / "predictions.parquet")
    assert len(shared) == 12 and not shared["image_id"].str.startswith("phantom").any()
    texts = [path.read_text() for path in artifacts.iterdir() if path.suffix in (".md", ".csv", ".tex", ".json")]
    assert not any("phantom-0" in text for text in texts)


@pytest.mark.parametrize("is_there_first", [False, True])
def test_a_server_that_does_not_answer_is_told_first_and_one_that_is_lost_costs_no_table(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there_first: bool
) -> None:
    def no_server(*_: object, **__: object) -> None:
        raise MlflowException("no answer")

    monkeypatch.setattr(*(MlflowClient, "create_run") if is_there_first else (MlflowTracking, "store"), no_server)
    write_three(tmp_path, TWO, "a")
    result = command(ensemble.main, f"paths.outputs={tmp_path}")
    refused(result, "mlflow.db cannot be used: no answer", "tracking=none")
    assert ("Table 2" in result.out) == is_there_first and names(tmp_path) == (FILES if is_there_first else set())


def test_no_model_is_needed() -> None:
    code = (
        "import sys; import liverattn.ensemble, liverattn.comparison.scored, liverattn.comparison.curves, "
        "liverattn.comparison.tables, liverattn.tracking; "
        "print(sorted({'torch', 'pytorch_lightning', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_shipped_configuration_composes() -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("ensemble", ["paths.outputs=there"])
    assert (cfg.best, cfg.members, cfg.weights, cfg.assignment, cfg.protocol.name) == (3, None, None, None, "paper")
    assert cfg.runs == "there/runs"
    assert build(cfg.tracking).folder == "there"
