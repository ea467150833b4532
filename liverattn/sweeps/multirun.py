"""Working through a sweep: ``python -m liverattn.train -m ...``. No cell can stop the others, and none is lost."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from omegaconf import DictConfig
from rich.console import Console

from liverattn.configuration import build, plain, plain_errors
from liverattn.errors import InputError
from liverattn.prepare import prepared_data
from liverattn.sweeps.cell_job import MOTHER
from liverattn.sweeps.expansion import described_sweep
from liverattn.sweeps.matrix import first_line, news, next_command, print_sweep, summary, summary_table
from liverattn.sweeps.parent_run import ParentRun, open_parent
from liverattn.sweeps.record import Progress, Sweep

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

ATTEMPTS = 3
SECONDS_BETWEEN_LOOKS = 2.0


def run_sweep(
    combinations: Sequence[Sequence[str]], config: DictConfig, launcher: "Launcher", loader: "ConfigLoader"
) -> None:
    """Work on every cell that is not finished, show what has become of all, and end the command.

    Args:
        combinations: Overrides of each cell.
        config: Composed for the sweep itself.
        launcher: Starts the cells.
        loader: Composes them.

    Raises:
        SystemExit: With status 1 if a cell is not finished at the end, 130 after Ctrl-C.
    """
    with plain_errors():
        configs = [loader.load_sweep_config(config, list(overrides)) for overrides in combinations]
        sweep = described_sweep(combinations, configs, config)
        todo = sweep.unfinished()
        print(f"{len(sweep.runs()) - len(todo)} of {len(sweep.runs())} runs are finished, {len(todo)} to do.")
        if todo or sweep.status != "finished":
            progress = Multirun(sweep.marked("running"), configs, launcher).work(todo)
        else:
            progress = sweep.progress()
        _show(sweep, progress, build(config.tracking).shown_by)
    if any(item.state != "finished" for item in progress):
        sys.exit(1)


def _show(sweep: Sweep, progress: Sequence[Progress], shown_by: str) -> None:
    console = Console()
    print()
    print_sweep(sweep, progress, console)
    if any(item.state == "finished" for item in progress):
        console.print(summary_table(summary(sweep, progress)))
    unfinished = any(item.state != "finished" for item in progress)
    print(f"Again:      {sweep.command}   (goes on with what is not finished)" if unfinished else "All are finished.")
    print(f"Runs:       {sweep.outputs / 'runs'}; {shown_by}")
    print(f"Next:       {next_command(sweep)}")


@dataclass
class Multirun:
    """The process in which a sweep was started.

    Attributes:
        sweep: As recorded.
        configs: Of its cells.
        launcher: Starts them.
        errors: What went wrong with cells whose run folder cannot say it, by position.
    """

    sweep: Sweep
    configs: Sequence[DictConfig]
    launcher: "Launcher"
    errors: dict[int, str] = field(default_factory=dict)

    def work(self, todo: Sequence[int]) -> list[Progress]:
        """Work on the cells at these positions; returns what has become of all."""
        parent = open_parent(build(self.configs[0].tracking), self.sweep)
        self._forget_failures(todo)
        try:
            if not self._is_alone:
                self._prepare(todo)
            self._launch(todo, parent)
        except (KeyboardInterrupt, SystemExit):
            self._end(parent, "interrupted")
            raise
        progress = self._progress()
        self._end(parent, "finished" if all(item.state == "finished" for item in progress) else "failed")
        return progress

    def _forget_failures(self, todo: Sequence[int]) -> None:
        # From here on a cell that failed is one that failed now, and another attempt would be in vain.
        progress = self.sweep.progress()
        for position in todo:
            if progress[position].state == "failed":
                with suppress(InputError):  # a damaged record: the cell says so itself
                    self.sweep.run(self.sweep.cells[position]).update_record(state="interrupted")

    @property
    def _is_alone(self) -> bool:
        return isinstance(self.launcher, BasicLauncher)

    def _progress(self) -> list[Progress]:
        return [
            replace(item, state="failed", error=self.errors[position])
            if position in self.errors and item.state not in ("finished", "failed")
            else item
            for position, item in enumerate(self.sweep.progress())
        ]

    def _end(self, parent: ParentRun | None, status: str) -> None:
        progress = self._progress()
        self.sweep.marked(status)
        if parent is not None:
            try:
                parent.close(status, progress, summary(self.sweep, progress))
            except Exception as error:  # the server is gone: the results lie in the run folders all the same
                print(f"The sweep's run in MLflow could not be brought up to date: {first_line(str(error))}")

    def _prepare(self, todo: Sequence[int]) -> None:
        # Once, so that cells that begin together do not all render or prepare the same images.
        distinct = {str(plain(self.configs[i].data)): self.configs[i] for i in todo}
        for cfg in distinct.values():
            with suppress(Exception):  # the cells that need these data will say it themselves
                prepared_data(cfg)

    def _launch(self, todo: Sequence[int], parent: ParentRun | None) -> None:
        environment = {MOTHER: str(os.getpid()), **({} if parent is None else parent.environment)}
        more = [f"++hydra.job.env_set.{name}='{value}'" for name, value in environment.items()]
        # Cells that another process was at or whose process was killed get another chance.
        for _ in range(ATTEMPTS):
            if self._is_alone:
                self._launch_one_by_one(todo, more)
            elif not self._launch_together(todo, more):
                break
            progress = self._progress()
            todo = [i for i in todo if progress[i].state not in ("finished", "failed")]
            if not todo:
                break

    def _launch_one_by_one(self, todo: Sequence[int], more: Sequence[str]) -> None:
        for number, position in enumerate(todo):
            cell = self.sweep.cells[position]
            print(f"\nCell {number + 1} of {len(todo)}: {self.sweep.cell_name(position)}", flush=True)
            try:
                (result,) = self.launcher.launch([[*cell.overrides, *more]], initial_job_idx=position)
                self._note(position, result.return_value)
            except Exception as error:
                self._note(position, str(error) or type(error).__name__)
            print(news(self.sweep, position, self._progress()), flush=True)

    def _launch_together(self, todo: Sequence[int], more: Sequence[str]) -> bool:
        """Whether another attempt can help."""
        overrides = [[*self.sweep.cells[i].overrides, *more] for i in todo]
        try:
            with _watching(self.sweep):
                results = self.launcher.launch(overrides, initial_job_idx=0) if todo else []
            for position, result in zip(todo, results, strict=True):
                self._note(position, result.return_value)
        except BrokenExecutor:
            print("A process of the sweep was killed (was the memory full?).", flush=True)
        except Exception as error:  # of a launcher: its messages are long
            print(f"The launcher gave up: {error}", flush=True)
            return False
        return True

    def _note(self, position: int, error: str | None) -> None:
        if error is not None:
            self.errors[position] = error


@contextmanager
def _watching(sweep: Sweep) -> Iterator[None]:
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(sweep, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(sweep: Sweep, ended: threading.Event) -> None:
    known = [item.state for item in sweep.progress()]
    is_last = False
    while not is_last:
        is_last = ended.wait(SECONDS_BETWEEN_LOOKS)
        progress = sweep.progress()
        for position, item in enumerate(progress):
            if item.state != known[position]:
                print(news(sweep, position, progress), flush=True)
        known = [item.state for item in progress]
