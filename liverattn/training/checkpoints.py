"""Three copies of the weights, each the best epoch of one task, and where to resume (paper: "Implementation")."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from liverattn.evaluation.scores import Task, task_aucs, weighted_score
from liverattn.files import replacing
from liverattn.runs import RunFolder
from liverattn.training.module import LesionModule


class TaskCopies(Callback):
    """Records every epoch's outputs, and copies the weights whenever a task's AUC is as good as ever or better.

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
        improved = {task: value for task, value in aucs.items() if value >= self.best.get(task, -math.inf)}
        self.best |= improved
        if improved and trainer.is_global_zero:
            state = {name: value.cpu() for name, value in pl_module.model.state_dict().items()}
            content = {"epoch": trainer.current_epoch, "aucs": aucs, "state_dict": state, "config": self.config}
            path, *names = map(self.run.copy, improved)
            trainer.strategy.checkpoint_io.save_checkpoint(content, path, {"names": names})
        self._announce_undefined(aucs)

    def _announce_undefined(self, aucs: Mapping[str, float]) -> None:
        undefined = [task for task, value in aucs.items() if math.isnan(value)]
        if undefined and not self.announced:
            print(
                f"The AUC of {', '.join(undefined)} is undefined on the selecting cases (a class is absent or "
                "unlabeled): no copy is written for it, and the score's other weights are renormalized."
            )
        self.announced = True


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` after every epoch; a killed run resumes there bit for bit."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save everything that the next epoch depends on."""
        trainer.save_checkpoint(self.run.last, weights_only=False)  # all processes have to take part; the first writes


class WholeFiles(TorchCheckpointIO):
    """Files that appear whole or not at all, under one name or several.

    Nothing is written after a failure: within Lightning's ``AsyncCheckpointIO``, which writes in their order what
    training hands over, ``last.ckpt`` must not promise copies that are not there.
    """

    failed = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one file; ``storage_options["names"]`` are further names of it.

        Raises:
            InputError: The disk is full, or the folder is not writable.
        """
        if self.failed:
            return
        try:
            with replacing(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
            for name in (storage_options or {}).get("names", ()):
                with replacing(name) as temporary:
                    _link(Path(path), temporary)
        except BaseException:
            self.failed = True
            raise


def _link(path: Path, name: Path) -> None:
    try:
        name.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, name)
