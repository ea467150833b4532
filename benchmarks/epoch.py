"""A training epoch with everything on, against a bare loop: same network, precision, batch and thread count.

The bare loop has its batches as prepared float tensors in memory: no reading, augmentation, mixup, metrics, logging or
checkpoints. Both take turns in one process, epoch by epoch, so that a machine whose speed drifts does not decide.

    python benchmarks/epoch.py +experiment=resnet18_240 backbone.weights=null

Prints milliseconds per training image of each epoch, and the ratio of the medians (the first pair is a warm-up).
"""

import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import Callback

from liverattn import train
from liverattn.configuration import config_folder
from liverattn.runs import RunFolder
from liverattn.training import fold_run
from liverattn.training.objective import attention_loss, output_loss
from liverattn.training.progress import EpochLines

EPOCHS = 4


class BareLoop(Callback):
    """After each epoch of the framework, one epoch of a bare loop over the same number of batches."""

    def __init__(self, fold: fold_run.FoldRun) -> None:
        self.fold = fold
        self.model = deepcopy(fold.model).to(memory_format=torch.channels_last).train()
        self.optimizer, _ = fold.recipe.build(self.model, 10_000)
        self.times: dict[str, list[float]] = {"framework": [], "bare": []}
        self.batches: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 0:
            self.batches.append({name: value.clone() for name, value in batch.items()})

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        lines = next(callback for callback in trainer.callbacks if isinstance(callback, EpochLines))
        images = sum(len(batch["row"]) for batch in self.batches)
        self.times["framework"].append(1000 * lines.seconds / images)
        started = time.perf_counter()
        for batch in self.batches:
            self.step(batch)
        self.times["bare"].append(1000 * (time.perf_counter() - started) / images)

    def step(self, batch: dict[str, Any]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.fold.hardware.precision == "bf16-mixed"):
            logits, scores = self.model(batch["image"])
        loss = output_loss(logits, batch["labels"], batch["label_weight"])
        loss = loss + attention_loss(scores, batch["target"], batch["target_weight"])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def main() -> None:
    """Run the benchmark on a configuration of ``liverattn.train``."""
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(config_folder()), version_base="1.3"):
        more = [f"trainer.max_epochs={EPOCHS}", "tracking=none"]
        fold = train.compose(compose("train", [*sys.argv[1:], *more]), RunFolder(Path(folder) / "run"))
        bare = BareLoop(fold)
        build = type(fold.settings).build
        # The callback joins those of the fold run; nothing else of the framework is touched.
        type(fold.settings).build = lambda self, hardware, path, callbacks, logger: build(  # type: ignore[method-assign]
            self, hardware, path, [*callbacks, bare], logger
        )
        fold.execute()
    for name, values in bare.times.items():
        print(f"{name:10s}", "  ".join(f"{value:6.1f}" for value in values), "ms per training image")
    medians = {name: float(np.median(values[1:])) for name, values in bare.times.items()}
    print(f"{torch.get_num_threads()} threads, {fold.hardware.precision}; ", end="")
    print(f"framework / bare = {medians['framework'] / medians['bare']:.3f}")


if __name__ == "__main__":
    main()
