"""Validation outputs, gathered over batches and processes; the numbers are made by our own NaN-aware scores."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torchmetrics import Metric

from liverattn.errors import InputError
from liverattn.files import replacing


@dataclass(frozen=True)
class Outputs:
    """What the network says of the cases that it is not trained on, in the order of their rows.

    Attributes:
        rows: (n,) rows of the manifest, each once.
        logits: (n, K) float32.
        scores: (n, h, w) float32, attention logits s.
    """

    rows: NDArray[np.int64]
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]

    def only(self, rows: NDArray[np.int64], *, keep: bool = True) -> "Outputs":
        """The outputs of some cases, or with ``keep=False`` those of all others."""
        chosen = np.isin(self.rows, rows) == keep
        return Outputs(self.rows[chosen], self.logits[chosen], self.scores[chosen])

    def write(self, path: Path) -> None:
        """Write to a safetensors file: a few kilobytes."""
        with replacing(path) as temporary:
            # safetensors writes an array's memory, whatever its strides say.
            save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, temporary)


def read_outputs(path: Path) -> Outputs:
    """Read what :meth:`Outputs.write` wrote.

    Raises:
        InputError: Absent or damaged.
    """
    try:
        return Outputs(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Remove the run folder and run the fold again.") from error


class GatheredOutputs(Metric):
    """Accumulates rows, output logits and attention logits; a case that a sampler repeated counts once."""

    full_state_update = False
    rows: list[Tensor]
    logits: list[Tensor]
    scores: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "logits", "scores"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor, logits: Tensor, scores: Tensor) -> None:
        """Add a batch: (B,), (B, K) and (B, 1, h, w)."""
        self.rows.append(rows)
        self.logits.append(logits.float())
        self.scores.append(scores.float().squeeze(1))

    def compute(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """The attributes of :class:`Outputs` (torchmetrics does not pass a frozen dataclass through)."""
        rows, logits, scores = (
            torch.cat(state) if isinstance(state, list) else state for state in (self.rows, self.logits, self.scores)
        )
        unique, first = np.unique(rows.cpu().numpy(), return_index=True)
        return unique, logits.cpu().numpy()[first], scores.cpu().numpy()[first]
