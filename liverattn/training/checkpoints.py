"""Three copies of the weights, each the best epoch of one task, and where to resume (paper: "Implementation")."""

import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from liverattn.evaluation.protocols import at_least
from liverattn.evaluation.scores import Task, task_aucs, weighted_score
from liverattn.files import replacing
from liverattn.models.plain_tensors import load_plain
from liverattn.runs import RunFolder
from liverattn.training.module import LesionModule

WRITING_SHARE = 0.1  # of a training's time


class TaskCopies(Callback):
    """Records every epoch's outputs, and keeps the weights whenever a task's AUC is as good as ever or better.

    See :func:`~liverattn.evaluation.protocols.best_epochs` for why the later of two equal epochs is kept.

    The AUCs are those of the selecting cases: the held-out fold as in the paper, or the inner split if there is one.
    The recorded outputs let other protocols choose other epochs afterwards. An undefined AUC (NaN) never counts; a task
    without a defined AUC writes no copy, and this is said once. List this callback before a weights average, so that it
    sees the averaged weights that were validated.

    Args:
        run: Where to write.
        tasks: What to select for.
        truth: (n, K) labels by row of the manifest, NaN where unknown.
        config: Plain values, stored with each copy.
        selection_rows: The inner split; empty: all validated cases select.
    """

    def __init__(
        self,
        run: RunFolder,
        tasks: Sequence[Task],
        truth: NDArray[Any],
        config: Mapping[str, Any],
        selection_rows: NDArray[np.int64],
    ) -> None:
        self.run, self.tasks, self.truth, self.config = run, tasks, truth, dict(config)
        self.selection_rows = selection_rows
        self.best: dict[str, float] = {}
        self.unwritten: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, float]] = []
        self.announced = False

    def state_dict(self) -> dict[str, Any]:
        """The best AUCs so far, for a resumed run."""
        return {"best": dict(self.best), "history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best AUCs so far."""
        self.best, self.history = dict(state_dict["best"]), list(state_dict["history"])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score the epoch and keep what is best."""
        assert isinstance(pl_module, LesionModule)
        outputs = pl_module.take_outputs()
        if trainer.is_global_zero:
            outputs.write(self.run.epoch(trainer.current_epoch))
        selecting = outputs.only(self.selection_rows) if len(self.selection_rows) else outputs
        aucs = task_aucs(self.truth[selecting.rows], selecting.logits, self.tasks)
        score = weighted_score(aucs, self.tasks)
        self.history.append({**aucs, "score": score})
        named = {**{f"val/auc_{task}": value for task, value in aucs.items()}, "val/score": score}
        pl_module.log_dict({name: value for name, value in named.items() if not math.isnan(value)}, rank_zero_only=True)
        improved = {task: value for task, value in aucs.items() if at_least(value, self.best.get(task, -math.inf))}
        self.best |= improved
        if improved and trainer.is_global_zero:
            state = {name: value.clone() for name, value in pl_module.model.state_dict().items()}
            content = {"epoch": trainer.current_epoch, "aucs": aucs, "state_dict": state, "config": self.config}
            self.unwritten |= dict.fromkeys(improved, content)
        self._announce_undefined(aucs)

    def write(self, trainer: pl.Trainer) -> int:
        """Hand over what is best and not written yet, each copy once; their number."""
        contents = {id(content): content for content in self.unwritten.values()}
        for content in contents.values():
            path, *names = (self.run.copy(task) for task, best in self.unwritten.items() if best is content)
            trainer.strategy.checkpoint_io.save_checkpoint(content, path, {"names": names})
        self.unwritten.clear()
        return len(contents)

    def _announce_undefined(self, aucs: Mapping[str, float]) -> None:
        undefined = [task for task, value in aucs.items() if math.isnan(value)]
        if undefined and not self.announced:
            print(
                f"The AUC of {', '.join(undefined)} is undefined on the selecting cases (a class is absent or "
                "unlabeled): no copy is written for it, and the score's other weights are renormalized."
            )
        self.announced = True


class LastCheckpoint(Checkpoint):
    """Writes the task copies and ``last.ckpt`` after an epoch; a killed run resumes there bit for bit.

    Where an epoch takes seconds, after every one. On a GPU an epoch may be shorter than the writing: then as often as
    this takes no more than :data:`WRITING_SHARE` of the time, and after the last epoch.

    Args:
        run: Where to write.
        copies: What is best, written before the checkpoint that promises it.
    """

    def __init__(self, run: RunFolder, copies: TaskCopies) -> None:
        self.run, self.copies = run, copies
        self.handed_over = 0
        self.started = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save everything that the next epoch depends on."""
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.strategy.broadcast(is_last or self._may_write(trainer)):
            return
        self.handed_over += self.copies.write(trainer) + 1
        trainer.save_checkpoint(self.run.last, weights_only=False)  # all processes have to take part; the first writes

    def _may_write(self, trainer: pl.Trainer) -> bool:
        background = trainer.strategy.checkpoint_io
        assert isinstance(background, AsyncCheckpointIO)
        files = background.checkpoint_io
        assert isinstance(files, WholeFiles)
        spent = time.perf_counter() - self.started
        return files.written == self.handed_over and files.seconds <= WRITING_SHARE * spent


class WholeFiles(TorchCheckpointIO):
    """Files that appear whole or not at all, under one name or several.

    Nothing is written after a failure: within Lightning's ``AsyncCheckpointIO``, which writes in their order what
    training hands over, ``last.ckpt`` must not promise copies that are not there.

    Attributes:
        written: Files that were handed over and are done with, written or not.
        seconds: That this took.
    """

    failed = False
    written = 0
    seconds = 0.0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one file; ``storage_options["names"]`` are further names of it.

        Raises:
            InputError: The disk is full, or the folder is not writable.
        """
        started = time.perf_counter()
        try:
            if not self.failed:
                self._save(checkpoint, Path(path), (storage_options or {}).get("names", ()))
        except BaseException:
            self.failed = True
            raise
        finally:
            self.seconds += time.perf_counter() - started
            self.written += 1

    def _save(self, checkpoint: dict[str, Any], path: Path, names: Iterable[Path]) -> None:
        with replacing(path) as temporary:
            torch.save(apply_to_collection(checkpoint, torch.Tensor, torch.Tensor.cpu), temporary)
        for name in names:
            with replacing(name) as temporary:
                _link(path, temporary)


def with_config(path: Path, config: Mapping[str, Any], target: Path) -> Path:
    """Copy a task checkpoint with another configuration in it, such as one that names no images."""
    content = load_plain(path)
    torch.save({**content, "config": dict(config)}, target)
    return target


def _link(path: Path, name: Path) -> None:
    try:
        name.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, name)
