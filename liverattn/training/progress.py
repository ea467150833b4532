"""One line per epoch, and images per second."""

import time

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from liverattn.training.checkpoints import TaskCopies


class EpochLines(Callback):
    """Prints loss, AUCs and speed after every epoch and logs the speed.

    Args:
        copies: Where the AUCs are found.
    """

    def __init__(self, copies: TaskCopies) -> None:
        self.copies = copies
        self.seconds = 0.0
        self.images = 0
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.seconds, self.images, self.started = 0.0, 0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: dict[str, object],
        batch_idx: int,
    ) -> None:
        """Count the batch; validation after the last one is not counted."""
        row = batch["row"]
        assert isinstance(row, torch.Tensor)
        self.images += len(row) * trainer.world_size
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize()  # the GPU runs behind
        self.seconds = time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line."""
        speed = self.images / max(self.seconds, 1e-9)
        pl_module.log("images_per_second", speed, rank_zero_only=True)
        loss = trainer.callback_metrics.get("train/loss", torch.tensor(float("nan")))
        aucs = "  ".join(f"{name} {value:.3f}" for name, value in self.copies.history[-1].items() if value == value)
        if trainer.is_global_zero:
            print(
                f"epoch {trainer.current_epoch + 1:3d}/{trainer.max_epochs}  loss {loss:.4f}  AUC {aucs}  "
                f"{speed:.1f} images/s ({1000 / speed:.1f} ms per image)",
                flush=True,
            )
