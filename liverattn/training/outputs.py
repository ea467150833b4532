"""What a network said of the cases that it is not trained on, as every epoch records it; needs no torch."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from liverattn.errors import InputError
from liverattn.files import replacing
from liverattn.runs import anew

CHECKSUM = "crc32"


@dataclass(frozen=True)
class Outputs:
    """What the network says of the cases that it is not trained on, in the order of their rows.

    Attributes:
        rows: (n,) rows of the manifest, each once.
        logits: (n, K) float32.
        scores: (n, h, w) float32, attention logits s.
    """

    rows: NDArray[np.int64]
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]

    def only(self, rows: NDArray[np.int64], *, keep: bool = True) -> "Outputs":
        """The outputs of some cases, or with ``keep=False`` those of all others."""
        chosen = np.isin(self.rows, rows) == keep
        return self if chosen.all() else Outputs(self.rows[chosen], self.logits[chosen], self.scores[chosen])

    def write(self, path: Path) -> None:
        """Write to a safetensors file: a few kilobytes, with a checksum."""
        # safetensors writes an array's memory, whatever its strides say.
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self).items()}
        with replacing(path) as temporary:
            save_file(arrays, temporary, {CHECKSUM: _checksum(arrays)})


def read_outputs(path: Path) -> Outputs:
    """Read what :meth:`Outputs.write` wrote; files of older versions have no checksum.

    Raises:
        InputError: Absent or damaged.
    """
    try:
        with safe_open(path, "numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            recorded = (opened.metadata() or {}).get(CHECKSUM)
        outputs = Outputs(**arrays)
        if recorded not in (None, _checksum(arrays)):
            raise ValueError("its content is not what was written")
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}). {anew(path.parent.parent)}") from error
    return outputs


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    return str(zlib.crc32(b"".join(arrays[name].tobytes() for name in sorted(arrays))))
