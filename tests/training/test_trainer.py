"""Settings of the training loop."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from liverattn.errors import InputError
from liverattn.training.hardware import Hardware
from liverattn.training.trainer import TrainerSettings


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_epochs", 0, r"trainer.max_epochs to be a whole number of at least 1, but got 0"),
        ("batch_size", 1, r"trainer.batch_size to be a whole number of at least 2, but got 1"),
        ("mixup", -0.1, r"trainer.mixup to be a number of at least 0, but got -0.1"),
        ("ema", 1.0, r"trainer.ema to be a number between 0 and 1, but got 1.0"),
        ("devices", 0, r"trainer.devices to be a whole number of at least 1, but got 0"),
        ("max_epochs", "abc", r"trainer.max_epochs to be a whole number of at least 1, but got abc"),
        ("batch_size", 1.5, r"trainer.batch_size to be a whole number of at least 2, but got 1.5"),
        ("num_workers", -1, r"trainer.num_workers to be null or a whole number of 0 to 128, but got -1"),
        ("num_workers", 1000, r"trainer.num_workers to be null or a whole number of 0 to 128, but got 1000"),
        ("limit_batches", 0, r"trainer.limit_batches to be null or a whole number of at least 1, but got 0"),
        ("gradient_clip", 0, r"trainer.gradient_clip \(null: no limit\) to be a number of at least 1e-09, but got 0"),
        ("deterministic", "foo", r"trainer.deterministic to be auto, true or false, but got foo"),
        ("ema", "slow", r"trainer.ema to be a number between 0 and 1, but got slow"),
        ("strategy", "fsdp", r"trainer.strategy to be auto or ddp, but got fsdp"),
        ("balanced", "sometimes", r"trainer.balanced to be true or false, but got sometimes"),
        ("cuda_graphs", "often", r"trainer.cuda_graphs to be null, true or false, but got often"),
        ("data_on_device", 7, r"trainer.data_on_device to be null, true or false, but got 7"),
    ],
)
def test_settings_that_cannot_train_are_refused(option: str, value: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainerSettings(**{"max_epochs": 3, option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("option", "value"), [("compile", True), ("devices", 2)])
def test_graphs_go_with_one_process_and_without_compiling(option: str, value: Any) -> None:
    TrainerSettings(max_epochs=3, **{option: value})
    with pytest.raises(InputError, match=rf"trainer.cuda_graphs=true does not go together with trainer.{option}="):
        TrainerSettings(max_epochs=3, cuda_graphs=True, **{option: value})


def test_the_trainer_is_what_the_settings_say(tmp_path: Path) -> None:
    settings = TrainerSettings(max_epochs=7, limit_batches=2, gradient_clip=1.5, ema=0.99)
    trainer = settings.build(Hardware("cpu", "32-true", True), tmp_path, [], None)
    assert trainer.max_epochs == 7
    assert (trainer.limit_train_batches, trainer.limit_val_batches) == (2, 1.0)
    assert trainer.gradient_clip_val == 1.5
    assert [type(callback).__name__ for callback in trainer.callbacks][:1] == ["WeightAveraging"]
    assert trainer.logger is None


def test_the_average_is_exponential_and_leaves_constants_alone(tmp_path: Path) -> None:
    average = TrainerSettings(max_epochs=1, ema=0.9).build(Hardware("cpu", "32-true", True), tmp_path, [], None)
    (callback,) = (found for found in average.callbacks if isinstance(found, WeightAveraging))
    module = pl.LightningModule()
    module.weight = torch.nn.Parameter(torch.tensor(1.0))
    module.register_buffer("constant", torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    callback.setup(average, module, "fit")
    for step, value in enumerate([1.0, 3.0, 7.5]):
        module.weight.data.fill_(value)
        trainer: Any = SimpleNamespace(global_step=step + 1)
        callback.on_train_batch_end(trainer, module, None, None, step)
    averaged: Any = callback._average_model
    assert averaged.module.weight.item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 3) + 0.1 * 7.5)
    assert torch.equal(averaged.module.constant, module.constant)


@pytest.mark.parametrize("cluster", [{}, {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"}])
def test_several_devices_are_several_processes_that_the_command_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: dict[str, str]
) -> None:
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    hardware = Hardware("cpu", "32-true", True)
    trainer = TrainerSettings(max_epochs=1, devices=3).build(hardware, tmp_path, [], None)
    assert isinstance(trainer.strategy, DDPStrategy) and trainer.world_size == 3
    assert isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher)
    assert isinstance(trainer.strategy.cluster_environment, LightningEnvironment)
    alone = TrainerSettings(max_epochs=1, devices=1).build(hardware, tmp_path, [], None)
    assert isinstance(alone.strategy, SingleDeviceStrategy) and alone.world_size == 1


def test_a_folder_that_cannot_be_handed_on_is_refused(tmp_path: Path) -> None:
    folder, hardware = tmp_path / 'a "b"', Hardware("cpu", "32-true", True)
    with pytest.raises(InputError, match=r"trainer.devices=2 cannot use the run folder .*quotation mark"):
        TrainerSettings(max_epochs=1, devices=2).build(hardware, folder, [], None)
    assert TrainerSettings(max_epochs=1).build(hardware, folder, [], None).world_size == 1
