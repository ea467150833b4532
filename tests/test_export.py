"""The verb: a bundle, or one fold run, for other programs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from liverattn import export, train
from liverattn.bundle.bundle import Bundle
from liverattn.prediction.predictor import Predictor
from liverattn.runs import find_runs
from tests.bundle.builders import write_small
from tests.conftest import Result
from tests.prediction.conftest import picture

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_small(tmp_path_factory.mktemp("bundles") / "small", shared=True)  # tracing takes seconds a network


@pytest.mark.slow
def test_graphs_give_what_the_predictor_gives(
    bundle: Bundle, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra: onnx")
    result = command(export.main, f"bundle={bundle.path}", "formats=[onnx,torch]", f"out={tmp_path / 'out'}")
    assert result.status == 0, result.err
    assert "Research use only" in result.out and "None:" not in result.out
    images = np.stack([picture(seed, 170, 230) for seed in range(3)])
    expected = [list(one.probabilities.values()) for one in Predictor(bundle, device="cpu").predict(list(images))]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "ensemble.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["outputs"] == "lesion,malignancy"
    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, atol=1e-4)
    np.testing.assert_allclose(session.run(None, {"image": images[:1]})[0], expected[:1], atol=1e-4)
    Image.fromarray(images[0]).save(tmp_path / "out" / "image.png")
    monkeypatch.chdir(tmp_path / "out")
    found = run_documented()
    np.testing.assert_allclose(found["probabilities"], expected[:1], atol=1e-4)
    assert (
        found["names"] == ["lesion", "malignancy"] and found["attention"].ndim == 3 and found["window"].shape == (1, 4)
    )
    with (tmp_path / "out" / "ensemble.pt2").open("rb") as stream:
        program = torch.export.load(stream).module()
    np.testing.assert_allclose(program(torch.from_numpy(images))[0].detach(), expected, atol=1e-4)
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    networks = [f"network-{digest[:12]}" for digest in bundle.contents.networks]
    names = {f"{name}{suffix}" for name in ("ensemble", *networks) for suffix in (".onnx", ".pt2")}
    assert {one["file"] for one in record["files"]} == names
    assert all(one["difference"] <= 1e-4 and one["problem"] is None for one in record["files"])
    for digest in bundle.contents.networks:
        session = onnxruntime.InferenceSession(tmp_path / "out" / f"network-{digest[:12]}.onnx")
        size = session.get_inputs()[0].shape
        prepared = np.random.default_rng(0).random((2, *size[1:]), np.float32) * 200
        with torch.inference_mode():
            logits, _ = bundle.networks()[digest](torch.from_numpy(prepared))
        np.testing.assert_allclose(session.run(None, {"image": prepared})[0], torch.sigmoid(logits), atol=1e-5)


def run_documented() -> dict[str, Any]:
    """Run what docs/using.md shows of other programs, in the folder of an export."""
    page = (Path(__file__).parent.parent / "docs" / "using.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in block)
    found: dict[str, Any] = {}
    exec(code, found)
    return found


@pytest.mark.slow
def test_one_fold_run_as_a_bundle(tiny: list[str], tmp_path: Path, command: Command) -> None:
    result = command(train.main, *tiny, "tracking=none")
    assert result.status == 0, result.err
    (run,) = find_runs(tmp_path / "outputs" / "runs")
    assert f"Next:       python -m liverattn.report run={run.path}\n" in result.out
    result = command(export.main, f"run={run.path}", "formats=[]")
    assert result.status == 0, result.err
    assert Bundle(run.path / "bundle").contents.protocol == "paper"
    assert "python -m liverattn.predict bundle=" in result.out
    result = command(export.main, f"run={run.path}", "formats=[]", "protocol=last")
    assert len(Bundle(run.path / "bundle.zip").contents.networks) == 1
    result = command(export.main, f"run={run.path}", "formats=[mlflow]", f"paths.outputs={tmp_path / 'outputs'}")
    assert result.status == 0, result.err
    assert "models:/liverattn-" in result.out and "mlflow models serve" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected exactly one of bundle=FOLDER and run=RUN_FOLDER, but got neither"),
        (["bundle=x", "run=y"], "but got both"),
        (["bundle=nowhere"], "The bundle nowhere does not exist"),
        (["bundle=x", "formats=[keras]"], "Expected formats to be any of onnx, torch, mlflow, but got 'keras'"),
        (["bundle=x", "formats=[]"], "formats is empty"),
        (["bundle=x", "protocol=last"], "protocol chooses the copies of a run"),
        (["run=7"], "7 is not the folder of a finished fold run"),
        (["bundle=[7]"], "Expected bundle to be a path, but got [7]"),
        (["run=nowhere"], "nowhere is not the folder of a finished fold run"),
    ],
)
def test_what_a_user_can_get_wrong(command: Command, arguments: list[str], message: str) -> None:
    result = command(export.main, *arguments)
    assert result.status == 1
    assert message in result.err and "Traceback" not in result.err


def test_a_server_that_does_not_answer_is_found_before_anything_is_written(
    bundle: Bundle, tmp_path: Path, command: Command
) -> None:
    result = command(
        export.main,
        f"bundle={bundle.path}",
        f"out={tmp_path / 'out'}",
        "tracking.uri=http://127.0.0.1:9",
    )
    assert result.status == 1 and "MLflow at http://127.0.0.1:9 cannot be used" in result.err
    assert "Bundle:" not in result.out and not (tmp_path / "out").exists()


def test_nothing_is_written_into_the_bundle(bundle: Bundle, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liverattn.export.write_graphs", lambda folder, formats: None)
    monkeypatch.chdir(bundle.path)
    result = command(export.main, "bundle=.", "formats=[torch]")
    assert result.status == 0 and f"Folder:  {bundle.path.parent / 'export'}" in result.out
    result = command(export.main, "bundle=.", "formats=[torch]", "out=more/export")
    assert result.status == 1 and "out=more/export lies in the bundle" in result.err
    result = command(export.main, "bundle=.", "formats=[torch]", f"out={bundle.path}.zip/export")
    assert result.status == 1 and f"cannot be used: {bundle.path}.zip is a file" in result.err
    assert Bundle(bundle.path).digest == bundle.digest


def test_without_onnx(bundle: Bundle, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liverattn.exporting.onnx.find_spec", lambda name: None)
    result = command(export.main, f"bundle={bundle.path}", "formats=[onnx]")
    assert result.status == 1 and "python -m pip install 'liverattn[onnx]'" in result.err
