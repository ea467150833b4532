"""Mistakes that users make: one clear message, no stack trace, a non-zero exit status, nothing lost."""

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from liverattn import compare, ensemble, prepare, train
from liverattn.runs import find_runs
from tests.conftest import TINY, Result

Command = Callable[..., Result]
HYDRA_REFUSES = 1


def assert_refused(result: Result, *said: str) -> None:
    """One message with these words, no trace."""
    assert result.status == 1
    assert "Traceback" not in result.err
    for words in said:
        assert words in result.err, result.err


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A manifest with twelve good images, lesions in every other one."""
    random = np.random.default_rng(0)
    lines = ["image_id,path,lesion,malignant,boxes"]
    for i in range(12):
        Image.fromarray(random.integers(30, 200, (120, 160), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f'case{i},{i}.png,1,{i // 2 % 2},"[[10,10,50,60]]"' if i % 2 else f"case{i},{i}.png,0,,")
    path = tmp_path / "cases.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def on_manifest(path: Path, *more: str) -> list[str]:
    kept = [argument for argument in TINY if not argument.startswith(("data.counts", "data.tasks"))]
    return [
        *kept,
        "data=manifest",
        f"data.manifest={path}",
        "~data.tasks.type",
        f"paths.outputs={path.parent / 'outputs'}",
        "tracking=none",
        *more,
    ]


def test_a_good_manifest_trains(command: Command, hospital: Path) -> None:
    result = command(train.main, *on_manifest(hospital, "trainer.max_epochs=1"))
    assert result.status == 0, result.err


def test_a_file_where_phantoms_are_rendered_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "phantoms").touch()
    said = f"Error: {tmp_path}/phantoms: a file is where a folder is needed. Nothing was lost: move it away"
    result = command(prepare.main, *TINY[3:7], f"paths.outputs={tmp_path}")
    assert_refused(result, said)
    assert len(result.err.splitlines()) == 1


def test_malignancy_alone_trains(command: Command, hospital: Path) -> None:
    result = command(train.main, *on_manifest(hospital, "~data.tasks.lesion"))
    assert result.status == 0, result.err
    (run,) = find_runs(hospital.parent / "outputs")
    assert run.is_finished and (run.path / "roc.png").exists()


def test_data_that_are_not_there(command: Command, tiny: list[str], tmp_path: Path) -> None:
    outputs = f"paths.outputs={tmp_path}"
    assert_refused(
        command(prepare.main, "data=aul", f"data.root={tmp_path}/no", outputs), "does not exist", "data.root"
    )
    (tmp_path / "empty").mkdir()
    assert_refused(command(prepare.main, "data=aul", f"data.root={tmp_path}/empty", outputs), "not the AUL layout")
    missing = f"data.manifest={tmp_path}/no.csv"
    assert_refused(command(prepare.main, "data=manifest", missing, outputs), "no.csv", "does not exist")


def test_unusable_images_are_named_all_at_once_and_the_others_stay_prepared(command: Command, hospital: Path) -> None:
    folder = hospital.parent
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(folder / "2.png")
    data = ("data=manifest", f"data.manifest={hospital}", f"paths.outputs={folder / 'outputs'}")
    result = command(prepare.main, *data)
    assert_refused(result, "2 image(s)", "'case1'", "damaged", "'case2'", "black all over", "data.exclude")
    prepared = set((folder / "outputs" / "prepared").rglob("*.safetensors"))
    assert len(prepared) == 10

    (folder / "1.png").write_bytes(whole)
    assert command(prepare.main, *data, "data.exclude=[case2]").status == 0
    assert len(set((folder / "outputs" / "prepared").rglob("*.safetensors")) - prepared) == 1
    assert_refused(command(prepare.main, *data, "data.exclude=12"), "data.exclude to be a list", """["12"]""")
    for option in ("data.exclude=[benign (1),b]", 'data.exclude=["benign (1)",b'):
        remedy = """'data.exclude=["benign (1)","b"]'"""
        assert_refused(command(prepare.main, *data, option), f"The option {option} cannot be read", remedy)
    refused = command(prepare.main, "data=manifest", "data.manifest=my cases (2).csv")
    assert_refused(refused, """'data.manifest="my cases (2).csv"'""")

    (folder / "3.png").write_bytes(b"")
    Image.fromarray(np.full((1, 1), 9, np.uint8)).save(folder / "4.png")
    assert_refused(command(prepare.main, *data), "'case3'", "0 bytes", "'case4'", "1x1")


def test_a_wrong_table_is_told_row_by_row(command: Command, hospital: Path) -> None:
    text = (
        hospital.read_text()
        .replace("case1,1.png,1,0,", "case1,../1.png,1,2,")
        .replace("case4,4.png,0", "case3,4.png,7")
    )
    hospital.write_text(text.replace("[[10,10,50,60]]", "[[10,10,500,60]]", 2))
    result = command(train.main, *on_manifest(hospital))
    assert_refused(
        result, "row 3", "'path'", "'../1.png'", "'malignant'", "row 6", "'lesion'", "'7'", "'case3'", "160x120"
    )


def test_folds_that_cannot_be(command: Command, hospital: Path) -> None:
    assert_refused(command(train.main, *on_manifest(hospital, "protocol.fold=3")), "protocol.fold", "0 to 2", "3")
    assert_refused(command(train.main, *on_manifest(hospital, "protocol.repeat=-1")), "protocol.repeat", "-1")
    hospital.write_text(
        hospital.read_text().replace("image_id,", "patient_id,image_id,", 1).replace("\ncase", "\nanna,case")
    )
    cases = {f"case{i}": {"patient_id": "anna", "fold": [i % 3]} for i in range(12)}
    split = hospital.parent / "split.json"
    split.write_text(json.dumps({"folds": 3, "cases": cases}))
    result = command(train.main, *on_manifest(hospital, f"protocol.split_file={split}", "protocol.repeats=1"))
    assert_refused(result, "both sides", "anna", "folds 0, 1, 2")


class Executes:
    """What a malicious file holds."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_weights_that_do_not_fit(command: Command, hospital: Path, tmp_path: Path) -> None:
    def with_weights(path: Path) -> Result:
        return command(train.main, *on_manifest(hospital, f"backbone.weights={path}"))

    assert_refused(with_weights(tmp_path / "no.pth"), "no.pth", "does not exist")
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    assert_refused(with_weights(tmp_path / "other.pth"), "conv1.weight has the shape (3, 3)", "bn1.weight is missing")
    marker = tmp_path / "executed"
    for name, content in (("torch.pth", None), ("plain.pth", pickle.dumps(Executes(marker)))):
        if content is None:
            torch.save({"conv1.weight": Executes(marker)}, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(content)
        assert_refused(with_weights(tmp_path / name), name, "refused", "Nothing in it was run")
    assert not marker.exists()


def test_imagenet_weights_without_a_network(command: Command, hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> Any:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    result = command(train.main, *on_manifest(hospital, "backbone.weights=imagenet"))
    assert_refused(result, "resnet18", "no network", "backbone.weights=/path", "backbone.weights=null")


def test_unknown_choices_list_the_valid_ones(command: Command, hospital: Path) -> None:
    for arguments, said in (
        (["+experiment=resnet_241"], ["resnet_241", "resnet_240", "mobilenet_240"]),
        (["backbone=resnet51"], ["resnet51", "resnet50", "densenet121"]),
        (["trainer.epochs=3"], ["epochs"]),
        (["optimizer.lr=3"], ["optimizer"]),
    ):
        result = command(train.main, *arguments)
        assert result.status == HYDRA_REFUSES and "Traceback" not in result.err
        assert all(word in result.err for word in said), result.err
    assert_refused(command(train.main, *on_manifest(hospital, "backbone.name=resnet51")), "resnet51", "resnet50")
    assert_refused(command(train.main, *on_manifest(hospital, "trainer.precision=64")), "32-true", "bf16-mixed", "64")
    assert_refused(command(train.main, *on_manifest(hospital, "data.preprocessing.aspect=zoom")), "pad", "zoom")
    assert_refused(command(train.main, *on_manifest(hospital, "trainer.max_epochs=0")), "trainer.max_epochs", "0")
    assert_refused(command(train.main, *on_manifest(hospital, "optim.frozen=[layer9]")), "layer9", "layer1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["data=coco", "data.root=/", "data.patient=5"],
            """data.patient to be a text, but got 5. In quotes it is one: 'd""",
        ),
        (["data=coco", "data.root=null"], "Expected data.root to be a text, but got null. Give one: data.root=..."),
        (["data=manifest", "data.manifest=null"], "Expected data.manifest to be a text, but got null"),
        (["data=table", "data.manifest=x.xlsx", "data.sheet=2024"], """'data.sheet="2024"'"""),
        (["data=dicom", "data.root=/", "data.labels=1.5"], "Expected data.labels to be a text, but got 1.5"),
        (["data=manifest"], "data.manifest"),
        (["export=null"], "Expected export to be a list, such as 'export=[coco,labelstudio]', but got null"),
        (["export=coco"], "Expected export to be a list"),
        (["data.name=../up"], "Expected data.name to name a folder below the outputs"),
    ],
)
def test_options_of_another_kind(command: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    assert_refused(command(prepare.main, *arguments, f"paths.outputs={tmp_path}"), said)


@pytest.mark.parametrize(
    ("main", "options"),
    [(train.main, []), (train.main, ["-m"]), (ensemble.main, []), (compare.main, ["a=x"]), (prepare.main, [])],
)
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_file_in_the_place_of_the_outputs(
    command: Command, tmp_path: Path, main: Callable[[], None], options: list[str], below: str
) -> None:
    (tmp_path / "file").write_text("kept")
    result = command(main, *options, f"paths.outputs={tmp_path}/file{below}")
    assert result.status == 1
    assert result.err.startswith(f"Error: The folder {tmp_path}/file") and result.err.count("\n") == 1
    assert f" cannot be used: {tmp_path}/file is a file. Give another paths.outputs=..." in result.err
    assert (tmp_path / "file").read_text() == "kept"


def test_an_output_without_positive_labels_is_refused_by_name(command: Command, tiny: list[str]) -> None:
    result = command(train.main, *tiny, "data.tasks.type.outputs=[cyst,hcc]")
    assert_refused(result, "hcc", "data.tasks")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("model.attention.lambdas=1", "to be a list of one or more numbers, such as [1] or [0.25,1], but got 1"),
        ("model.attention.lambdas=[a]", "model.attention.lambdas to be a number of 0 to 1000, but got a"),
        ("model.attention.lambdas=[1,1.0]", "model.attention.lambdas to hold each number once, but got [1, 1.0]"),
        ("model.attention.alpha=abc", "model.attention.alpha to be a number of at least 0, but got abc"),
        ("model.attention.alpha=-1", "model.attention.alpha to be a number of at least 0, but got -1"),
        ("protocol.repeat=abc", "protocol.repeat to be a whole number of at least 0, but got abc"),
        ("seed=-1", "seed to be a whole number of 0 to 4294967295, but got -1"),
        ("name=..", "name to name a folder below the outputs, such as name=mine, but got '..'"),
        ("name=null", "name to name a folder below the outputs, such as name=mine, but got null"),
        ("data.name=null", "data.name to name a folder below the outputs, such as data.name=mine, but got null"),
        ("seed=5000000000", "seed to be a whole number of 0 to 4294967295, but got 5000000000"),
        ("data.seed=-1", "data.seed to be a whole number of at least 0, but got -1"),
        ("protocol.split_file=5", "protocol.split_file to be null or a file, but got 5"),
        ("data.reduction=foo", "data.reduction to be area, any or nearest, but got foo"),
        ("data.tasks.type.outputs=[cyst,cyst]", "lists the output(s) cyst more than once"),
        ("data.tasks.type.outputs=[malignancy]", "lists the output(s) malignancy more than once"),
        ("data.tasks.type.outputs=[]", "data.tasks.type.outputs to list one or more outputs, but got []"),
        ("data.tasks.lesion.weight=-1", "data.tasks.lesion.weight to be a number of at least 0, but got -1"),
        ("trainer.limit_batches=0", "trainer.limit_batches to be null or a whole number of at least 1, but got 0"),
    ],
)
def test_options_without_a_meaning(command: Command, tiny: list[str], option: str, said: str) -> None:
    assert_refused(command(train.main, *tiny, option), said)


