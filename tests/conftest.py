"""Fixtures of all tests: a tiny phantom set, and the commands run in this process or in a new one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, settings

# Several workers share the cores, and so do the commands that they start; read when torch is first imported.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) - 1:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // (workers + 1)))

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests that read exports import onnxruntime themselves

# A shell that starts something in the background has it ignore Ctrl-C, and its children inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines are slow at times; the same examples on every machine.
settings.register_profile("project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# A trunk and an input small enough that an epoch takes a fraction of a second.
TINY = (
    "backbone=resnet18_layer3",
    "backbone.cut=layer1",
    "backbone.weights=null",
    "data.preprocessing.height=64",
    "data.preprocessing.width=92",
    "data.counts={none: 12, angioma: 0, metastasis: 6, hcc: 0, cyst: 6, fnh: 0}",
    "data.tasks.type.outputs=[cyst,metastasis]",
    "trainer=cpu",
    "trainer.batch_size=4",
    "trainer.max_epochs=2",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: no core is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@dataclass(frozen=True)
class Result:
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of rendered phantoms, shared by all tests: rendering is the slow part."""
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database without runs: MLflow takes seconds to lay out its tables."""
    import liverattn.tracking  # first: it switches MLflow's telemetry off

    assert liverattn.tracking
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tiny(tmp_path: Path, phantoms: Path, database: Path) -> list[str]:
    """Overrides of a fold run that takes seconds and writes below ``tmp_path``."""
    (tmp_path / "outputs").mkdir()
    shutil.copy(database, tmp_path / "outputs")
    return [*TINY, f"data.root={phantoms}", f"paths.outputs={tmp_path / 'outputs'}"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command's ``main`` in this process as the shell would: ``command(train.main, *arguments)``."""

    def run(main: Callable[[], None], *arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["liverattn", *arguments])
        GlobalHydra.instance().clear()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server, no hub cache and no full traces from the machine's environment."""
    for name in ("MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def shell(module: str, *arguments: str, apart: bool = False, **environment: str) -> "subprocess.Popen[str]":
    """Start ``python -m module`` in a process of its own; ``apart``: it leads a group of processes."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=apart,
    )
