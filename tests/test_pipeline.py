"""The real commands on tiny data, as a user runs them."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from liverattn import prepare, train
from liverattn.runs import RunFolder, find_runs
from liverattn.tracking import MlflowTracking
from liverattn.training.copies import read_copy
from liverattn.training.outputs import read_outputs
from tests.conftest import Result, shell

Command = Callable[..., Result]


def only_run(outputs: Path) -> RunFolder:
    (run,) = find_runs(outputs / "runs")
    return run


def numbers(run: RunFolder, protocol: str = "paper") -> dict[str, Any]:
    return run.read_metrics()["protocols"][protocol]


def test_one_fold_run_leaves_everything_that_the_contract_names(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    result = command(train.main, *tiny)
    assert result.status == 0, result.err
    run = only_run(tmp_path / "outputs")
    metrics, everything = numbers(run), run.read_predictions()
    assert set(everything["protocol"]) == {"paper", "last"}
    table = everything[everything["protocol"] == "paper"]

    split = json.loads(run.split.read_text())
    assert len(split["train"]) == 16 and len(split["held_out"]) == 8
    assert not set(split["train"]) & set(split["held_out"])
    for task in ("lesion", "malignancy", "type"):
        rows = table[table["task"] == task]
        assert sorted(rows["image_id"]) == sorted(split["held_out"])
        copy = read_copy(run.copy(task))
        assert copy.auc == metrics["auc"][task] and copy.epoch == metrics["copies"][task]["epoch"]
        assert f"{metrics['auc'][task]:.3f}" in result.out
    expected = 0.5 * metrics["auc"]["lesion"] + 0.3 * metrics["auc"]["malignancy"] + 0.2 * metrics["auc"]["type"]
    assert metrics["score"] == pytest.approx(expected, abs=1e-12)
    assert {"truth_cyst", "logit_cyst", "energy", "pointing", "peak"} <= set(table.columns)
    assert table.loc[table["truth_lesion"] == 1, "energy"].between(0, 1).all()
    assert table.loc[table["truth_lesion"] == 0, "energy"].isna().all()
    for name in ("config.yaml", "roc.png", "attention.png", "checkpoints/last.ckpt"):
        assert (run.path / name).stat().st_size > 0
    assert run.record()["state"] == "finished"
    assert not list(run.path.rglob("*.part"))
    assert run.read_selection() is None  # without an inner split

    cases = run.read_cases()
    assert cases is not None and sorted(cases.index) == sorted(split["held_out"])
    with_boxes = table[(table["task"] == "lesion") & table["chance"].notna()].set_index("image_id")
    without = cases.drop(with_boxes.index)
    measured = cases.loc[with_boxes.index, ["touched", "center_energy", "center_pointing"]]
    assert len(with_boxes) and measured.notna().to_numpy().all()
    assert (cases.loc[with_boxes.index, "center_chance"] == with_boxes["chance"]).all()
    assert without["touched"].isna().all() and without["center_energy"].isna().all() and cases["width"].gt(0).all()


def test_the_prediction_table_is_what_the_copied_weights_give(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    assert command(train.main, *tiny, "tracking=none").status == 0
    run = only_run(tmp_path / "outputs")
    copy, table = read_copy(run.copy("lesion")), run.read_predictions()
    outputs = read_outputs(run.epoch(copy.epoch))
    fold = _composed(run, tmp_path)
    fold.model.load_state_dict(copy.weights)
    fold.model.eval()
    for position, row in enumerate(outputs.rows[:3]):
        image = torch.from_numpy(fold.cases.image(int(row)).astype(np.float32) * fold.cases.factors[row])
        with torch.no_grad():
            logits, _ = fold.model(image[None, None])
        np.testing.assert_allclose(logits[0].numpy(), outputs.logits[position], rtol=1e-4, atol=1e-5)
        assert table["logit_lesion"][position] == outputs.logits[position, 0]


def _composed(run: RunFolder, tmp_path: Path) -> "train.FoldRun":
    from omegaconf import OmegaConf

    return train.compose(OmegaConf.load(run.config), RunFolder(tmp_path / "again"))


def test_a_finished_run_is_shown_and_not_trained_again(command: Command, tiny: list[str], tmp_path: Path) -> None:
    first = command(train.main, *tiny, "tracking=none")
    weights = only_run(tmp_path / "outputs").last.stat().st_mtime_ns
    again = command(train.main, *tiny, "tracking=none")
    assert first.status == again.status == 0
    assert "This run is finished" in again.out and "epoch" in first.out
    assert only_run(tmp_path / "outputs").last.stat().st_mtime_ns == weights
    other = command(train.main, *tiny, "tracking=none", "model.attention.lambdas=[4]", "trainer.max_epochs=1")
    assert other.status == 0 and len(find_runs(tmp_path / "outputs" / "runs")) == 2


def test_the_last_epoch_is_read_from_the_same_training(command: Command, tiny: list[str], tmp_path: Path) -> None:
    paper = command(train.main, *tiny, "tracking=none")
    last = command(train.main, *tiny, "tracking=none", "protocol=last")
    assert paper.status == last.status == 0 and "This run is finished" in last.out
    run = only_run(tmp_path / "outputs")
    table = run.read_predictions()
    rows = table[table["protocol"] == "last"]
    assert set(rows["epoch"]) == {1}
    outputs = read_outputs(run.epoch(1))
    for _, of_task in rows.groupby("task"):
        np.testing.assert_array_equal(of_task["logit_lesion"], outputs.logits[:, 0])
    lesion = rows[rows["task"] == "lesion"]
    expected = roc_auc_score(lesion["truth_lesion"], lesion["logit_lesion"])
    assert numbers(run, "last")["auc"]["lesion"] == pytest.approx(expected, abs=1e-12)
    assert f"protocol=last): {numbers(run, 'last')['score']:.3f}" not in paper.out
    assert f"under protocol=last: {numbers(run, 'last')['score']:.3f}" in paper.out
    assert f"under protocol=paper: {numbers(run, 'paper')['score']:.3f}" in last.out


def test_an_inner_split_selects_and_the_held_out_fold_only_scores(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    arguments = [*tiny, "tracking=none", "protocol=inner", "protocol.inner_folds=2", "trainer.max_epochs=3"]
    result = command(train.main, *arguments)
    assert result.status == 0, result.err
    run = only_run(tmp_path / "outputs")
    split = json.loads(run.split.read_text())
    parts = [set(split[part]) for part in ("train", "selection", "held_out")]
    assert [len(part) for part in parts] == [8, 8, 8] and len(set.union(*parts)) == 24
    table = run.read_predictions()
    assert set(table["protocol"]) == {"inner", "paper", "last"}
    assert set(table["image_id"]) == parts[2]

    fold = _composed(run, tmp_path)
    aucs = {"selection": [], "held_out": []}
    for epoch in range(3):
        outputs = read_outputs(run.epoch(epoch))
        assert len(outputs.rows) == 16
        for part, values in aucs.items():
            chosen = outputs.only(getattr(fold.rows, part))
            values.append(roc_auc_score(fold.truth[chosen.rows, 0], chosen.logits[:, 0]))
    copy = read_copy(run.copy("lesion"))
    assert copy.epoch == int(np.argmax(aucs["selection"])) and copy.auc == max(aucs["selection"])
    assert numbers(run, "inner")["copies"]["lesion"]["epoch"] == copy.epoch
    assert numbers(run, "inner")["auc"]["lesion"] == pytest.approx(aucs["held_out"][copy.epoch], abs=1e-12)
    assert numbers(run, "paper")["auc"]["lesion"] == pytest.approx(max(aucs["held_out"]), abs=1e-12)
    assert numbers(run, "last")["auc"]["lesion"] == pytest.approx(aucs["held_out"][-1], abs=1e-12)

    curves = run.read_epochs()
    assert curves is not None
    for part, values in aucs.items():
        np.testing.assert_allclose(curves.loc[curves["cases"] == part, "lesion"], values, atol=1e-12)

    selecting = run.read_selection()
    assert selecting is not None and set(selecting["protocol"]) == {"inner", "last"}
    last = selecting[(selecting["protocol"] == "last") & (selecting["task"] == "lesion")]
    assert roc_auc_score(last["truth_lesion"], last["logit_lesion"]) == pytest.approx(aucs["selection"][-1], abs=1e-12)
    selecting = selecting[selecting["protocol"] == "inner"]
    assert set(selecting["image_id"]) == parts[1]  # neither trained on nor held out
    of_lesion = selecting[selecting["task"] == "lesion"]
    assert set(of_lesion["epoch"]) == {copy.epoch}
    assert roc_auc_score(of_lesion["truth_lesion"], of_lesion["logit_lesion"]) == pytest.approx(copy.auc, abs=1e-12)


def test_mlflow_gets_curves_results_and_no_patient(command: Command, tiny: list[str], tmp_path: Path) -> None:
    assert command(train.main, *tiny).status == 0
    run = only_run(tmp_path / "outputs")
    with sqlite3.connect(tmp_path / "outputs" / "mlflow.db") as database:
        curves = dict(database.execute("SELECT key, COUNT(*) FROM metrics GROUP BY key"))
        status, run_id = database.execute("SELECT status, run_uuid FROM runs").fetchone()
        parameters = dict(database.execute("SELECT key, value FROM params"))
        tags = dict(database.execute("SELECT key, value FROM tags"))
    database.close()
    for name in ("train/loss", "val/loss", "val/auc_lesion", "val/auc_malignancy", "val/auc_type", "images_per_second"):
        assert curves[name] == 2, name
    assert any(name.startswith("lr-SGD") for name in curves)
    assert curves["final/score"] == 1 and status == "FINISHED" and run_id == run.record()["mlflow_run_id"]
    assert parameters["trainer/max_epochs" if "trainer/max_epochs" in parameters else "trainer.max_epochs"] == "2"
    assert tags["architecture"] == "resnet18" and tags["lambda"] == "1" and tags["git_commit"]
    assert tags["assignment_hash"] == json.loads(run.split.read_text())["assignment"]
    assert tags["data_hash"] == run.record()["data"]

    artifacts = next((tmp_path / "outputs" / "mlartifacts").rglob("artifacts"))
    present = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert {"config.yaml", "roc.png", "attention.png", "metrics.json", "environment.json"} <= present
    assert "checkpoints/lesion.ckpt" in present
    versions = json.loads((artifacts / "environment.json").read_text())
    assert versions["torch"] == torch.__version__.split("+")[0] and versions["git_commit"]
    shared = pd.read_parquet(artifacts / "predictions.parquet")
    assert not shared["image_id"].str.startswith("phantom").any() and len(shared) == len(run.read_predictions())


def test_mlflow_does_not_get_the_names_of_cases_that_were_left_out(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    name, outputs = "phantom-00003", tmp_path / "outputs"
    assert command(train.main, *tiny, "trainer.max_epochs=1", f"data.exclude=[{name}]").status == 0
    run = only_run(outputs)
    assert read_copy(run.copy("lesion")).config["data"]["exclude"] == [name]
    assert name in run.config.read_text() and not list(run.path.glob(".upload*"))
    (uploaded,) = (outputs / "mlartifacts").rglob("lesion.ckpt")
    copy = read_copy(uploaded)
    assert copy.weights.keys() == read_copy(run.copy("lesion")).weights.keys()
    assert len(copy.config["data"]["exclude"]) == 1
    shared = [path for path in (outputs / "mlartifacts").rglob("*") if path.is_file()]
    for path in [outputs / "mlflow.db", *shared]:
        assert name.encode() not in path.read_bytes(), path


def test_a_run_killed_while_its_results_were_sent_goes_on_with_other_workers_in_the_same_mlflow_run(
    command: Command, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowTracking, "upload", killed)
        assert command(train.main, *tiny, "trainer.max_epochs=1").status == 130
    run = only_run(tmp_path / "outputs")
    before, left = run.read_predictions(), run.path / ".upload.0123456789ab.part"
    assert run.state == "interrupted"
    (left / "checkpoints").mkdir(parents=True)
    result = command(train.main, *tiny, "trainer.max_epochs=1", "trainer.num_workers=1")
    assert result.status == 0 and "epoch   1/1" not in result.out, result.err
    assert run.is_finished and not left.exists()
    pd.testing.assert_frame_equal(run.read_predictions(), before)
    with closing(sqlite3.connect(tmp_path / "outputs" / "mlflow.db")) as database:
        (found,) = database.execute("SELECT name, status FROM runs").fetchall()
    assert found == (f"run/{run.path.name}", "FINISHED")


def test_a_set_with_two_outputs_writes_no_type_copy(command: Command, tiny: list[str], tmp_path: Path) -> None:
    result = command(train.main, *tiny, "tracking=none", "~data.tasks.type")
    assert result.status == 0, result.err
    run = only_run(tmp_path / "outputs")
    assert not run.copy("type").exists() and run.copy("malignancy").exists()
    metrics = numbers(run)
    expected = (0.5 * metrics["auc"]["lesion"] + 0.3 * metrics["auc"]["malignancy"]) / 0.8
    assert metrics["score"] == pytest.approx(expected, abs=1e-12)


def test_a_task_that_the_fold_cannot_define_writes_no_copy_and_is_said_once(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    one_cyst = "data.counts={none: 12, angioma: 0, metastasis: 7, hcc: 0, cyst: 1, fnh: 0}"
    for fold in range(3):
        result = command(train.main, *tiny, "tracking=none", one_cyst, f"protocol.fold={fold}")
        run = next(run for run in find_runs(tmp_path / "outputs" / "runs") if f"-f{fold}-" in run.path.name)
        if numbers(run)["auc"]["malignancy"] is None:
            break
    assert result.out.count("is undefined on the selecting cases") == 1
    assert not run.copy("malignancy").exists() and run.copy("lesion").exists()
    assert numbers(run)["score"] == numbers(run)["auc"]["lesion"]


def test_plain_averaging_without_boxes_runs_and_points_nowhere(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    result = command(train.main, *tiny, "model.attention.lambdas=[0]", "model.attention.alpha=0")
    assert result.status == 0, result.err
    run = only_run(tmp_path / "outputs")
    attention = numbers(run)["attention"]
    assert attention["pointing"] is None
    assert attention["energy"] == pytest.approx(attention["chance"], rel=1e-5)
    assert attention["lift"] == pytest.approx(1, rel=1e-5)
    assert run.read_predictions()["entropy"].to_numpy() == pytest.approx(1)


@pytest.mark.parametrize("debug", ["one_batch", "overfit", "profile"])
def test_debug_switches(command: Command, tiny: list[str], tmp_path: Path, debug: str) -> None:
    # The switch comes last in the configuration and would be outvoted by an epoch count on the command line.
    kept = [argument for argument in tiny if not argument.startswith("trainer.max_epochs")]
    result = command(train.main, *kept, "tracking=none", f"debug={debug}")
    assert result.status == 0, result.err
    run = only_run(tmp_path / "outputs")
    lines = [line for line in result.out.splitlines() if line.startswith("epoch")]
    copy = read_copy(run.copy("lesion") if run.copy("lesion").exists() else run.copy("malignancy"))
    if debug == "overfit":
        losses = [float(line.split("loss ")[1].split()[0]) for line in lines]
        assert len(lines) == 50
        assert losses[-1] < 0.6 * losses[0]
        assert set(run.read_predictions()["image_id"]) < set(json.loads(run.split.read_text())["train"])
    else:
        assert len(lines) == 1
        assert len(read_outputs(run.epoch(copy.epoch)).rows) == 8  # all held-out cases
        report = run.path / "fit-profile.txt"
        assert (report.exists() and "Profiler Report" in report.read_text()) == (debug == "profile")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "epochs", "options"),
    [
        ("cpu", 4, ()),
        ("cpu", 4, ("trainer.num_workers=2", "trainer.balanced=true")),
        ("cpu", 4, ("trainer.data_on_device=true",)),
        pytest.param("gpu", 100, (), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(
    command: Command, tiny: list[str], tmp_path: Path, trainer: str, epochs: int, options: tuple[str, ...]
) -> None:
    settings = [f"trainer={trainer}" if option == "trainer=cpu" else option for option in tiny]
    arguments = [*settings, "tracking=none", f"trainer.max_epochs={epochs}", "trainer.ema=0.9", *options]
    undisturbed = command(train.main, *arguments, f"paths.outputs={tmp_path / 'undisturbed'}")
    assert undisturbed.status == 0, undisturbed.err

    process = shell("liverattn.train", *arguments)
    last = None
    deadline = time.monotonic() + 200
    while last is None and process.poll() is None and time.monotonic() < deadline:
        last = next((tmp_path / "outputs").glob("runs/run/*/checkpoints/last.ckpt"), None)
        time.sleep(0.01)
    time.sleep(0.15)  # into the next epoch
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    killed = only_run(tmp_path / "outputs")
    assert not killed.is_finished, "the run ended before it could be killed"
    done = int(torch.load(killed.last, weights_only=True)["epoch"])

    resumed = command(train.main, *arguments)
    assert resumed.status == 0, resumed.err
    assert f"epoch {done + 2:3d}/{epochs}" in resumed.out and f"epoch {done + 1:3d}/{epochs}" not in resumed.out
    whole, parts = only_run(tmp_path / "undisturbed"), only_run(tmp_path / "outputs")
    expected, actual = (torch.load(run.last, weights_only=True) for run in (whole, parts))
    assert expected["epoch"] == actual["epoch"] == epochs - 1
    for kept in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, actual[kept][name]) for name, value in expected[kept].items())
    for task in ("lesion", "malignancy", "type"):
        first, second = read_copy(whole.copy(task)), read_copy(parts.copy(task))
        assert first.epoch == second.epoch and first.auc == second.auc
        assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())
    assert whole.read_metrics()["protocols"] == parts.read_metrics()["protocols"]
    pd.testing.assert_frame_equal(whole.read_predictions(), parts.read_predictions())


def test_prepare_reports_counts_in_the_form_of_table_1(command: Command, tiny: list[str]) -> None:
    data = [argument for argument in tiny if argument.startswith(("data", "paths"))]
    result = command(prepare.main, *data)
    assert result.status == 0, result.err
    assert "12 (50.0%)" in result.out and result.out.count("6 (25.0%)") == 2
    assert "m of Eq. 1" in result.out and "width (pixels)" in result.out