def test_tasks_that_are_none_or_weigh_nothing(command: Command, tiny: list[str]) -> None:
    none = [f"~data.tasks.{name}" for name in ("lesion", "malignancy", "type")]
    for options in (none, ["data.tasks=null"]):
        assert_refused(command(train.main, *tiny, *options), "data.tasks has no task")
    for option in ("data.tasks.type=cyst", "+data.tasks.own.outputs=[fnh]"):
        assert_refused(command(train.main, *tiny, option), "to be null or to have outputs, weight and conditional, but")
    weightless = [f"data.tasks.{name}.weight=0" for name in ("lesion", "malignancy", "type")]
    assert_refused(command(train.main, *tiny, *weightless), "data.tasks to have a weight above 0")


def test_phantoms_are_not_rendered_among_a_users_images(command: Command, hospital: Path) -> None:
    before = sorted(path.name for path in hospital.parent.iterdir())
    result = command(train.main, *TINY, f"data.root={hospital.parent}", f"paths.outputs={hospital.parent / 'new'}")
    assert_refused(result, "which holds other files (0.png, ...)", "data=manifest")
    assert [name for name in sorted(path.name for path in hospital.parent.iterdir()) if name != "new"] == before


@pytest.mark.parametrize(
    ("name", "share", "filled"),
    [("checkpoints/last.ckpt", 0, b""), ("checkpoints/lesion.ckpt", 0.9, b""), ("epochs/000.safetensors", 0.9, b"\0")],
)
def test_a_run_that_lost_a_file_with_the_power_begins_anew(
    command: Command, tiny: list[str], tmp_path: Path, name: str, share: float, filled: bytes
) -> None:
    assert command(train.main, *tiny, "trainer.max_epochs=1").status == 0
    (run,) = find_runs(tmp_path / "outputs")
    before = run.read_predictions()
    run.metrics.unlink()  # it is not finished
    whole = (run.path / name).read_bytes()
    kept = int(share * len(whole))
    (run.path / name).write_bytes(whole[:kept] + filled * (len(whole) - kept))
    record = run.record()
    run.update_record(environment={**record["environment"], "torch": "0.4"})  # which trained what is lost
    again = command(train.main, *tiny, "trainer.max_epochs=1")
    assert run.record()["environment"] == record["environment"]
    assert again.status == 0 and f"{run.path / name} is damaged" in again.out and "this run begins anew" in again.out
    pd.testing.assert_frame_equal(run.read_predictions(), before)


