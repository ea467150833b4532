"""Batches of prepared cases, with a stream of randomness that depends on (seed, epoch, case) only."""

import os
from collections.abc import Iterator
from typing import Any, TypedDict

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from liverattn.data.augmentation import Augmentation
from liverattn.data.cache import PreparedCases
from liverattn.data.targets import Reduction, boxes_to_mask, mask_to_grid
from liverattn.errors import InputError

NO_BOXES = np.zeros((0, 4))


class Batch(TypedDict):
    """B cases; K outputs; h w grid; H W image.

    ``image`` (B, 1, H, W): uint8 from a loader, float32 on 0 to 255 after Eq. 1 on the device. ``factor`` (B,): 70 / m.
    ``labels`` (B, K) in [0, 1], 0 where unknown. ``label_weight`` (B, K): 1 known, 0 unknown, between after mixup.
    ``target`` (B, 1, h, w) in [0, 1]. ``target_weight`` (B,): 1 where boxes are known. ``row`` (B,): of the manifest.
    """

    image: Tensor
    factor: Tensor
    labels: Tensor
    label_weight: Tensor
    target: Tensor
    target_weight: Tensor
    row: Tensor


class CaseDataset(Dataset[dict[str, Any]]):
    """Prepared cases by (row, epoch).

    Args:
        cases: All prepared cases.
        labels: (n, K) float32, NaN where unknown.
        grid: (h, w) of the backbone's feature map.
        reduction: Of the mask to the grid.
        augmentation: None on a validation set.
        seed: Of the augmentation.
    """

    def __init__(
        self,
        cases: PreparedCases,
        labels: NDArray[np.float32],
        *,
        grid: tuple[int, int],
        reduction: Reduction = "area",
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.cases, self.grid, self.reduction, self.seed = cases, grid, reduction, seed
        self.labels, self.label_weight = np.nan_to_num(labels), (~np.isnan(labels)).astype(np.float32)
        self.augment = None if augmentation is None else augmentation.build(cases.size)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """One case; ``key`` is (row of the manifest, epoch)."""
        row, epoch = key
        boxes = self.cases.boxes[row]
        image = self.cases.image(row)
        mask = boxes_to_mask(NO_BOXES if boxes is None else boxes, self.cases.size)
        if self.augment is not None:
            image, mask = self.augment(image, mask, (self.seed, epoch, row))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image))[None],
            "factor": self.cases.factors[row],
            "labels": self.labels[row],
            "label_weight": self.label_weight[row],
            "target": mask_to_grid(mask, self.grid, self.reduction)[None],
            "target_weight": np.float32(boxes is not None),
            "row": row,
        }


