"""``python -m liverattn.report`` as a user runs it: on a tiny run of phantoms, on ensembles, on real images."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from scipy.special import expit

from liverattn import ensemble, report, train
from liverattn.files import file_digest
from liverattn.runs import RunFolder, find_runs
from tests.comparison.explained_runs import CLINIC, data, recorded_run
from tests.conftest import TINY, Result

Command = Callable[..., Result]
FILES = {"report.html", "failures.csv", *(f"attention_quality.{suffix}" for suffix in ("md", "csv", "tex"))}
VESSELS = {f"vessels.{suffix}" for suffix in ("md", "csv", "tex")}
CLINIC_SOURCE = {"_target_": "liverattn.data.sources.table.TableSource", "path": "cases.csv", "root": None}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> RunFolder:
    """A tiny fold run on phantoms, trained once."""
    outputs = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        arguments = [*TINY, f"data.root={phantoms}", f"paths.outputs={outputs}", "tracking=none"]
        patch.setattr(sys, "argv", ["liverattn", *arguments])
        GlobalHydra.instance().clear()
        train.main()
    (run,) = find_runs(outputs)
    return run


def refused(result: Result, *said: str) -> None:
    assert result.status == 1 and "Traceback" not in result.err
    for words in said:
        assert words in result.err, result.err


def test_a_run_on_phantoms_leaves_everything_that_is_promised(
    command: Command, trained: RunFolder, tmp_path: Path
) -> None:
    before = {path: file_digest(path) for path in trained.path.rglob("*") if path.is_file()}
    result = command(report.main, f"run={trained.path}", "cases=3")
    assert result.status == 0, result.err
    folder = trained.path / "report"
    assert {path.name for path in folder.iterdir()} == FILES | VESSELS
    assert {path: file_digest(path) for path in before} == before  # nothing else is touched
    for words in (
        "lesion: ",
        "Attention quality on held-out images",
        "Attention on vessels in lesion-free phantoms",
        f"Look at: {folder / 'report.html'}",
    ):
        assert words in result.out
    shutil.rmtree(folder)


def test_its_numbers_are_those_of_the_predictions(command: Command, trained: RunFolder, tmp_path: Path) -> None:
    result = command(report.main, f"run={trained.path}", f"out={tmp_path}", "protocol=last", "threshold=0.4")
    assert result.status == 0, result.err
    rows = trained.read_predictions().query("protocol == 'last'")
    lesion = rows[rows["task"] == "lesion"].set_index("image_id")
    table = pd.read_csv(tmp_path / "attention_quality.csv").set_index("images")
    boxed = lesion[lesion["chance"].notna()]
    for column, measure in {
        "maximum in a box": "pointing", "energy in boxes": "energy", "lift": "lift", "chance": "chance",
        "average precision": "average_precision", "IoU at 0.5": "iou", "entropy": "entropy",
    }.items():  # fmt: skip
        value = table.loc["all lesion images", f"{column}_mean"]
        assert value == pytest.approx(boxed[measure].mean(), rel=1e-4), column
    assert table.loc["all lesion images", "number"] == len(boxed)
    found = pd.read_csv(tmp_path / "failures.csv")
    wrong = (expit(lesion["logit_lesion"]) >= 0.4) != (lesion["truth_lesion"] == 1)
    assert set(found.loc[found["task"] == "lesion", "image_id"]) == set(wrong.index[wrong])
    types = rows[(rows["task"] == "type") & (rows["truth_lesion"] == 1)].set_index("image_id")
    called = types[["logit_cyst", "logit_metastasis"]].to_numpy().argmax(axis=1)
    wrong_types = types.index[called != types[["truth_cyst", "truth_metastasis"]].to_numpy().argmax(axis=1)]
    assert set(found.loc[found["task"] == "type", "image_id"]) == set(wrong_types)
    vessels = pd.read_csv(tmp_path / "vessels.csv").set_index("lesion-free images")
    assert vessels.loc["all", "number"] == (lesion["truth_lesion"] == 0).sum()


def test_names_stay_out_where_they_are_not_wanted(command: Command, trained: RunFolder, tmp_path: Path) -> None:
    named = command(report.main, f"run={trained.path}", f"out={tmp_path / 'a'}")
    nameless = command(report.main, f"run={trained.path}", f"out={tmp_path / 'b'}", "identifiers=false")
    assert named.status == nameless.status == 0
    assert "phantom-000" in (tmp_path / "a" / "report.html").read_text()
    for path in (tmp_path / "b").iterdir():
        assert "phantom-000" not in path.read_text(), path
    assert "phantom-000" not in nameless.out + nameless.err


def test_moved_or_changed_data_are_refused(command: Command, trained: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(trained.path, copy.path)
    config = yaml.safe_load(copy.config.read_text())
    config["data"]["source"]["seed"] = 1  # other phantoms
    config["data"]["source"]["root"] = str(tmp_path / "others")
    copy.config.write_text(yaml.safe_dump(config))
    refused(command(report.main, f"run={copy.path}"), "not those that", str(copy.path), "fingerprint")
    config["data"]["source"] = {"_target_": "liverattn.data.sources.aul.AulSource", "root": str(tmp_path / "gone")}
    copy.config.write_text(yaml.safe_dump(config))
    refused(command(report.main, f"run={copy.path}"), str(tmp_path / "gone"), "root=...", "manifest=...")
    assert not (copy.path / "report").exists()


def test_a_damaged_phantom_is_refused(command: Command, trained: RunFolder, tmp_path: Path, phantoms: Path) -> None:
    (moved,) = {path.parent for path in phantoms.rglob("*.png") if len(list(path.parent.glob("*.png"))) == 24}
    shutil.copytree(moved, tmp_path / "phantoms" / moved.name)
    notes = next((tmp_path / "phantoms").rglob("00003.json"))
    notes.write_text(json.dumps({"boxes": json.loads(notes.read_text())["boxes"]}))
    result = command(
        report.main,
        f"run={trained.path}",
        f"root={tmp_path / 'phantoms'}",
        f"cache={tmp_path}",
        f"out={tmp_path / 'r'}",
    )
    refused(result, "vessels", "00003.json", "rendered again")
    assert not (tmp_path / "r").exists()


def clinic_runs(folder: Path, names: str = "a") -> Path:
    """Recorded runs of two folds and two repeats on images that a table names, as trained runs would be."""
    clinic = data(folder)
    table = clinic.manifest.table.assign(
        boxes=[None if not len(boxes) else json.dumps(boxes.tolist()) for boxes in clinic.manifest.table["boxes"]]
    )
    table.to_csv(folder / "cases.csv", index=False)
    node = {"exclude": [], "group_duplicates": False, "source": {**CLINIC_SOURCE, "path": str(folder / "cases.csv")}}
    steps = {"_target_": "liverattn.data.preprocessing.Preprocessing", "height": 64, "width": 96, "crop": False}
    for name in names:
        for repeat, fold in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            changes = {f"data__{key}": value for key, value in {**node, "preprocessing": steps}.items()}
            recorded_run(
                folder, name, clinic, repeat, fold, backbone__name=name, grid=(4, 6) if name == "a" else (2, 3),
                noise=3, root=str(folder), **changes,
            )  # fmt: skip
    return folder


def test_an_ensemble_is_reported_over_all_its_images(command: Command, tmp_path: Path) -> None:
    outputs = clinic_runs(tmp_path, "ab")
    made = command(ensemble.main, f"paths.outputs={outputs}", "tracking=none", "bundle=null", "members=[b,a]")
    assert made.status == 0, made.err
    folder = outputs / "ensembles" / "ensemble"
    (folder / "report").mkdir()
    (folder / "report" / "vessels.md").write_text("of phantoms, once")
    result = command(report.main, f"ensemble={folder}", "cases=100")
    assert result.status == 0, result.err
    assert {path.name for path in (folder / "report").iterdir()} == FILES
    said = (folder / "report" / "report.html").read_text()
    assert f"{len(CLINIC.images)} held-out images" in said and "b (0.5); a (0.5)" in said
    found = pd.read_csv(folder / "report" / "failures.csv")
    predictions = pd.read_parquet(folder / "predictions.parquet").groupby("image_id").mean(numeric_only=True)
    wrong = predictions[(predictions["probability_lesion"] >= 0.5) != (predictions["truth_lesion"] == 1)]
    lesion = found[found["task"] == "lesion"].set_index("image_id")
    assert set(lesion.index) == set(wrong.index) and len(wrong) > 0
    np.testing.assert_allclose(lesion["probability_lesion"], wrong.loc[lesion.index, "probability_lesion"], rtol=1e-9)


def test_data_can_have_moved(command: Command, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    clinic_runs(before)
    before.rename(after)
    run = find_runs(after)[0]
    result = command(report.main, f"run={run.path}")
    refused(result, str(before / "cases.csv"), "manifest=...")
    assert "data.manifest=" not in result.err  # which is no option of this command
    places = [f"manifest={after / 'cases.csv'}", f"cache={after}"]
    result = command(report.main, f"run={run.path}", *places)
    assert result.status == 0, result.err
    assert not before.exists()


def test_what_a_user_can_get_wrong(command: Command, trained: RunFolder, tmp_path: Path) -> None:
    refused(command(report.main), "exactly one of run=FOLDER and ensemble=FOLDER", "neither")
    refused(command(report.main, f"run={trained.path}", "ensemble=x"), "both")
    run = f"run={trained.path}"
    for option in ("cases=0", "cases=many", "cases=2.5", "threshold=1.5", "threshold=x", "identifiers=1"):
        name, value = option.split("=")
        refused(command(report.main, run, option), f"Expected {name} to be", f"but got {value}")
    refused(command(report.main, run, "protocol=inner"), "protocol=inner", "paper, last")
    unknown = command(report.main, run, "protocol=outer")
    assert unknown.status == 1 and all(word in unknown.err for word in ("outer", "paper", "inner", "last"))
    refused(command(report.main, f"run={tmp_path}"), str(tmp_path), "run.json", "ensemble=")
    refused(command(report.main, f"ensemble={trained.path}"), "metrics.json", "run=...")
    refused(command(report.main, f"ensemble={tmp_path}"), "metrics.json", "run=...")
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(trained.path, copy.path)
    copy.epoch(1).write_bytes(b"")
    refused(command(report.main, f"run={copy.path}", "protocol=last"), "001.safetensors cannot be read")
    copy.metrics.unlink()
    refused(command(report.main, f"run={copy.path}"), "not finished (it is interrupted)")
    assert not (trained.path / "report").exists()


@pytest.mark.slow
@pytest.mark.skipif("LIVERATTN_AUL" not in os.environ, reason="LIVERATTN_AUL does not name the real images")
def test_real_images(command: Command, tmp_path: Path) -> None:
    tiny = [argument for argument in TINY if not argument.startswith(("data.counts", "data.tasks"))]
    trainer = [
        "trainer.max_epochs=1",
        "trainer.batch_size=16",
        "data=aul",
        f"paths.outputs={tmp_path}",
        "tracking=none",
    ]
    assert command(train.main, *tiny, *trainer).status == 0
    (run,) = find_runs(tmp_path)
    result = command(report.main, f"run={run.path}")
    assert result.status == 0, result.err
    assert {path.name for path in (run.path / "report").iterdir()} == FILES
    table = pd.read_csv(run.path / "report" / "attention_quality.csv")
    assert table["images"].tolist()[:3] == ["all lesion images", "benign", "malignant"] and len(table) == 7
