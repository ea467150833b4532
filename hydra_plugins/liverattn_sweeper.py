"""Hydra takes sweepers only from this namespace; the work is done in :mod:`liverattn.sweeps.multirun`."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class CellSweeper(BasicSweeper):  # type: ignore[misc]
    """All combinations, as Hydra's own sweeper; but finished ones are left out, and none can stop the others."""

    def sweep(self, arguments: Sequence[str]) -> None:
        """Work on the cells of the sweep and end the command."""
        from liverattn.sweeps.multirun import run_sweep  # every Hydra command of this environment imports this file

        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        (combinations,) = self.split_arguments(overrides, max_batch_size=None)
        run_sweep(combinations, self.config, self.launcher, loader)
