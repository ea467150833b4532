"""Batches of prepared cases, with a stream of randomness that depends on (seed, epoch, case) only."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from liverattn.data.datasets import CaseDataset, limit_threads
from liverattn.data.resident import DrawnCases, ResidentCases
from liverattn.errors import InputError

VALIDATED_AT_ONCE = 4  # times as many cases as in a training step


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
        kinds: (n,) what each row shows: shuffled rows are drawn with replacement, every kind equally often on average,
            those of no kind (-1) as often as their share of the rows. None: each row once.
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
            found, kind, counts = np.unique(kinds, return_inverse=True, return_counts=True)
            of_a_kind = (found >= 0).sum()
            balanced = (kinds >= 0).mean() / max(of_a_kind, 1) / counts[kind]
            self.probabilities = np.where(kinds >= 0, balanced, 1 / len(kinds))

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


class LesionDataModule(pl.LightningDataModule):
    """Training and validation batches of one fold.

    Args:
        train: Training cases.
        validation: Held-out cases: the same arrays without augmentation.
        train_rows: Rows of the manifest to train on.
        validation_rows: Rows held out.
        batch_size: Cases per step of one process.
        num_workers: Loader processes; None: 0 on a CPU (the network needs the cores more than a 0.3 ms augmentation
            does), else one per core that this process was given, up to 8.
        on_gpu: The network is on a GPU.
        resident: Keep all cases on the network's device and augment there; then nothing is loaded.
        captured: Augment there through CUDA graphs.
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
        on_gpu: bool = False,
        resident: bool = False,
        captured: bool = False,
        kinds: NDArray[np.int64] | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__()
        if processes > 1 and len(train_rows) < 2 * processes:
            raise InputError(
                f"trainer.devices={processes} needs at least {2 * processes} training cases, two for each process, but "
                f"there are {len(train_rows)}. Lower trainer.devices."
            )
        limit_threads()
        self.datasets = {"train": train, "validation": validation}
        self.drawn = {part: DrawnCases(cases) for part, cases in self.datasets.items()} if resident else None
        self.resident: ResidentCases | None = None
        self.rows = {"train": train_rows, "validation": validation_rows}
        self.batch_size, self.clip, self.seed, self.kinds = batch_size, clip, seed, kinds
        # Cells that run side by side share the cores; their threads are limited to each one's part.
        cores = min(os.cpu_count() or 1, torch.get_num_threads()) // processes
        automatic = min(cores, 8) if on_gpu else 0
        self.num_workers = 0 if resident else automatic if num_workers is None else num_workers
        self.on_gpu, self.captured = on_gpu, captured
        # A process that uses a GPU must not be forked. One that has loaded what workers need is, in its place.
        self.context = multiprocessing.get_context("forkserver") if on_gpu and self.num_workers else None
        if self.context is not None:
            self.context.set_forkserver_preload(["__main__", CaseDataset.__module__, "albumentations"])
            forkserver.ensure_running()
        self.processes = processes
        self._first_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """The epoch that a resumed run begins with."""
        assert self.trainer is not None
        return {"next_epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with the saved epoch."""
        self._first_epoch = state_dict["next_epoch"]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled and augmented."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """In the manifest's order."""
        return self._loader("validation", shuffle=False)

    def _loader(self, part: str, *, shuffle: bool) -> DataLoader[dict[str, Tensor]]:
        sampler = EpochSampler(
            self.rows[part],
            seed=self.seed,
            shuffle=shuffle,
            kinds=None if self.kinds is None else self.kinds[self.rows[part]],
            epoch=self._first_epoch,
            rank=0 if self.trainer is None else self.trainer.global_rank,
            processes=self.processes,
        )
        # Without gradients a GPU has room for more cases, and more to do per launch.
        batch_size = self.batch_size if shuffle or not self.on_gpu else VALIDATED_AT_ONCE * self.batch_size
        dataset: Dataset[dict[str, Tensor]] = self.datasets[part] if self.drawn is None else self.drawn[part]
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            # A last batch of a few cases makes noisy batch statistics; the order changes, so no case is lost for good.
            drop_last=shuffle and len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.on_gpu and self.drawn is None,
            worker_init_fn=limit_threads,
            multiprocessing_context=self.context,
            collate_fn=_made,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Apply Eq. 1's factor on the device, in float32: exact, and a quarter of the bytes on the way there."""
        if self.drawn is not None:
            if self.resident is None:
                self.resident = ResidentCases(self.datasets["train"], batch["row"].device, captured=self.captured)
            batch = self.resident.batch(batch)
        image = batch["image"].to(torch.float32, copy=True).mul_(batch["factor"].view(-1, 1, 1, 1))
        return {**batch, "image": image.clamp(max=255.0) if self.clip else image}


def _made(batch: Any) -> Any:
    """Nothing to put together: the data sets make whole batches."""
    return batch


@contextmanager
def loader_errors() -> Iterator[None]:
    """Tell in one line what went wrong in a loader process.

    Raises:
        InputError: One met such an error (torch puts its stack trace before the message), or was killed.
        KeyboardInterrupt: One was stopped by SIGTERM, which schedulers send to all processes of a command.
    """
    try:
        yield
    except InputError as error:
        if "in DataLoader worker process" not in str(error):
            raise
        raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        if f"killed by signal: {signal.strsignal(signal.SIGTERM)}" in f"{error} {error.__cause__}":
            raise KeyboardInterrupt from error
        raise InputError(
            f"A loader process is gone; was the memory full, or /dev/shm? ({str(error).splitlines()[0].strip()}) The "
            "same command goes on from the last whole epoch; trainer.num_workers=0 needs no such process."
        ) from error
