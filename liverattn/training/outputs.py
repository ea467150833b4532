"""What a network said of the cases that it is not trained on, as every epoch records it; needs no torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from liverattn.errors import InputError
from liverattn.files import replacing
from liverattn.runs import anew


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
        """Write to a safetensors file: a few kilobytes."""
        with replacing(path) as temporary:
            # safetensors writes an array's memory, whatever its strides say.
            save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, temporary)


def read_outputs(path: Path) -> Outputs:
    """Read what :meth:`Outputs.write` wrote.

    Raises:
        InputError: Absent or damaged.
    """
    try:
        return Outputs(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}). {anew(path.parent.parent)}") from error
