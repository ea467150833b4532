"""The training loop's settings, and the Lightning trainer made of them."""

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LambdaCallback, LearningRateMonitor, TQDMProgressBar, WeightAveraging
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.plugins.io import AsyncCheckpointIO
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from liverattn.errors import InputError, expect_boolean, expect_choice, expect_number, expect_share, expect_whole
from liverattn.training.checkpoints import WholeFiles
from liverattn.training.distributed import stop_at_once
from liverattn.training.hardware import Hardware, choose_hardware, fits_on_gpu

# Lightning 2.6 with torch 2.14: its own call, nothing that a user can mend.
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
# What is used is chosen for the machine, or by the user.
warnings.filterwarnings("ignore", message=r"GPU available but not used")
warnings.filterwarnings("ignore", message=r"The '(train|val)_dataloader' does not have many workers")
# AUCs and speed are of all processes already when one of them logs them.
warnings.filterwarnings("ignore", message=r"It is recommended to use `self.log\('(val/auc|val/score|images_per_second)")

MOST_WORKERS = 128  # each is a process of its own, with memory of its own


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long, in what batches and on what to train.

    Attributes:
        max_epochs: Passes over the training cases.
        batch_size: Cases per step of one process: a step takes ``devices * batch_size``.
        balanced: Draw images without lesion, with a benign and with a malignant one equally often, with replacement, as
            many per epoch as there are. Else each training case comes once, as in the paper.
        mixup: Parameter a of Beta(a, a), from which mixup's gamma is drawn; 0 switches mixup off.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        precision: ``auto``, ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        channels_last: Memory format; None: what is fast here.
        probe: Time what is left open (``precision`` auto, ``channels_last`` None) for this network on this machine, and
            the number of threads; once, then it is remembered. Else it is decided by what processors are known for.
        num_workers: Loader processes of each process; None: what suits the machine.
        devices: Processes that train together, each on a GPU of its own or on the CPU. Gradients are averaged over
            them, batch statistics are not: they are those of each process's own cases, and the first one's are kept.
        strategy: ``ddp``, or ``auto``: that if there are several devices.
        ema: Decay of a running average of the weights, which is then validated and kept; None: no average.
        compile: Use ``torch.compile``.
        cuda_graphs: Launch the network's training pass as CUDA graphs: the same kernels, without waiting for Python.
            None: on one GPU, where the network allows it.
        data_on_device: Keep all prepared cases where the network is, and augment there: the same random transforms, in
            pixels that differ by rounding. None: on a GPU of whose memory they take at most a tenth.
        deterministic: ``auto`` (on a GPU: where a deterministic kernel exists), True (strict) or False.
        gradient_clip: Largest norm of the gradient; None: no limit.
        limit_batches: Train on only so many batches per epoch (debugging). Validation stays whole: of cases sorted by
            class, a part may lack one.
        overfit_batches: Train and validate on so many training batches (debugging).
        profiler: ``simple`` or ``advanced`` (debugging).
    """

    max_epochs: int
    batch_size: int = 16
    balanced: bool = False
    mixup: float = 0.2
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    channels_last: bool | None = None
    probe: bool = False
    num_workers: int | None = None
    devices: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    ema: float | None = None
    compile: bool = False
    cuda_graphs: bool | None = None
    data_on_device: bool | None = None
    deterministic: bool | Literal["auto"] = "auto"
    gradient_clip: float | None = None
    limit_batches: int | None = None
    overfit_batches: int = 0
    profiler: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        for name, least in {"max_epochs": 1, "batch_size": 2, "overfit_batches": 0, "devices": 1}.items():
            expect_whole(f"trainer.{name}", getattr(self, name), least)
        expect_whole("trainer.limit_batches", self.limit_batches, 1, null=True)
        expect_whole("trainer.num_workers", self.num_workers, 0, MOST_WORKERS, null=True)
        expect_number("trainer.mixup", self.mixup, 0)
        if self.gradient_clip is not None:
            expect_number("trainer.gradient_clip (null: no limit)", self.gradient_clip, 1e-9)
        if self.ema is not None:
            expect_share("trainer.ema", self.ema)
        for name in ("balanced", "probe", "compile"):
            expect_boolean(f"trainer.{name}", getattr(self, name))
        for name in ("channels_last", "cuda_graphs", "data_on_device"):
            expect_choice(f"trainer.{name}", getattr(self, name), (None, True, False))
        expect_choice("trainer.deterministic", self.deterministic, ("auto", True, False))
        expect_choice("trainer.profiler", self.profiler, (None, "simple", "advanced"))
        expect_choice("trainer.strategy", self.strategy, ("auto", "ddp"))
        if self.cuda_graphs and (self.compile or self.devices > 1):
            other = "trainer.compile=true" if self.compile else f"trainer.devices={self.devices}"
            raise InputError(f"trainer.cuda_graphs=true does not go together with {other}. Leave one of them out.")

    @property
    def leaves_choice(self) -> bool:
        """Precision, memory format and threads are to be timed; processes that share the cores are not."""
        return self.probe and self.precision == "auto" and self.channels_last is None and self.devices == 1

    def hardware(self) -> Hardware:
        """The usual choices for this machine.

        Raises:
            InputError: It is not what is asked for.
        """
        chosen = choose_hardware(self.accelerator, self.precision, self.channels_last, self.devices)
        self.captures(chosen)  # refuses what it cannot
        return chosen

    def captures(self, hardware: Hardware) -> bool:
        """Training goes through CUDA graphs.

        Raises:
            InputError: It has to, and cannot on this machine.
        """
        possible = hardware.accelerator == "gpu" and hardware.precision != "16-mixed"  # whose loss is scaled outside
        if self.cuda_graphs and not possible:
            raise InputError(
                "trainer.cuda_graphs=true needs a GPU and trainer.precision=bf16-mixed or 32-true, but got "
                f"{hardware.accelerator} and {hardware.precision}. Leave it out."
            )
        return possible and self.cuda_graphs is not False and self.devices == 1 and not self.compile

    def keeps_on_device(self, hardware: Hardware, cases: int, size: tuple[int, int]) -> bool:
        """Prepared cases of (height, width) = ``size`` stay where the network is."""
        if self.data_on_device is not None:
            return self.data_on_device
        return hardware.accelerator == "gpu" and fits_on_gpu(cases, size)

    def build(
        self, hardware: Hardware, folder: Path, callbacks: Sequence[Callback], logger: Logger | None
    ) -> pl.Trainer:
        """A Lightning trainer.

        Args:
            hardware: What was chosen for the machine.
            folder: Of the run.
            callbacks: In order; the weights average is put behind them, so that they see the averaged weights.
            logger: Of the metrics, or None.

        Raises:
            InputError: A folder whose name further processes cannot be given.
        """
        if self.devices > 1 and '"' in str(folder):
            raise InputError(
                f"trainer.devices={self.devices} cannot use the run folder {folder}: further processes cannot be given "
                "a path with a quotation mark. Choose another name, or another place with paths.outputs."
            )
        more: list[Callback] = [] if logger is None else [LearningRateMonitor("epoch")]
        if self.devices > 1:
            more.append(LambdaCallback(on_train_start=lambda *_: stop_at_once()))
        if self.ema is not None:
            # Interpolation leaves constants as they are (the image mean is a buffer, too); the sum of Lightning's own
            # class for this moves their last digits, and a resumed run would begin with them unmoved.
            more.append(WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(self.ema)))  # type: ignore[no-untyped-call]
        # Its advertisements and notes on hardware; warnings pass.
        for name in ("pytorch_lightning", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        is_terminal = sys.stderr.isatty()
        if is_terminal:
            more.append(TQDMProgressBar(leave=False))
        on_gpu = hardware.accelerator == "gpu"
        # Deterministic kernels do not need it: a further launch for every tensor, to find reads of unwritten memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return pl.Trainer(
            max_epochs=self.max_epochs,
            accelerator=hardware.accelerator,
            devices=self.devices,
            strategy=self.strategy,
            # The environment starts the processes itself, also within a job of a cluster that has only one task.
            plugins=[AsyncCheckpointIO(WholeFiles()), *([LightningEnvironment()] if self.devices > 1 else [])],
            use_distributed_sampler=False,  # our own one shares the rows
            precision=hardware.precision,
            callbacks=[*callbacks, *more],
            logger=logger if logger is not None else False,
            default_root_dir=folder,
            deterministic=("warn" if on_gpu else False) if self.deterministic == "auto" else self.deterministic,
            limit_train_batches=self.limit_batches,
            gradient_clip_val=self.gradient_clip,
            profiler=self._profiler(folder),
            enable_checkpointing=True,
            enable_progress_bar=is_terminal,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # nothing is logged per step; a larger number would only warn
        )

    def _profiler(self, folder: Path) -> Profiler | None:
        if self.profiler is None:
            return None
        kinds: dict[str, type[SimpleProfiler] | type[AdvancedProfiler]]
        kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
        print(f"Where the time goes will be written to {folder / 'fit-profile.txt'}")
        return kinds[self.profiler](dirpath=folder, filename="profile")
