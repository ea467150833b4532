"""Weights of a fold run that a test has trained."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from liverattn import train
from liverattn.runs import find_runs
from liverattn.training.copies import read_last
from tests.conftest import Result


def trained_weights(command: Callable[..., Result], settings: list[str], name: str, *options: str) -> dict[str, Tensor]:
    """Weights after the last epoch of ``liverattn.train`` with settings such as those of :func:`tiny`."""
    result = command(train.main, *settings, f"name={name}", *options)
    assert result.status == 0, result.err
    outputs = next(option.partition("=")[2] for option in settings if option.startswith("paths.outputs="))
    run = next(found for found in find_runs(Path(outputs)) if found.path.parent.name == name)
    return dict(read_last(run.last).weights)