def test_a_full_disk_loses_nothing(command: Command, hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.replace

    def full_after(count: int, suffix: str) -> Callable[..., None]:
        done = 0

        def replace(source: Any, target: Any) -> None:
            nonlocal done
            done += str(target).endswith(suffix)
            if str(target).endswith(suffix) and done > count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(source, target)

        return replace

    outputs = hospital.parent / "outputs"
    monkeypatch.setattr("os.replace", full_after(5, ".safetensors"))
    assert_refused(command(train.main, *on_manifest(hospital)), "no space left", "run the same command again")
    assert len(list(outputs.rglob("*.safetensors"))) == 5

    monkeypatch.setattr("os.replace", full_after(1, "last.ckpt"))
    assert_refused(command(train.main, *on_manifest(hospital)), "last.ckpt", "no space left")
    (run,) = find_runs(outputs / "runs")
    assert torch.load(run.last, weights_only=True)["epoch"] == 0

    monkeypatch.setattr("os.replace", real)
    result = command(train.main, *on_manifest(hospital))
    assert result.status == 0 and "epoch   2/2" in result.out and "epoch   1/2" not in result.out
    assert not list(outputs.rglob("*.part"))


def test_changed_data_do_not_continue_an_old_run(
    command: Command, hospital: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liverattn.training.fold_run.roc_figure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    stopped = command(train.main, *on_manifest(hospital))
    assert stopped.status == 130 and "same command" in stopped.err
    hospital.write_text(hospital.read_text().replace("[[10,10,50,60]]", "[[10,10,52,60]]", 1))
    assert_refused(command(train.main, *on_manifest(hospital)), "data changed", "Remove the folder")


def test_the_full_trace_is_there_when_asked_for(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="does not exist"):
        command(prepare.main, "data=aul", f"data.root={tmp_path}/no", f"paths.outputs={tmp_path}")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("optim.momentum=-0.1", "optim.momentum to be a number of 0 to 1, but got -0.1"),
        ("data.augmentation.crop=0", "crop=0"),
        ("protocol.folds=1", "protocol.folds to be a whole number of at least 2"),
        ("protocol.fold=3", "protocol.fold to be a whole number of 0 to 2, but got 3"),
        ("backbone.name=resnet19", "resnet19"),
        ("backbone.cut=layer9", "layer9"),
        ("backbone.sha256=abc", "backbone.weights is null: give the file's path"),
        ("model.attention.lambdas=[]", "lambdas"),
        ("optim.frozen=[nope]", "optim.frozen names unknown stages nope"),
        ("trainer.profiler=foo", "trainer.profiler to be null, simple or advanced, but got foo"),
        ("trainer.precision=float8", "trainer.precision"),
        ("tracking.identifiers=no", "tracking.identifiers"),
        ("data.tasks.lesion.conditional=true", "data.tasks.lesion.conditional=true scores on lesion images only"),
    ],
)
def test_what_needs_no_data_is_refused_before_they_are_read(
    command: Command, tmp_path: Path, tiny: list[str], option: str, said: str
) -> None:
    missing = ["data=manifest", f"data.manifest={tmp_path}/no.csv", "~data.tasks.type"]
    kept = [argument for argument in tiny if not argument.startswith(("data.counts", "data.tasks"))]
    assert_refused(command(train.main, *kept, *missing, option), said)


