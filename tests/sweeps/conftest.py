"""Sweeps whose cells take no time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import DictConfig

from liverattn import train
from liverattn.runs import RunFolder
from tests.sweeps.builders import finish


@dataclass
class Cells:
    """What happens instead of training.

    Attributes:
        begun: Folds, in order.
        actions: By fold: called with the configuration and the run before it is finished.
    """

    begun: list[int] = field(default_factory=list)
    actions: dict[int, Callable[[DictConfig, RunFolder], Any]] = field(default_factory=dict)

    def raises(self, fold: int, error: BaseException) -> None:
        """The cells of this fold raise."""

        def action(cfg: DictConfig, run: RunFolder) -> None:
            raise error

        self.actions[fold] = action

    def compose(self, cfg: DictConfig, run: RunFolder) -> "_FoldRun":
        """In the place of :func:`liverattn.train.compose`."""
        return _FoldRun(self, cfg, run)


@dataclass
class _FoldRun:
    cells: Cells
    cfg: DictConfig
    run: RunFolder

    def execute(self) -> None:
        fold = self.cfg.protocol.fold
        self.cells.begun.append(fold)
        if fold in self.cells.actions:
            self.cells.actions[fold](self.cfg, self.run)
        finish(self.run, 0.5 + fold / 10, lesion=0.8)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cells]:
    """The commands do not train, but do this."""
    instead = Cells()
    monkeypatch.setattr(train, "compose", instead.compose)
    yield instead
