"""What ``auto`` chooses on a given machine, and what is refused."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from liverattn.errors import InputError
from liverattn.training.hardware import Hardware, choose_hardware


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> "Machine":
    return Machine(monkeypatch)


class Machine:
    """Pretends to another machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    def has(
        self, *, gpu: bool, gpus: int = 1, gpu_bfloat16: bool = False, cpu: dict[str, object] | None = None
    ) -> None:
        self.patch.setattr(torch.cuda, "is_available", lambda: gpu)
        self.patch.setattr(torch.cuda, "device_count", lambda: gpus if gpu else 0)
        self.patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu_bfloat16)
        if cpu is None:
            self.patch.delattr(torch.cpu, "get_capabilities", raising=False)
        else:
            self.patch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed"),
        ({"avx2": True, "avx512_bf16": False}, "32-true"),
        ({}, "32-true"),
        (None, "32-true"),  # a torch that cannot tell
    ],
)
def test_a_processor_gets_bfloat16_only_with_its_instructions(
    machine: Machine, capabilities: dict[str, object] | None, precision: str
) -> None:
    machine.has(gpu=False, cpu=capabilities)
    assert choose_hardware() == Hardware("cpu", precision, True)  # type: ignore[arg-type]
    assert choose_hardware("cpu") == choose_hardware("auto")


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_is_taken_if_there_is_one(machine: Machine, native: bool, precision: str) -> None:
    machine.has(gpu=True, gpu_bfloat16=native, cpu={"avx512_bf16": True})
    assert choose_hardware() == choose_hardware("gpu") == Hardware("gpu", precision, True)  # type: ignore[arg-type]
    assert choose_hardware("cpu") == Hardware("cpu", "bf16-mixed", True)


def test_what_is_given_is_kept(machine: Machine) -> None:
    machine.has(gpu=False, cpu={"avx512_bf16": True})
    assert choose_hardware(precision="32-true", channels_last=False) == Hardware("cpu", "32-true", False)
    with pytest.raises(InputError, match=r"32-true or bf16-mixed on the CPU, but got 16-mixed, which needs a GPU"):
        choose_hardware(precision="16-mixed")
    machine.has(gpu=True)
    assert choose_hardware(precision="16-mixed", channels_last=True).precision == "16-mixed"


def test_a_gpu_that_is_not_there_is_refused(machine: Machine) -> None:
    machine.has(gpu=False)
    with pytest.raises(InputError, match=r"no GPU that torch can use\. Use trainer=auto or trainer=cpu"):
        choose_hardware("gpu")


def test_more_processes_than_gpus_are_refused(machine: Machine) -> None:
    machine.has(gpu=True, gpus=2)
    assert choose_hardware(devices=2).accelerator == "gpu"
    with pytest.raises(InputError, match=r"trainer.devices to be at most 2, the number of GPUs .* but got 4"):
        choose_hardware(devices=4)
    assert choose_hardware("cpu", devices=4).accelerator == "cpu"


def test_unknown_choices_list_the_valid_ones() -> None:
    with pytest.raises(InputError, match="accelerator to be auto, cpu or gpu, but got tpu"):
        choose_hardware("tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"auto, 32-true, bf16-mixed or 16-mixed, but got 64-true"):
        choose_hardware(precision="64-true")  # type: ignore[arg-type]


def test_this_machine_can_be_chosen_for() -> None:
    chosen = choose_hardware()
    assert chosen.accelerator == ("gpu" if torch.cuda.is_available() else "cpu")
    assert chosen.precision in ("32-true", "bf16-mixed", "16-mixed")


KEPT = """
import os, torch
from liverattn.training.hardware import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

keep_freed_memory()
before = resident()
for _ in range(3):
    parts = [torch.ones(16, 2**20) for _ in range(4)]  # 64 MiB each
    del parts
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("variable", "kept"),
    [
        ({}, True),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, False),
    ],
)
def test_freed_memory_is_kept_for_the_next_step_unless_the_user_tunes(variable: dict[str, str], kept: bool) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    done = subprocess.run(
        [sys.executable, "-c", KEPT], capture_output=True, text=True, check=True, env=plain | variable
    )

    mebibytes = int(done.stdout)
    assert mebibytes > 250 if kept else mebibytes < 64, mebibytes