def test_weights_are_downloaded_when_the_data_are_there(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    imagenet = [f"paths.outputs={tmp_path}/outputs", "backbone=resnet18_layer3", "backbone.weights=imagenet"]
    missing = ["data=manifest", f"data.manifest={tmp_path}/no.csv"]
    assert_refused(command(train.main, *imagenet, *missing), f"{tmp_path}/no.csv")
    assert_refused(command(train.main, *imagenet, *missing, "backbone.cut=layer9"), "layer9")


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        (train.main, "data.group_duplicates=no"),
        (train.main, "data.preprocessing.crop=no"),
        (train.main, "trainer.channels_last=no"),
        (prepare.main, "audit=no"),
    ],
)
def test_no_is_not_taken_for_yes(
    command: Command, tmp_path: Path, hospital: Path, verb: Callable[[], None], option: str
) -> None:
    on = on_manifest(hospital) if verb is train.main else ["data=manifest", f"data.manifest={hospital}"]
    name, _ = option.split("=")
    assert_refused(command(verb, *on, f"paths.outputs={tmp_path}/o", option), name, "true or false, but got")


def test_no_is_not_taken_for_yes_by_a_source(command: Command, tmp_path: Path) -> None:
    options = (f"data.root={tmp_path}", f"paths.outputs={tmp_path}/o", "data.one_based=no")
    result = command(prepare.main, "data=voc", *options)
    assert_refused(result, "data.one_based to be true or false, but got no")
