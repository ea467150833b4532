"""``python -m liverattn.train -m``: cells that finish at once, fail, are interrupted or busy."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from liverattn import train
from liverattn.configuration import config_folder
from liverattn.errors import InputError
from liverattn.locks import BusyError
from liverattn.runs import find_runs
from liverattn.sweeps.expansion import refuse_ddp
from liverattn.sweeps.record import find_sweeps
from tests.conftest import Result
from tests.sweeps.conftest import Cells

Command = Callable[..., Result]
TABLE_2 = ("resnet_240", "resnet_480", "densenet_240")
FOLDS = "protocol.fold=0,1"


@pytest.fixture
def sweep(command: Command, tiny: list[str]) -> Command:
    """Start a sweep without MLflow."""
    return lambda *swept: command(train.main, "-m", *tiny, "tracking=none", *swept)


def test_no_failure_stops_the_others_and_the_same_command_repeats_what_failed(
    sweep: Command, cells: Cells, tmp_path: Path
) -> None:
    cells.raises(0, InputError("The weights no.pth do not exist.\nGive others."))
    cells.raises(1, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    result = sweep("protocol.fold=0,1,2")
    assert result.status == 1
    assert cells.begun == [0, 1, 2]
    assert "Traceback" not in result.out + result.err
    assert "done: run repeat 0 fold 2: score 0.700; 1 of 3" in result.out
    failed = [line for line in result.out.splitlines() if line.startswith("Failed: ")]
    assert failed == [
        "Failed: run repeat 0 fold 0: The weights no.pth do not exist.",
        "Failed: run repeat 0 fold 1: CUDA out of memory. Tried to allocate 2 GiB",
    ]
    traces = "".join(path.read_text() for path in (tmp_path / "outputs").rglob("traceback.txt"))
    assert "InputError: The weights" in traces and "RuntimeError: CUDA out of memory" in traces
    assert find_sweeps(tmp_path / "outputs")[0][0].status == "failed"

    cells.actions.clear()
    again = sweep("protocol.fold=0,1,2")
    assert again.status == 0, again.err
    assert "1 of 3 runs are finished, 2 to do." in again.out
    assert cells.begun == [0, 1, 2, 0, 1]
    third = sweep("protocol.fold=0,1,2")
    assert third.status == 0 and cells.begun == [0, 1, 2, 0, 1]
    assert "3 of 3 runs are finished, 0 to do." in third.out and "All are finished." in third.out


def test_the_command_that_is_told_runs_the_failed_cell_alone(
    command: Command, sweep: Command, cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells.raises(1, InputError("no"))
    result = sweep(FOLDS, "model.attention.lambdas=[0.25,1]")
    (told,) = [line.removeprefix("  again: ") for line in result.out.splitlines() if line.startswith("  again: ")]
    words = shlex.split(told)
    assert words[:3] == ["python", "-m", "liverattn.train"]
    cells.actions.clear()
    cells.begun.clear()
    monkeypatch.setattr(train, "show", lambda *_: None)
    assert command(train.main, *words[3:]).status == 0
    assert cells.begun == [1]
    assert len(find_runs(tmp_path / "outputs")) == 2


def test_a_damaged_record_of_a_run_stops_no_other_cell(
    command: Command, tiny: list[str], cells: Cells, tmp_path: Path
) -> None:
    cells.raises(0, KeyboardInterrupt())
    command(train.main, "-m", *tiny, FOLDS)
    (run,) = find_runs(tmp_path / "outputs")
    (run.path / "run.json").write_text("")
    cells.actions.clear()
    result = command(train.main, "-m", *tiny, FOLDS)
    assert result.status == 1 and "done: run repeat 0 fold 1" in result.out
    assert f"Failed: run repeat 0 fold 0: {run.path}/run.json is damaged" in result.out
    assert "MLflow could not be brought up to date" not in result.out
    assert "Traceback" not in result.out + result.err


def test_interrupted_sweeps_go_on(sweep: Command, cells: Cells, tmp_path: Path) -> None:
    cells.raises(1, KeyboardInterrupt())
    result = sweep(FOLDS)
    assert result.status == 130
    assert "The same command goes on from here." in result.err
    assert cells.begun == [0, 1]
    assert find_sweeps(tmp_path / "outputs")[0][0].status == "interrupted"
    cells.actions.clear()
    assert sweep(FOLDS).status == 0
    assert cells.begun == [0, 1, 1]


def test_a_busy_cell_is_skipped_and_looked_at_again(
    sweep: Command, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def busy_once(cfg: Any, run: Any) -> None:
        tried.append(cfg.protocol.fold)
        if tried == [0]:
            raise BusyError("Another process works on it.")
        real(cfg, run)

    real = train.train
    monkeypatch.setattr(train, "train", busy_once)
    result = sweep("protocol.fold=0,1")
    assert result.status == 0
    assert tried == [0, 1, 0] and cells.begun == [1, 0]
    assert "Skipped for now: Another process" in result.out


def test_a_cell_that_stays_busy_leaves_the_sweep_unfinished(
    sweep: Command, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(cfg: Any, run: Any) -> None:
        raise BusyError("Another process works on it.")

    monkeypatch.setattr(train, "train", busy)
    result = sweep("protocol.fold=0")
    assert result.status == 1 and not cells.begun
    assert "Failed" not in result.out and ". 1 missing" in result.out


def test_protocols_that_share_a_run_train_once(sweep: Command, cells: Cells) -> None:
    result = sweep("protocol=paper,last", "protocol.fold=0")
    assert result.status == 0
    assert cells.begun == [0]
    assert "1 runs are finished, 0 to do" in sweep("protocol=paper,last", "protocol.fold=0").out
    assert "run protocol=last" in result.out and "0.250" in result.out


def test_architectures_are_named_as_the_comparison_names_them(sweep: Command, cells: Cells) -> None:
    result = sweep("model.attention.lambdas=[0],[0.25,1.0]", "optim.head_rate=1e-2")
    assert "done: run lambdas=0 repeat 0 fold 0: " in result.out
    assert "done: run lambdas=0.25,1 repeat 0 fold 0: " in result.out


def test_one_job_of_joblib_works_in_the_process_of_the_sweep(tiny: list[str], tmp_path: Path) -> None:
    one = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "tracking=none", "backbone.weights=no.pth"]
    command = [sys.executable, "-m", "liverattn.train", "-m", *tiny, *one, FOLDS]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert len(re.findall(r"^Failed: run repeat 0 fold [01]: .*no\.pth", result.stdout, re.MULTILINE)) == 2


def test_an_unwritable_run_folder_is_told(sweep: Command, cells: Cells, tmp_path: Path) -> None:
    (tmp_path / "outputs" / "runs").mkdir(parents=True)
    (tmp_path / "outputs" / "runs" / "run").write_text("in the way")
    result = sweep("protocol.fold=0")
    assert result.status == 1 and not cells.begun
    assert result.out.count("Failed: run repeat 0 fold 0: ") == 1
    assert "trace:" not in result.out


def test_traces_are_shown_when_asked_for(sweep: Command, cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    cells.raises(0, InputError("no"))
    result = sweep("protocol.fold=0")
    assert result.status == 1
    assert "Traceback" in result.err and "InputError: no" in result.err


def test_several_processes_per_cell_are_refused(sweep: Command, cells: Cells, tmp_path: Path) -> None:
    result = sweep(FOLDS, "trainer=ddp")
    assert result.status == 1 and not cells.begun
    assert result.err.startswith("Error: A sweep cannot train a cell with several processes")
    for word in ("trainer.devices=2", "would begin the whole sweep again", "one by one", "hydra/launcher=joblib"):
        assert word in result.err
    assert "Traceback" not in result.err and not any(find_sweeps(tmp_path / "outputs"))


@pytest.mark.parametrize("option", ["dir={}/elsewhere", "subdir=../../mine"])
def test_runs_where_later_commands_do_not_look_are_refused(
    sweep: Command, cells: Cells, tmp_path: Path, option: str
) -> None:
    result = sweep(FOLDS, f"hydra.sweep.{option.format(tmp_path)}")
    assert result.status == 1 and not cells.begun and "Traceback" not in result.err
    assert f"to lie below {tmp_path / 'outputs' / 'runs'}" in result.err and "paths.outputs=..." in result.err
    assert sweep(FOLDS, f"hydra.sweep.dir={tmp_path / 'outputs' / 'runs' / 'mine'}").status == 0


@pytest.mark.parametrize("trainer", [{"devices": 2}, {"devices": 1, "strategy": "ddp_spawn"}, {"devices": -1}])
def test_any_way_to_ask_for_several_processes_is_refused(trainer: dict[str, Any]) -> None:
    alone = OmegaConf.create({"trainer": {"devices": 1, "strategy": "auto"}})
    refuse_ddp([alone, OmegaConf.create({"trainer": {}})])
    with pytest.raises(InputError, match="several processes"):
        refuse_ddp([alone, OmegaConf.create({"trainer": trainer})])


def test_a_sweep_with_an_unknown_choice_does_not_begin(sweep: Command, cells: Cells, tmp_path: Path) -> None:
    result = sweep("backbone=resnet18_layer3,resnet19")
    assert result.status == 1 and not cells.begun
    assert "resnet19" in result.err and "mobilenet_v2" in result.err
    assert not any(find_sweeps(tmp_path / "outputs"))


def preset(name: str, *more: str) -> list[list[str]]:
    """Overrides of the cells of a preset."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("train", [f"+sweep={name}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    swept = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
    overrides = OverridesParser.create().parse_overrides([*swept, *more])
    (cells,) = BasicSweeper.split_arguments(overrides, None)
    return cells


