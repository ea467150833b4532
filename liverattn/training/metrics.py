"""Validation outputs, gathered over batches and processes; the numbers are made by our own NaN-aware scores."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


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
        """What makes an :class:`~liverattn.training.outputs.Outputs`, which torchmetrics would not pass through."""
        rows, logits, scores = (
            torch.cat(state) if isinstance(state, list) else state for state in (self.rows, self.logits, self.scores)
        )
        unique, first = np.unique(rows.cpu().numpy(), return_index=True)
        return unique, logits.cpu().numpy()[first], scores.cpu().numpy()[first]
