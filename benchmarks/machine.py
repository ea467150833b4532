"""What a number was measured on."""

import os

import torch

from liverattn.training.hardware import choose_hardware, processor


def described() -> str:
    """Processor or GPU, cores, precision that ``trainer=auto`` starts from, and torch."""
    chosen = choose_hardware()
    device = torch.cuda.get_device_name() if chosen.accelerator == "gpu" else processor()
    return f"{device}, {os.cpu_count()} cores, {chosen.precision}, torch {torch.__version__}"
