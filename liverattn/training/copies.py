"""Task checkpoints and the last one, as read back; needs no Lightning."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from liverattn.errors import InputError
from liverattn.models.plain_tensors import load_plain
from liverattn.runs import anew


@dataclass(frozen=True)
class TaskCopy:
    """A checkpoint of one task, as read back.

    Attributes:
        task: Name.
        epoch: From 0.
        auc: Of the task on the cases that select (the held-out fold, or the inner split).
        weights: State dict of :class:`~liverattn.models.classifier.LesionClassifier`.
        config: The run's composed configuration.
    """

    task: str
    epoch: int
    auc: float
    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]


def read_copy(path: Path) -> TaskCopy:
    """Read a task checkpoint (plain tensors and values only; nothing in it can execute).

    Args:
        path: Named after its task: what is best for several tasks is one file with several names.

    Raises:
        InputError: Absent, damaged, or not a task checkpoint.
    """
    with _readable(path, "task checkpoint"):
        content = load_plain(path)
        auc = content["aucs"][path.stem]
        return TaskCopy(path.stem, content["epoch"], auc, content["state_dict"], content["config"])


def read_last(path: Path) -> TaskCopy:
    """Read the weights after the last epoch from where a run would resume (with a weights average: the average).

    Returns:
        With the task ``last`` and an undefined AUC: nothing was selected.

    Raises:
        InputError: Absent or damaged.
    """
    with _readable(path, "checkpoint"):
        content = load_plain(path)
        weights = {
            name.removeprefix("model."): value
            for name, value in content["state_dict"].items()
            if name.startswith("model.")
        }
        return TaskCopy("last", int(content["epoch"]), math.nan, weights, {})


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"The checkpoint {path} does not exist.") from None
    except Exception as error:  # torch raises a dozen kinds for damaged files
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a readable {kind} ({problem}). {anew(path.parent.parent)}") from error
