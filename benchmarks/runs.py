"""Fold runs with a stopwatch among their callbacks; nothing else of the framework is touched."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import Callback

from liverattn import train
from liverattn.configuration import config_folder
from liverattn.runs import RunFolder
from liverattn.training.fold_run import FoldRun


def composed(overrides: list[str], folder: Path) -> FoldRun:
    """The fold run of ``liverattn.train OVERRIDES``, to be written to ``folder``."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return train.compose(compose("train", overrides), RunFolder(folder))


def execute_with(fold: FoldRun, callback: Callback) -> None:
    """Execute it with one more callback, after its own."""
    build = type(fold.settings).build
    type(fold.settings).build = lambda self, hardware, path, callbacks, logger: build(  # type: ignore[method-assign]
        self, hardware, path, [*callbacks, callback], logger
    )
    fold.execute()
