"""Settings of the training loop."""

from pathlib import Path

import pytest

from liverattn.errors import InputError
from liverattn.training.hardware import Hardware
from liverattn.training.trainer import TrainerSettings


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_epochs", 0, r"trainer.max_epochs to be at least 1, but got 0"),
        ("batch_size", 1, r"trainer.batch_size to be at least 2, but got 1"),
        ("mixup", -0.1, r"trainer.mixup to be at least 0, but got -0.1"),
        ("ema", 1.0, r"trainer.ema to be null or between 0 and 1, but got 1.0"),
    ],
)
def test_settings_that_cannot_train_are_refused(option: str, value: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainerSettings(**{"max_epochs": 3, option: value})  # type: ignore[arg-type]


def test_the_trainer_is_what_the_settings_say(tmp_path: Path) -> None:
    settings = TrainerSettings(max_epochs=7, limit_batches=2, gradient_clip=1.5, ema=0.99)
    trainer = settings.build(Hardware("cpu", "32-true", True), tmp_path, [], None)
    assert trainer.max_epochs == 7
    assert trainer.limit_train_batches == trainer.limit_val_batches == 2
    assert trainer.gradient_clip_val == 1.5
    assert [type(callback).__name__ for callback in trainer.callbacks][:1] == ["EMAWeightAveraging"]
    assert trainer.logger is None
