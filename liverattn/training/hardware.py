"""Precision and memory format for this machine (``trainer=auto``), and what its C library does with freed memory."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from liverattn.errors import InputError, expect_choice

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

RESIDENT_SHARE = 0.1  # of a GPU's memory
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # names of mallopt's parameters in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep memory that torch frees on the CPU for the next step.

    A step of training asks for hundreds of large tensors and frees them. glibc returns the largest to the system, which
    clears every page anew when it is next written: up to a sixth of a fold run (``benchmarks/README.md``). Kept, they
    are there; the process holds its peak, some of it between tensors, until it ends. Results do not change by a bit.
    Huge pages in addition are as fast on average, and take a tenth to a fifth more memory.

    Does nothing where the C library is not glibc, and where the user has tuned it: by a variable such as
    ``MALLOC_ARENA_MAX`` or by ``GLIBC_TUNABLES``.
    """
    tuned = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if tuned or sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, -1)


@dataclass(frozen=True)
class Hardware:
    """What was chosen.

    Attributes:
        accelerator: ``cpu`` or ``gpu``.
        precision: Of the forward and backward pass; weights stay float32.
        channels_last: Memory format of the network.
        threads: Of the CPU; all that this process was given, unless fewer are faster.
    """

    accelerator: Literal["cpu", "gpu"]
    precision: Precision
    channels_last: bool
    threads: int = field(default_factory=torch.get_num_threads)

    @property
    def machine(self) -> str:
        """What computes, in words: model and number of threads, or of GPUs."""
        if self.accelerator == "gpu":
            return torch.cuda.get_device_name()
        return f"{processor()}, {self.threads} threads"

    def autocast(self) -> torch.autocast:
        """What a forward pass runs in."""
        device = "cuda" if self.accelerator == "gpu" else "cpu"
        dtype = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        return torch.autocast(device, dtype, enabled=self.precision != "32-true")

    @contextmanager
    def limited_threads(self) -> Iterator[None]:
        """Within it, torch uses these threads; the next cell of a sweep has all again."""
        before = torch.get_num_threads()
        torch.set_num_threads(min(self.threads, os.cpu_count() or 1))  # a run may go on on a smaller machine
        try:
            yield
        finally:
            torch.set_num_threads(before)


def fits_on_gpu(cases: int, size: tuple[int, int]) -> bool:
    """Prepared cases and their masks take little of a GPU's memory, which the cells of a sweep may share.

    Args:
        cases: Their number.
        size: (height, width) of the prepared images.
    """
    memory: int = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return 2 * cases * size[0] * size[1] <= RESIDENT_SHARE * memory


def processor() -> str:
    """Name of the processor, as far as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def choose_hardware(
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto",
    channels_last: bool | None = None,
    devices: int = 1,
) -> Hardware:
    """Fill in what is left to the machine.

    Measured on two cores with AVX-512 bf16 at 240x345, training ms per image, float32 contiguous against bfloat16
    channels_last: ResNet50 244 and 64, DenseNet121 241 and 58, MobileNetV2 82 and 25. A processor without bfloat16
    instructions emulates them several times slower than float32, so they are asked for.

    Raises:
        InputError: More GPUs are asked for than are there, float16 on the CPU, or an unknown choice.
    """
    expect_choice("trainer.accelerator", accelerator, ("auto", "cpu", "gpu"))
    expect_choice("trainer.precision", precision, ("auto", "32-true", "bf16-mixed", "16-mixed"))
    has_gpu = torch.cuda.is_available()
    if accelerator == "gpu" and not has_gpu:
        raise InputError("trainer=gpu: this machine has no GPU that torch can use. Use trainer=auto or trainer=cpu.")
    chosen: Literal["cpu", "gpu"] = "gpu" if has_gpu and accelerator != "cpu" else "cpu"
    if chosen == "gpu" and devices > torch.cuda.device_count():
        raise InputError(
            f"Expected trainer.devices to be at most {torch.cuda.device_count()}, the number of GPUs that torch can "
            f"use, but got {devices}. On the CPU (trainer.accelerator=cpu) there is no limit."
        )
    if chosen == "cpu" and precision == "16-mixed":  # torch would take bfloat16, and the records say float16
        raise InputError(
            "Expected trainer.precision to be auto, 32-true or bf16-mixed on the CPU, but got 16-mixed, which needs a "
            "GPU."
        )
    return Hardware(
        accelerator=chosen,
        precision=_fast_precision(chosen) if precision == "auto" else precision,
        channels_last=True if channels_last is None else channels_last,
    )


def _fast_precision(accelerator: str) -> Precision:
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if _cpu_has_bfloat16() else "32-true"


def _cpu_has_bfloat16() -> bool:
    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # newer than the oldest torch that we allow
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
