"""What is gathered over the batches of an epoch, and over processes: losses, and validation outputs.

The numbers of the outputs are made by our own NaN-aware scores.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """The mean over an epoch's cases of a loss that is a mean over each batch's cases."""

    full_state_update = False
    total: Tensor
    cases: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "cases"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, cases: int) -> None:
        """Add a batch."""
        self.total += loss.detach() * cases
        self.cases += cases

    def compute(self) -> Tensor:
        """Scalar."""
        return self.total / self.cases


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
        _append(self.rows, rows)
        _append(self.logits, logits.float())
        _append(self.scores, scores.float().squeeze(1))

    def compute(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """What makes an :class:`~liverattn.training.outputs.Outputs`, which torchmetrics would not pass through."""
        rows, logits, scores = (
            torch.cat(state) if isinstance(state, list) else state for state in (self.rows, self.logits, self.scores)
        )
        unique, first = np.unique(rows.cpu().numpy(), return_index=True)
        # Of one process they are in order as they are; the scores of many cases are large.
        places = slice(None) if np.array_equal(first, np.arange(len(rows))) else first
        return unique, logits.cpu().numpy()[places], scores.cpu().numpy()[places]


def _append(kept: list[Tensor], batch: Tensor) -> None:
    """Keep a batch in few large blocks: many small ones between a network's large ones would fragment the memory."""
    kept.append(batch)
    while len(kept) > 1 and len(kept[-2]) <= len(kept[-1]):
        kept[-2:] = [torch.cat(kept[-2:])]
