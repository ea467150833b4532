"""Which cases one fold run trains on, holds out and selects by (paper: "Implementation")."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from liverattn.data.manifest import Manifest
from liverattn.data.splits import Folds, inner_split, make_folds, read_folds, write_folds
from liverattn.errors import InputError, expect_whole


@dataclass(frozen=True)
class FoldRows:
    """Rows of the manifest, disjoint by patient.

    Attributes:
        train: To train on.
        held_out: To score.
        selection: To select the copies by; empty: the held-out rows select, as in the paper.
    """

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    selection: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Repeated k-fold cross-validation, and what selects the copies: see :mod:`liverattn.evaluation.protocols`.

    Attributes:
        name: Whose numbers are shown.
        repeats: Of the cross-validation.
        folds: k.
        repeat: Of this run, from 0.
        fold: Held out in this run, from 0.
        seed: Of the assignment.
        split_file: An assignment to use instead of drawing one.
        inner_folds: One so-manieth of the training cases selects; None: the held-out fold does.
    """

    name: Literal["paper", "inner", "last"]
    repeats: int = 3
    folds: int = 3
    repeat: int = 0
    fold: int = 0
    seed: int = 0
    split_file: str | None = None
    inner_folds: int | None = None

    def __post_init__(self) -> None:
        """Refuse a protocol that the training cannot serve."""
        for name, least in {"repeats": 1, "folds": 2, "repeat": 0, "fold": 0, "seed": 0}.items():
            expect_whole(f"protocol.{name}", getattr(self, name), least)
        if self.split_file is None:
            for name, count in {"repeat": self.repeats, "fold": self.folds}.items():
                expect_whole(f"protocol.{name}", getattr(self, name), 0, count - 1)
        expect_whole("protocol.inner_folds", self.inner_folds, 2, null=True)
        if self.split_file is not None and not isinstance(self.split_file, str):
            raise InputError(f"Expected protocol.split_file to be null or a file, but got {self.split_file}.")
        served = ("paper", "last") if self.inner_folds is None else ("inner", "paper", "last")
        if self.name not in served:
            remedy = " (protocol=inner sets protocol.inner_folds, which it needs)" if self.name == "inner" else ""
            raise InputError(f"Expected protocol.name to be one of {', '.join(served)}, but got {self.name}{remedy}.")

    def assignment(self, manifest: Manifest, folder: Path) -> Folds:
        """The user's assignment, or one drawn, saved in ``folder`` under its hash and read from there afterwards."""
        if self.split_file is not None:
            return read_folds(Path(self.split_file), manifest)
        folds = make_folds(manifest, self.repeats, self.folds, self.seed)
        path = folder / f"{folds.hash[:12]}.json"
        if path.exists():
            return read_folds(path, manifest)
        write_folds(folds, path)
        return folds

    def rows(self, manifest: Manifest, assignment: Folds) -> FoldRows:
        """The parts of this run.

        Raises:
            InputError: The repeat or fold does not exist, or the training cases cannot be divided.
        """
        train, held_out = assignment.split(self.repeat, self.fold)
        if self.inner_folds is None:
            return FoldRows(train, held_out, train[:0])
        train, selection = inner_split(manifest, train, self.inner_folds, (self.seed, self.repeat, self.fold))
        return FoldRows(train, held_out, selection)
