"""What ``auto`` chooses on a given machine, and what is refused."""

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
    with pytest.raises(InputError, match="accelerator to be auto, cpu or gpu, but got 'tpu'"):
        choose_hardware("tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"auto, 32-true, bf16-mixed or 16-mixed, but got '64-true'"):
        choose_hardware(precision="64-true")  # type: ignore[arg-type]


def test_this_machine_can_be_chosen_for() -> None:
    chosen = choose_hardware()
    assert chosen.accelerator == ("gpu" if torch.cuda.is_available() else "cpu")
    assert chosen.precision in ("32-true", "bf16-mixed", "16-mixed")