class EpochSampler(Sampler[tuple[int, int]]):
    """One process's share of the rows, paired with the epoch, in an order that depends on (seed, epoch) only.

    Of P processes, number r takes the places r, r + P, r + 2P, ... of the common order: what all take in a step is what
    one process takes with P times the batch size. Processes wait for each other in every step, so all get equally many
    rows: shuffled rows that are left over are left out, others in every epoch; rows in their own order are never left
    out, at most P - 1 of them come twice.

    Lightning calls ``set_epoch``; a resumed run begins with the epoch given here, because its first iterator is made
    before that call.

    Args:
        rows: (n,) of the manifest.
        seed: Of the order.
        shuffle: Another order in every epoch; else the rows' own.
        kinds: (n,) what each row shows: shuffled rows are drawn with replacement, every kind equally often on average.
            None: each row once.
        epoch: From 0.
        rank: r, from 0.
        processes: P.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        *,
        seed: int,
        shuffle: bool,
        kinds: NDArray[np.int64] | None = None,
        epoch: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.rows, self.seed, self.shuffle, self.epoch = rows, seed, shuffle, epoch
        self.rank, self.processes = rank, processes
        self.probabilities: NDArray[np.float64] | None = None
        if kinds is not None:
            _, kind, counts = np.unique(kinds, return_inverse=True, return_counts=True)
            self.probabilities = 1 / (len(counts) * counts[kind])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.processes)
        return whole if self.shuffle or rest == 0 else whole + 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, n = self.epoch, len(self.rows)
        generator, order = np.random.default_rng([self.seed, epoch]), np.arange(n)
        if self.shuffle and self.probabilities is None:
            order = generator.permutation(n)
        elif self.shuffle:
            order = generator.choice(n, n, p=self.probabilities)
        places = self.rank + self.processes * np.arange(len(self))
        return ((int(row), epoch) for row in self.rows[order[places % n]])


def _limit_threads(worker: int = 0) -> None:
    cv2.setNumThreads(0)  # one case is too small for threads to pay, and the network needs the cores


class LesionDataModule(pl.LightningDataModule):
    """Training and validation batches of one fold.

    Args:
        train: Training cases.
        validation: Held-out cases: the same arrays without augmentation.
        train_rows: Rows of the manifest to train on.
        validation_rows: Rows held out.
        batch_size: Cases per step of one process.
        num_workers: Loader processes; None: 0 on a CPU (the network needs the cores more than a 0.3 ms augmentation
            does), else one per core up to 8.
        clip: Limit rescaled intensities to 255.
        seed: Of order and augmentation; neither depends on the number of processes.
        kinds: (n,) of all cases: train on every kind equally often (:class:`EpochSampler`). None: on every case once.
        processes: How many train together, each on its share of the rows.

    Raises:
        InputError: Too few training cases for so many processes.
    """

    def __init__(
        self,
        *,
        train: CaseDataset,
        validation: CaseDataset,
        train_rows: NDArray[np.int64],
        validation_rows: NDArray[np.int64],
        batch_size: int,
        num_workers: int | None,
        clip: bool,
        seed: int,
        kinds: NDArray[np.int64] | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__()
        if processes > 1 and len(train_rows) < 2 * processes:
            raise InputError(
                f"trainer.devices={processes} needs at least {2 * processes} training cases, two for each process, but "
                f"there are {len(train_rows)}. Lower trainer.devices."
            )
        _limit_threads()
        self.datasets = {"train": train, "validation": validation}
        self.rows = {"train": train_rows, "validation": validation_rows}
        self.batch_size, self.clip, self.seed, self.kinds = batch_size, clip, seed, kinds
        self.on_accelerator = torch.cuda.is_available()
        automatic = min((os.cpu_count() or 1) // processes, 8) if self.on_accelerator else 0
        self.num_workers = automatic if num_workers is None else num_workers
        self.processes = processes
        self._first_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """The epoch that a resumed run begins with."""
        assert self.trainer is not None
        return {"next_epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with the saved epoch."""
        self._first_epoch = state_dict["next_epoch"]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled and augmented."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """In the manifest's order."""
        return self._loader("validation", shuffle=False)

    def _loader(self, part: str, *, shuffle: bool) -> DataLoader[dict[str, Any]]:
        sampler = EpochSampler(
            self.rows[part],
            seed=self.seed,
            shuffle=shuffle,
            kinds=None if self.kinds is None else self.kinds[self.rows[part]],
            epoch=self._first_epoch,
            rank=0 if self.trainer is None else self.trainer.global_rank,
            processes=self.processes,
        )
        return DataLoader(
            self.datasets[part],
            batch_size=self.batch_size,
            sampler=sampler,
            # A last batch of a few cases makes noisy batch statistics; the order changes, so no case is lost for good.
            drop_last=shuffle and len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.on_accelerator,
            worker_init_fn=_limit_threads,
            multiprocessing_context="spawn" if self.num_workers and self.on_accelerator else None,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Apply Eq. 1's factor on the device, in float32: exact, and a quarter of the bytes on the way there."""
        image = batch["image"].to(torch.float32, copy=True).mul_(batch["factor"].view(-1, 1, 1, 1))
        return {**batch, "image": image.clamp(max=255.0) if self.clip else image}
