"""The registered model, called in this process and served over HTTP on the loopback."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from liverattn.bundle.bundle import Bundle
from liverattn.errors import InputError
from liverattn.exporting.pyfunc import PACKAGES, example, register, result_columns, save_model
from liverattn.prediction.predictor import Predictor
from liverattn.tracking import MlflowTracking
from tests.bundle.builders import write_small
from tests.prediction.conftest import picture


def encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_small(tmp_path_factory.mktemp("bundles") / "small")


@pytest.fixture(scope="module")
def registered(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[tuple[str, Path]]:
    """Address of the model, and the folder of its database."""
    folder = tmp_path_factory.mktemp("tracking")
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    before = mlflow.get_tracking_uri()
    # Named, because other tests may have left a tracking server in the environment.
    tracking = MlflowTracking(folder=str(folder), uri=f"sqlite:///{folder / 'mlflow.db'}")
    yield register(bundle, tracking, "liverattn-small"), folder
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(None)


def test_the_model_gives_what_the_predictor_gives(bundle: Bundle, registered: tuple[str, Path]) -> None:
    model = mlflow.pyfunc.load_model(registered[0])
    images = [picture(seed) for seed in range(3)]
    table = model.predict(pd.DataFrame({"image": [*map(encoded, images), b"no image"]}))
    expected = Predictor(bundle, device="cpu").predict(images)
    np.testing.assert_allclose(
        list(table["probability_lesion"][:3]), [one.probabilities["lesion"] for one in expected], atol=1e-5
    )
    assert table["error"].notna().tolist() == [False, False, False, True]
    assert table["error"][3] == "not an image in a known format"
    assert list(table) == list(result_columns(bundle.contents))


def test_operating_point_is_a_parameter(registered: tuple[str, Path]) -> None:
    model, image = mlflow.pyfunc.load_model(registered[0]), pd.DataFrame({"image": [encoded(picture())]})
    (probability,) = model.predict(image)["probability_lesion"]
    for point, threshold in (("sensitivity_90", 0.4), ("specificity_90", 0.6)):
        (decision,) = model.predict(image, params={"operating_point": point})["decision_lesion"]
        assert decision == int(probability >= threshold)


def test_what_a_killed_export_left_is_removed(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / ".model.0123456789ab.part" / "model").mkdir(parents=True)
    save_model(bundle, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_nothing_in_it_is_a_pickle_and_it_says_what_it_is(registered: tuple[str, Path], bundle: Bundle) -> None:
    files = [path.name for path in registered[1].rglob("*") if path.is_file()]
    assert "mlflow_model.py" in files and "small.zip" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt"))]
    info = mlflow.models.get_model_info(registered[0])
    assert info.metadata["bundle"] == bundle.digest and info.metadata["use"] == "Research use only"
    assert info.signature is not None and info.signature.inputs.input_names() == ["image"]
    assert info.saved_input_example_info is not None
    assert {"operating_point", "threshold"} == {one.name for one in info.signature.params}


def test_a_server_that_does_not_answer(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used"):
        register(bundle, MlflowTracking(folder="unused", uri="http://127.0.0.1:9"), "x")


def test_the_folder_that_was_given_is_served_whatever_zip_lies_beside_it(tmp_path: Path) -> None:
    bundle = write_small(tmp_path / "b")
    whole = (tmp_path / "b.zip").read_bytes()
    write_small(tmp_path / "other", shared=True)
    (tmp_path / "other.zip").replace(tmp_path / "b.zip")
    save_model(bundle, tmp_path / "model")
    (served,) = (tmp_path / "model").rglob("*.zip")
    assert served.name == "b.zip" and served.read_bytes() == whole
    assert Bundle(served).digest == bundle.digest


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_mlflow_models_serve_answers_a_request_with_an_image(
    registered: tuple[str, Path], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = registered
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("mlflow")), "models", "serve", "--model-uri", address, "--env-manager",
        "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # of the active environment
    }
    server = subprocess.Popen(command, env=environment, start_new_session=True, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        images = [base64.b64encode(encoded(picture())).decode(), base64.b64encode(b"no image").decode()]
        body = {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            content = response.read()
            answer = json.loads(content)["predictions"]
        (folder / "image.png").write_bytes(encoded(picture()))
        monkeypatch.chdir(folder)
        (documented,) = run_documented(port)["answers"]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=20)
    (expected,) = Predictor(bundle, device="cpu").predict(picture())
    assert answer[0]["probability_lesion"] == pytest.approx(expected.probabilities["lesion"], abs=1e-5)
    assert answer[0]["error"] is None and answer[0]["boxes"].startswith("[")
    assert answer[1]["error"] == "not an image in a known format" and answer[1]["probability_lesion"] is None
    assert b"NaN" not in content
    assert documented["probability_lesion"] == pytest.approx(answer[0]["probability_lesion"], abs=1e-5)
    assert documented["error"] is None and documented["boxes"] == answer[0]["boxes"]


def run_documented(port: int) -> dict[str, Any]:
    """Run what docs/using.md shows of a request, to this port."""
    page = (Path(__file__).parents[2] / "docs" / "using.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "/invocations" in block)
    found: dict[str, Any] = {}
    exec(code.replace("5001", str(port)), found)
    return found


def wait_for(address: str, server: "subprocess.Popen[bytes]", patience: float = 150) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the server does not answer")


def test_registered_again_it_is_another_version_only_if_something_changed(
    bundle: Bundle, registered: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = registered
    monkeypatch.setattr("liverattn.exporting.pyfunc.versions", lambda: {"liverattn": "1", "git_commit": "clean"})
    tracking = MlflowTracking(folder=str(folder))
    second = register(bundle, tracking, "liverattn-small")
    assert second != address
    assert register(bundle, tracking, "liverattn-small") == second


def test_an_unknown_operating_point_is_refused(registered: tuple[str, Path]) -> None:
    model, image = mlflow.pyfunc.load_model(registered[0]), pd.DataFrame({"image": [encoded(picture())]})
    with pytest.raises(MlflowException, match="one of sensitivity_90, specificity_90, but got 'best'"):
        model.predict(image, params={"operating_point": "best"})


def test_nothing_of_the_machine_is_in_it(registered: tuple[str, Path], bundle: Bundle) -> None:
    texts = [
        path for path in registered[1].rglob("*") if path.is_file() and path.suffix in ("", ".yaml", ".txt", ".json")
    ]
    assert texts
    for path in texts:
        assert str(bundle.path.parent) not in path.read_text(errors="replace"), path


def test_what_is_imported_is_pinned(registered: tuple[str, Path]) -> None:
    for requirements in registered[1].rglob("requirements.txt"):
        pinned = {line.split("==")[0] for line in requirements.read_text().split()}
        assert set(PACKAGES) <= pinned


def test_the_example_is_an_image() -> None:
    assert Image.open(io.BytesIO(example()["image"][0])).size == (160, 120)
