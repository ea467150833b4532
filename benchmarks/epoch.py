"""A training epoch with everything on, against a bare loop, and against what people write.

The bare loop has the same network, precision, batch and threads, and its batches as prepared float tensors in memory:
no reading, augmentation, mixup, metrics, logging or checkpoints. What people write decodes and transforms every image
in every epoch with PIL and torchvision in two workers, and trains in float32 and contiguous memory; it has no attention
targets, mixup, metrics or checkpoints, which is in its favor. All take turns in one process, epoch by epoch, so that a
machine whose speed drifts does not decide. On a GPU a second bare loop launches the network as CUDA graphs.

    python -m benchmarks.epoch +experiment=resnet18_240 backbone.weights=null trainer.limit_batches=6

Prints milliseconds per training image of each epoch, and the ratios of the medians (the first epochs warm up).
"""

import sys
import tempfile
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms

from benchmarks.machine import described
from benchmarks.runs import composed, execute_with
from liverattn.training import fold_run
from liverattn.training.objective import attention_loss, output_loss
from liverattn.training.progress import EpochLines
from liverattn.training.training_pass import TrainingPass

EPOCHS = 8


class DecodedAnew(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Image files, decoded and transformed whenever they are asked for."""

    def __init__(self, fold: fold_run.FoldRun, images: int) -> None:
        rows, (height, width) = fold.rows.train[:images], fold.cases.size
        self.paths = [fold.manifest.root / fold.manifest.table.at[row, "path"] for row in rows]
        self.labels = torch.from_numpy(np.nan_to_num(fold.labels[rows]))
        ratio = (0.85 * width / height, 1.15 * width / height)
        self.transform = transforms.Compose(
            [
                transforms.Resize((height, width)),
                transforms.RandomResizedCrop((height, width), scale=(0.7, 1.0), ratio=ratio),
                transforms.RandomAffine(10, translate=(0.05, 0.05)),
                transforms.RandomHorizontalFlip(),
                transforms.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("L")).float(), self.labels[index]


class Others(Callback):
    """After each epoch of the framework, one epoch of the others over the same number of batches."""

    def __init__(self, fold: fold_run.FoldRun) -> None:
        self.fold = fold
        self.loops = {"bare": self.bare, "graphs": self.bare, "people": self.people}
        if fold.hardware.accelerator == "cpu":
            del self.loops["graphs"]
        self.times: dict[str, list[float]] = {name: [] for name in ("framework", *self.loops)}
        self.batches: list[dict[str, Any]] = []
        self.models: dict[str, torch.nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.passes: dict[str, TrainingPass] = {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        for name in self.loops:
            last = self.fold.hardware.channels_last and name != "people"
            model = deepcopy(module.model).to(memory_format=torch.channels_last if last else torch.contiguous_format)
            model.train()
            for stage in self.fold.recipe.freeze(model):
                stage.eval()
            self.models[name] = model
            self.optimizers[name], _ = self.fold.recipe.build(model, 10_000)
            losses = partial(self.losses, self.models[name])
            self.passes[name] = TrainingPass(losses, self.models[name], capture=name == "graphs", required=True)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 0:
            self.batches.append({name: value.clone() for name, value in batch.items()})

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        lines = next(callback for callback in trainer.callbacks if isinstance(callback, EpochLines))
        images = sum(len(batch["row"]) for batch in self.batches)
        self.times["framework"].append(1000 * lines.seconds / images)
        for name, epoch in self.loops.items():
            started = time.perf_counter()
            epoch(name, images, module.device)
            if module.device.type == "cuda":
                torch.cuda.synchronize()
            self.times[name].append(1000 * (time.perf_counter() - started) / images)

    def losses(self, model: torch.nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        logits, scores = model(batch["image"])
        loss = output_loss(logits, batch["labels"], batch["label_weight"])
        return {"loss": loss + attention_loss(scores, batch["target"], batch["target_weight"])}

    def bare(self, name: str, images: int, device: torch.device) -> None:
        for batch in self.batches:
            with self.fold.hardware.autocast():
                loss = self.passes[name](batch)["loss"]
            self.optimizers[name].zero_grad()
            self.passes[name].backward(loss)
            self.optimizers[name].step()

    def people(self, name: str, images: int, device: torch.device) -> None:
        size = self.fold.settings.batch_size
        for image, labels in DataLoader(DecodedAnew(self.fold, images), batch_size=size, shuffle=True, num_workers=2):
            logits, _ = self.models[name](image.to(device))
            self.optimizers[name].zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(device)).backward()
            self.optimizers[name].step()


def main() -> None:
    """Run the benchmark on a configuration of ``liverattn.train``."""
    with tempfile.TemporaryDirectory() as folder:
        more = [f"trainer.max_epochs={EPOCHS}", "tracking=none"]
        fold = composed([*sys.argv[1:], *more], Path(folder) / "run")
        others = Others(fold)
        execute_with(fold, others)
    for name, values in others.times.items():
        print(f"{name:10s}", "  ".join(f"{value:6.2f}" for value in values), "ms per training image")
    medians = {name: float(np.median(values[1:])) for name, values in others.times.items()}
    print(f"{described()}; {torch.get_num_threads()} threads, {fold.hardware.precision}")
    print("; ".join(f"framework / {name} = {medians['framework'] / medians[name]:.3f}" for name in others.loops))


if __name__ == "__main__":
    main()