def test_presets_sweep_what_they_promise() -> None:
    paper = preset("paper")
    assert len(paper) == 27 and len({tuple(cell) for cell in paper}) == 27
    assert {cell[0] for cell in paper} == {f"+experiment={name}" for name in TABLE_2}
    assert len(preset("quick")) == 9
    assert len({cell[0] for cell in preset("quick")}) == 3
    lambdas = dict.fromkeys(cell[1].removeprefix("model.attention.lambdas=") for cell in preset("lambda"))
    assert list(lambdas) == ["[0.0]", "[0.25]", "[1.0]", "[4.0]", "[0.25,1.0]"]
    assert len(preset("lambda")) == 15
    other = preset("lambda", "+experiment=resnet_240", "protocol.fold=1")
    assert len(other) == 5 and all("+experiment=resnet_240" in cell for cell in other)


@pytest.mark.parametrize("name", sorted(path.stem for path in (config_folder() / "sweep").glob("*.yaml")))
def test_a_preset_is_a_claim_and_holds_only_what_is_swept(name: str) -> None:
    text = (config_folder() / "sweep" / f"{name}.yaml").read_text()
    for slot in ("Question:", "Command:", "Hardware:", "Expected:"):
        assert slot in text, slot
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        # So that a cell run alone, without the preset, is the same cell.
        assert compose("train", [f"+sweep={name}"]) == compose("train", [])


def test_a_preset_starts_a_sweep_and_its_cells_run_without_it(
    command: Command, tiny: list[str], cells: Cells, tmp_path: Path
) -> None:
    result = command(train.main, *tiny, "tracking=none", "+sweep=quick", "+experiment=quickstart", "protocol.fold=0,1")
    assert result.status == 0, result.err
    assert cells.begun == [0, 1]
    (sweep,), _ = find_sweeps(tmp_path / "outputs")
    assert sweep.name == "quick (quickstart)" and "+sweep=quick" in sweep.command
    again = command(train.main, *shlex.split(sweep.cells[1].command)[3:])
    assert "This run is finished" in again.out and cells.begun == [0, 1]
