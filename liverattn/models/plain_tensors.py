"""Files that ``torch.save`` wrote, read without executing anything in them."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def load_plain(path: Path) -> Any:
    """Plain tensors and values, on the CPU.

    Raises:
        ValueError: Its parts are larger than the file. torch compresses nothing, so somebody else packed it, and it
            could fill the memory.
        Exception: torch raises a dozen kinds for damaged files, and ``UnpicklingError`` for code.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > path.stat().st_size:
            raise ValueError(f"it would unpack to {size / 1e6:.0f} MB, which torch does not write")
    return torch.load(path, "cpu", weights_only=True)
