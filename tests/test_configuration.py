"""Every configuration that ships composes and builds."""

import errno
import os
import re
import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from liverattn import status, train
from liverattn.configuration import OutputsFolder, build, check_name, config_folder, identity, plain, plain_errors, verb
from liverattn.errors import InputError
from tests.conftest import Result

FOLDER = config_folder()
EXPERIMENTS = sorted(path.stem for path in (FOLDER / "experiment").glob("*.yaml"))


def composed(*overrides: str, name: str = "train") -> DictConfig:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        return compose(name, list(overrides))


def test_the_promised_experiments_ship() -> None:
    promised = {"resnet_240", "resnet_480", "densenet_240", "gap_240", "quickstart", "resnet18_240", "mobilenet_240"}
    assert promised <= set(EXPERIMENTS)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_builds_and_is_a_claim(experiment: str) -> None:
    cfg = composed(f"+experiment={experiment}")
    assert cfg.name == experiment
    header = (FOLDER / "experiment" / f"{experiment}.yaml").read_text()
    for slot in ("Question:", "Command:", "Hardware:", "Expected:"):
        assert slot in header, slot
    settings, steps = build(cfg.trainer), build(cfg.data.preprocessing)
    assert settings.max_epochs == cfg.trainer.max_epochs
    assert (steps.height, steps.width) == (cfg.data.preprocessing.height, cfg.data.preprocessing.width)
    build(cfg.optim), build(cfg.data.augmentation), build(cfg.tracking)


@pytest.mark.parametrize("data", ["phantom", "aul", "manifest"])
def test_every_source_builds(data: str, tmp_path: Path) -> None:
    more = [f"data.manifest={tmp_path}/cases.csv"] if data == "manifest" else []
    cfg = composed(f"data={data}", *more, name="prepare")
    assert hasattr(build(cfg.data.source), "manifest")
    assert [task for task, value in cfg.data.tasks.items() if value] == (
        ["lesion", "malignancy"] if data == "aul" else ["lesion", "malignancy", "type"]
    )


def test_the_documented_values_of_cells_compose() -> None:
    for page in (FOLDER.parent / "docs" / "data.md", FOLDER / "data" / "table.yaml"):
        (option,) = re.findall(r"'([^']*data\.values=[^']*)'", page.read_text())
        cfg = composed("data=table", "data.manifest=x.csv", option, name="prepare")
        assert list(cfg.data.source["values"].lesion.values()) == [1, 0]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{n}.md" for n in ("data", "evidence", "results", "using"))])
def test_documented_commands_compose(page: str) -> None:
    text = (FOLDER.parent / page).read_text().replace("+experiment=...", "+experiment=resnet_240").replace("=...", "=x")
    found = re.findall(r"python -m liverattn\.(\w+)([^`#|\n]*)", text)
    assert found
    for name, typed in found:
        quoted = typed.rstrip('"') if typed.count('"') % 2 else typed  # within a variable
        words = [word for word in shlex.split(quoted) if "=" in word]
        options = []
        for one in OverridesParser.create().parse_overrides(words):
            line = str(one.input_line)
            options.append(
                f"{line.split('=')[0]}={next(one.sweep_string_iterator())}" if one.is_sweep_override() else line
            )
        composed(*options, name=name)


@pytest.mark.parametrize("debug", ["one_batch", "overfit", "profile"])
def test_debug_switches_change_the_run_folder(debug: str) -> None:
    cfg = composed("+experiment=resnet18_240", f"debug={debug}")
    assert cfg.tracking.experiment == "debug"
    assert identity(_plain(cfg)) != identity(_plain(composed("+experiment=resnet18_240")))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    return {str(key): plain(value) if OmegaConf.is_config(value) else value for key, value in cfg.items()}


def test_the_identity_is_what_decides_the_result() -> None:
    base = identity(_plain(composed()))
    same = (
        "trainer.num_workers=2",
        "tracking=none",
        "paths.cache=elsewhere",
        "paths.outputs=/elsewhere",
        "protocol=last",
        "model.attention.lambdas=[1]",
    )
    other = (
        "model.attention.lambdas=[4]",
        "seed=1",
        "protocol.fold=2",
        "data.seed=1",
        "data.root=/elsewhere",
        "optim.trunk_rate=0.5",
        "protocol=inner",
    )
    for override in same:
        assert identity(_plain(composed(override))) == base, override
    for override in other:
        assert identity(_plain(composed(override))) != base, override


def test_the_paper_is_the_default() -> None:
    cfg = composed("+experiment=densenet_240")
    assert cfg.model.attention.lambdas == [0.25, 1.0]
    assert cfg.backbone.weights == "imagenet"
    cfg = composed()
    assert (cfg.backbone.name, cfg.model.attention.lambdas, cfg.model.attention.alpha) == ("resnet50", [1.0], 1.0)
    assert (cfg.data.preprocessing.height, cfg.data.preprocessing.width) == (240, 345)
    assert (cfg.protocol.repeats, cfg.protocol.folds, cfg.trainer.mixup) == (3, 3, 0.2)
    assert dict(cfg.data.counts) == {"none": 258, "angioma": 17, "metastasis": 48, "hcc": 6, "cyst": 30, "fnh": 8}


