"""What an epoch costs besides its training and the forward passes of its validation: scores, copies, logging.

    python -m benchmarks.overhead +experiment=resnet18_240 backbone.weights=null data=aul

Counts from the end of the last training batch to the start of the next epoch, less the validation batches, as a share
of the epoch's training time; MLflow logs to a database in a temporary folder.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from benchmarks.machine import described
from benchmarks.runs import composed, execute_with

EPOCHS = 3


class Overhead(Callback):
    """Seconds of training, of the validation's forward passes, and of the rest, by epoch."""

    def __init__(self) -> None:
        self.training: list[float] = []
        self.forward: list[float] = []
        self.rest: list[float] = []
        self.started = self.trained = self.begun = 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._end()
        self.started = time.perf_counter()
        self.forward.append(0.0)

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.trained = time.perf_counter()

    def on_validation_batch_start(self, *arguments: Any) -> None:
        self.begun = time.perf_counter()

    def on_validation_batch_end(self, *arguments: Any) -> None:
        self.forward[-1] += time.perf_counter() - self.begun

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._end()

    def _end(self) -> None:
        if self.forward:
            self.training.append(self.trained - self.started)
            self.rest.append(time.perf_counter() - self.trained - self.forward[-1])


def main() -> None:
    """Run the benchmark on a configuration of ``liverattn.train``."""
    with tempfile.TemporaryDirectory() as folder:
        more = [f"trainer.max_epochs={EPOCHS}", f"paths.outputs={folder}"]
        fold = composed([*sys.argv[1:], *more], Path(folder) / "run")
        overhead = Overhead()
        execute_with(fold, overhead)
    print(f"{described()}; {len(fold.rows.train)} cases to train on, {fold.hardware.precision}")
    for name, seconds in vars(overhead).items():
        if isinstance(seconds, list):
            print(f"{name:9s}", "  ".join(f"{value:6.2f}" for value in seconds), "s")
    shares = [rest / trained for rest, trained in zip(overhead.rest, overhead.training, strict=True)]
    low, median, high = (100 * value for value in (min(shares), statistics.median(shares), max(shares)))
    print(f"rest / training = {median:.1f} % ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
