"""One fold run, from prepared cases to a finished run folder."""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import yaml
from numpy.typing import NDArray

from liverattn.data.augmentation import Augmentation
from liverattn.data.cache import PreparedCases
from liverattn.data.datamodule import LesionDataModule, loader_errors
from liverattn.data.datasets import CaseDataset
from liverattn.data.labels import kinds_of_lesion
from liverattn.data.manifest import Manifest
from liverattn.data.targets import Reduction
from liverattn.errors import InputError
from liverattn.evaluation.scores import Task
from liverattn.files import replacing, staging, write_json
from liverattn.models.classifier import LesionClassifier
from liverattn.provenance import flat_parameters
from liverattn.reporting.figures import attention_figure, roc_figure
from liverattn.runs import RunFolder, write_table
from liverattn.tracking import MlflowTracking, Tracking
from liverattn.training.checkpoints import LastCheckpoint, TaskCopies, with_config
from liverattn.training.distributed import is_leader, leading
from liverattn.training.hardware import Hardware
from liverattn.training.module import LesionModule
from liverattn.training.optimization import SgdRecipe
from liverattn.training.outputs import Outputs, read_outputs
from liverattn.training.progress import EpochLines
from liverattn.training.protocol import FoldRows
from liverattn.training.results import (
    attention_panels,
    case_table,
    epoch_aucs,
    epoch_predictions,
    fold_predictions,
    protocol_epochs,
    roc_panels,
    run_metrics,
)
from liverattn.training.trainer import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class FoldRun:
    """Everything that one fold run is made of.

    Attributes:
        run: Where it is written.
        manifest: n cases.
        cases: The same, prepared.
        labels: (n, K) for the loss, NaN where unknown.
        truth: (n, K) for the evaluation, NaN where unknown.
        tasks: With K outputs in all.
        rows: To train on, held out, to select by.
        protocol: Whose numbers are shown first; one of those that the training serves.
        model: The network.
        alpha: Weight of the attention loss.
        recipe: Optimizer.
        augmentation: Of the training images.
        reduction: Of the box mask to the grid.
        clip: Limit rescaled intensities to 255.
        settings: Of the training loop.
        hardware: What was chosen for the machine.
        tracking: Where numbers go.
        tags: What people filter runs by.
        config: The composed configuration, plain.
        seed: Of order, augmentation and mixup.
        in_sweep: A tracking server that is lost since the sweep began does not keep it from training.
    """

    run: RunFolder
    manifest: Manifest
    cases: PreparedCases
    labels: NDArray[np.float32]
    truth: NDArray[np.float32]
    tasks: Sequence[Task]
    rows: FoldRows
    protocol: str
    model: LesionClassifier
    alpha: float
    recipe: SgdRecipe
    augmentation: Augmentation
    reduction: Reduction
    clip: bool
    settings: TrainerSettings
    hardware: Hardware
    tracking: Tracking
    tags: Mapping[str, str]
    config: Mapping[str, Any]
    seed: int
    in_sweep: bool = False

    def execute(self) -> None:
        """Train (or go on training), evaluate every copy, write and track the results."""
        logger = self._logger() if is_leader() else None
        seconds = self._fit(logger)
        if not is_leader():
            return
        predictions = self._write_pictures_and_predictions()
        by_protocol = {
            name: run_metrics(rows, self.tasks) for name, rows in predictions.groupby("protocol", sort=False)
        }
        metrics = {
            "protocols": by_protocol,
            "cases": {part: len(chosen) for part, chosen in vars(self.rows).items()},
            "seconds": seconds,
            "digests": self.run.digests(),
        }
        self._track(logger, predictions, metrics)
        write_json(self.run.metrics, metrics)  # last: who is killed while the results are sent sends them again

    def _logger(self) -> Any:
        if not isinstance(self.tracking, MlflowTracking):
            return None
        known = self.run.record().get("mlflow_run_id")
        try:
            with self.tracking.usable():
                logger = self.tracking.logger(f"{self.config['name']}/{self.run.path.name}", self.tags, known)
                if logger.run_id != known:  # MLflow refuses parameters that changed, such as places
                    self.run.update_record(mlflow_run_id=logger.run_id)
                    logger.log_hyperparams(flat_parameters(self.tracking.shared_config(self.config)))
        except InputError as error:
            if not self.in_sweep:
                raise
            self._say_untracked(error)
            return None
        return logger

    def _say_untracked(self, error: Exception) -> None:
        said = str(error).strip().partition("\n")[0]
        print(
            f"Not tracked ({self.run.path} has all results; to track it later, remove its metrics.json and give the "
            f"same command again, nothing is trained again): {said}"
        )

    def _fit(self, logger: Any) -> float:
        run, size = self.run, self.cases.size
        module = LesionModule(
            self.model, recipe=self.recipe, alpha=self.alpha, mixup_beta=self.settings.mixup, seed=self.seed
        )
        if self.hardware.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if self.settings.compile:
            module.compile_network()
        if self.settings.captures(self.hardware):
            module.capture(required=self.settings.cuda_graphs is True)
        copies = TaskCopies(run, self.tasks, self.truth, self.config, self._selecting)
        trainer = self.settings.build(
            self.hardware, run.path, [copies, EpochLines(copies), LastCheckpoint(run, copies)], logger
        )
        started = time.perf_counter()
        resume = str(run.last) if run.last.exists() else None
        data = self._data(self.model.grid(*size))
        try:
            with leading(trainer), loader_errors(), self.hardware.limited_threads():
                trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        except SystemExit:  # how Lightning passes Ctrl-C on
            raise KeyboardInterrupt from None
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"The GPU has too little free memory ({str(error).splitlines()[0]}). Run fewer cells at once "
                f"(hydra.launcher.n_jobs), lower trainer.batch_size={self.settings.batch_size}, or leave the cases on "
                "disk (trainer.data_on_device=false). What is finished stays."
            ) from error
        return time.perf_counter() - started

    def _data(self, grid: tuple[int, int]) -> pl.LightningDataModule:
        dataset = functools.partial(
            CaseDataset, self.cases, self.labels, grid=grid, reduction=self.reduction, seed=self.seed
        )
        train_rows, validation_rows = self.rows.train, np.union1d(self.rows.held_out, self.rows.selection)
        settings = self.settings
        if settings.overfit_batches:  # Lightning's own switch would put another sampler in
            count = settings.overfit_batches * settings.batch_size * settings.devices
            train_rows = validation_rows = train_rows[:count]
        return LesionDataModule(
            train=dataset(augmentation=self.augmentation),
            validation=dataset(augmentation=None),
            train_rows=train_rows,
            validation_rows=validation_rows,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            on_gpu=self.hardware.accelerator == "gpu",
            resident=settings.keeps_on_device(self.hardware, len(self.cases), self.cases.size),
            captured=settings.captures(self.hardware),
            clip=self.clip,
            seed=self.seed,
            kinds=kinds_of_lesion(self.manifest.table) if settings.balanced else None,
            processes=settings.devices,
        )

    @property
    def _selecting(self) -> NDArray[np.int64]:
        return self.rows.selection[:0] if self.settings.overfit_batches else self.rows.selection

    def _write_pictures_and_predictions(self) -> pd.DataFrame:
        lambdas = self.model.lambdas
        every = (read_outputs(self.run.epoch(epoch)) for epoch in range(self.settings.max_epochs))
        aucs = epoch_aucs(every, self._selecting, self.truth, self.tasks)
        with replacing(self.run.epochs) as temporary:
            aucs.to_csv(temporary, index=False)
        chosen = protocol_epochs(aucs, self.tasks)
        if not chosen[self.protocol]:
            raise InputError(
                "No task has a defined AUC on the selecting cases, so no epoch could be chosen: each class of at least "
                "one task must occur there. Use fewer folds (protocol.folds, protocol.inner_folds) or more cases."
            )
        recorded = {
            epoch: read_outputs(self.run.epoch(epoch)) for epochs in chosen.values() for epoch in epochs.values()
        }
        held_out = {epoch: outputs.only(self._selecting, keep=False) for epoch, outputs in recorded.items()}
        tables = {
            epoch: epoch_predictions(outputs, self.manifest, self.cases, self.truth, self.tasks, lambdas)
            for epoch, outputs in held_out.items()
        }
        predictions = fold_predictions(tables, chosen)
        self.run.write_predictions(predictions)
        self._write_cases_and_selection(recorded, chosen)
        shown = predictions[predictions["protocol"] == self.protocol]
        roc_figure(roc_panels(shown, self.tasks), self.run.path / "roc.png")
        first = next(iter(chosen[self.protocol].values()))
        panels = attention_panels(held_out[first], self.cases, self.truth[:, 0], lambdas)
        attention_figure(panels, self.run.path / "attention.png")
        return predictions

    def _write_cases_and_selection(
        self, recorded: Mapping[int, Outputs], chosen: Mapping[str, Mapping[str, int]]
    ) -> None:
        rows, grid = self.rows, self.model.grid(*self.cases.size)
        write_table(case_table(rows.held_out, rows.train, self.manifest, self.cases, grid), self.run.cases)
        if "inner" in chosen:
            served = {protocol: chosen[protocol] for protocol in ("inner", "last")}
            selecting = {
                epoch: epoch_predictions(
                    recorded[epoch].only(self._selecting), self.manifest, self.cases, self.truth, self.tasks,
                    self.model.lambdas,
                )
                for epochs in served.values() for epoch in epochs.values()
            }  # fmt: skip
            write_table(fold_predictions(selecting, served), self.run.selection)

    def _track(self, logger: Any, predictions: pd.DataFrame, metrics: Mapping[str, Any]) -> None:
        if logger is None:
            return
        try:
            with staging(self.run.path / "upload") as folder:
                self._upload(logger, folder, predictions, metrics)
        except Exception as error:  # whatever a lost server brings about: the results are written
            self._say_untracked(error)

    def _upload(self, logger: Any, folder: Path, predictions: pd.DataFrame, metrics: Mapping[str, Any]) -> None:
        config = self.tracking.shared_config(self.config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        write_json(folder / "environment.json", self.run.record()["environment"])
        write_json(folder / "metrics.json", metrics)
        self.tracking.shared_predictions(predictions).to_parquet(folder / "predictions.parquet", index=False)
        files: dict[Path, str | None] = {path: None for path in sorted(folder.iterdir())}
        files |= {self.run.path / name: None for name in ("roc.png", "attention.png")}
        copies = [path for task in self.tasks if (path := self.run.copy(task.name)).exists()]
        if config != self.config:
            copies = [with_config(path, config, folder / path.name) for path in copies]
        files |= dict.fromkeys(copies, "checkpoints")
        self.tracking.upload(logger, files, self._final_numbers(metrics["protocols"]))

    def _final_numbers(self, by_protocol: Mapping[str, Any]) -> dict[str, float]:
        shown = by_protocol[self.protocol]
        numbers = {f"final/auc_output_{name}": value for name, value in shown["outputs"].items()}
        numbers |= {f"attention/{name}": value for name, value in shown["attention"].items()}
        for protocol, metrics in by_protocol.items():
            prefix = "final" if protocol == self.protocol else f"final_{protocol}"
            numbers |= {f"{prefix}/auc_{task}": value for task, value in metrics["auc"].items()}
            numbers[f"{prefix}/score"] = metrics["score"]
        return numbers