def test_what_a_constructor_refuses_is_one_message() -> None:
    cfg = composed("trainer.batch_size=1")
    with pytest.raises(InputError, match=r"trainer.batch_size to be a whole number of at least 2"):
        build(cfg.trainer)
    with pytest.raises(InputError, match="cannot be used"):
        build(composed("+trainer.warmth=3").trainer)


@pytest.mark.parametrize("name", [None, "", ".", "..", "../elsewhere", "/elsewhere", "mine/../.."])
def test_a_name_is_that_of_a_folder_below_the_outputs(name: str | None) -> None:
    with pytest.raises(InputError, match=r"Expected name to name a folder .* but got "):
        check_name("name", name)


@pytest.mark.parametrize("name", ["mine", "a/b", "a b", "..mine", 2024])
def test_other_names_are_allowed(name: str | int) -> None:
    check_name("name", name)


def test_a_place_without_permission_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, plain_errors():
        raise PermissionError(13, "Permission denied", "/data/cases.journal.jsonl")
    assert ended.value.code == 1
    said = "Error: /data/cases.journal.jsonl: permission denied. Nothing was lost: correct the permissions of"
    assert capsys.readouterr().err.startswith(said)


def test_sigterm_is_told_as_ctrl_c_is(command: Callable[..., Result], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    @verb("status")
    def terminated(cfg: DictConfig) -> None:
        signal.raise_signal(signal.SIGTERM)

    result = command(terminated, f"paths.outputs={tmp_path}")
    assert (result.status, result.err) == (130, "Interrupted. The same command goes on from here.\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_runs_in_any_thread(command: Callable[..., Result], tmp_path: Path) -> None:
    results: list[Result] = []

    @verb("status")
    def said(cfg: DictConfig) -> None:
        print("said")

    thread = threading.Thread(target=lambda: results.append(command(said, f"paths.outputs={tmp_path}")))
    thread.start()
    thread.join()
    assert [(result.status, result.out) for result in results] == [(0, "said\n")]


@pytest.mark.parametrize("value", ["~/my outputs", '"~/my outputs"', "'~/my outputs'"])
def test_a_path_may_begin_at_home(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "Käthe"))

    @verb("status")
    def where(cfg: DictConfig) -> None:
        print(cfg.paths.outputs)

    assert command(where, f"paths.outputs={value}").out == f"{tmp_path / 'Käthe'}/my outputs\n"
    assert command(where, 'paths.outputs="a~/b"').out == "a~/b\n"
    more = tmp_path / "Käthe" / "my conf" / "paths"
    more.mkdir(parents=True)
    (more / "own.yaml").write_text("outputs: here\n")
    assert command(where, "--config-dir=~/my conf", "paths=own").out == "here\n"


def test_a_working_directory_of_each_run_is_refused(command: Callable[..., Result], tmp_path: Path) -> None:
    result = command(status.main, f"paths.outputs={tmp_path}", "hydra.job.chdir=true")
    assert result.status == 1 and "Expected hydra.job.chdir to be false, but got true" in result.err


def test_the_configuration_of_another_verb_is_refused(command: Callable[..., Result], tmp_path: Path) -> None:
    for words in (
        ["--config-name=prepare"],
        ["-cn", "prepare.yaml"],
        ["-m", "--config-name=prepare", "audit=true,false"],
    ):
        result = command(train.main, *words, f"paths.outputs={tmp_path}", f"hydra.sweep.dir={tmp_path}")
        assert result.status == 1, words
        assert re.fullmatch(
            r"Error: --config-name=prepare(.yaml)? is the configuration of python -m liverattn.prepare, .*\n",
            result.err,
        )
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\nnot_there: 1\n")
    own = command(
        train.main, f"--config-dir={tmp_path}", "-cn", "mine", f"paths.outputs={tmp_path}", "hydra.job.chdir=true"
    )
    assert own.err.startswith("Error: Expected hydra.job.chdir to be ")


def test_a_full_disk_is_told_whoever_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, plain_errors():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert ended.value.code == 1 and "no space left on the disk. Nothing was lost" in capsys.readouterr().err
    with pytest.raises(OSError, match="Input/output"), plain_errors():
        raise OSError(errno.EIO, "Input/output error")


def test_what_killed_processes_left_in_shared_folders_goes_after_a_day(tmp_path: Path) -> None:
    cache, name = tmp_path / "elsewhere", ".a.json.0123456789ab.part"
    places = [tmp_path / "sweeps", tmp_path / "phantoms" / "0123456789ab", cache / "ab"]
    for place in places:
        place.mkdir(parents=True)
        (place / name).write_text("a part")
        (place / name.replace("a.json", "b.json")).write_text("by whoever is at work now")
        os.utime(place / name, (0, 0))
    paths = {"outputs": str(tmp_path), "cache": str(cache)}
    OutputsFolder().on_run_start(OmegaConf.create({"paths": paths, "hydra": {"run": {"dir": str(tmp_path)}}}))
    assert [path.name for place in places for path in place.iterdir()] == 3 * [".b.json.0123456789ab.part"]
