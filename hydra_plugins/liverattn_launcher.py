"""Hydra takes launchers only from this namespace: cells as processes of this machine, or as jobs of SLURM."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

GENERAL = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)  # of every executor; the others are SLURM's

SECONDS_BETWEEN_LOOKS = 0.5
LONGEST_FAILURE = 800  # characters: with what joblib adds, less than a pipe takes in one piece (4 kB)


class JoblibCells(JoblibLauncher):  # type: ignore[misc]
    """Several cells at once.

    With the base class a worker also sends each cell's whole configuration: the sweep waits for ever for the rest of it
    if the worker is killed just then. A message of one line comes whole or not at all.
    """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the cells.

        Returns:
            Of each what it returned.

        Raises:
            concurrent.futures.BrokenExecutor: A worker was killed; the others are stopped.
        """
        from hydra_plugins.hydra_joblib_launcher._core import process_joblib_cfg
        from joblib import Parallel, delayed

        setup_globals()
        assert self.config is not None
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        settings = {**self.joblib, "backend": "loky"}
        process_joblib_cfg(settings)
        shared = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        values = Parallel(**settings)(
            delayed(_joblib_cell)(number, list(overrides), *shared)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        )
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]


@dataclass
class JoblibSettings(JobLibLauncherConf):  # type: ignore[misc]
    """Several cells at once on this machine: hydra/launcher=joblib hydra.launcher.n_jobs=4 (-1: one per core).

    The processors are divided. On one GPU cells share its memory: see docs/scale.md.
    """

    _target_: str = "hydra_plugins.liverattn_launcher.JoblibCells"
    batch_size: str = "1"  # cells handed to a process at once


class JoblibName(SearchPathPlugin):  # type: ignore[misc]
    """``hydra/launcher=joblib`` means :class:`JoblibSettings`. Hydra warns of a file in ``conf/`` of the same name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Store the settings; the base class's are stored by now, as Hydra has loaded all plugins."""
        ConfigStore.instance().store(
            group="hydra/launcher", name="joblib", node=JoblibSettings, provider="liverattn_launcher"
        )


def _joblib_cell(*arguments: Any) -> str | None:
    from hydra_plugins.hydra_joblib_launcher._core import execute_job

    try:
        failure = execute_job(*arguments).return_value
    except Exception as error:  # before or after the work on its cell
        failure = str(error) or type(error).__name__
    return None if failure is None else str(failure)[:LONGEST_FAILURE]


class SlurmCells(BaseSubmititLauncher):  # type: ignore[misc]
    """One job per cell. The base class stops waiting for all jobs when one was killed; this one goes on."""

    _EXECUTOR = "slurm"

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit a job per cell and wait for all.

        Returns:
            Of each job what its cell returned; None of one that was killed: its run folder tells what became of it.
        """
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        return [_result(job) for job in self._finished(self._executor(), arguments)]

    def _finished(self, executor: "AutoExecutor", arguments: Sequence[tuple[Any, ...]]) -> "Sequence[Job[JobReturn]]":
        jobs: list[Job[JobReturn]] = executor.map_array(self, *zip(*arguments, strict=True))
        for job in jobs:
            job.wait()
        return jobs

    def _executor(self) -> "AutoExecutor":
        from submitit import AutoExecutor  # every Hydra command of this environment imports this file

        settings = dict(self.params)
        folder, timeouts = settings.pop("submitit_folder"), settings.pop("max_num_timeout")
        executor = AutoExecutor(folder, cluster=self._EXECUTOR, slurm_max_num_timeout=timeouts)
        executor.update_parameters(
            **{name if name in GENERAL else f"slurm_{name}": value for name, value in settings.items()}
        )
        assert self.config is not None
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        return executor


class LocalCells(SlurmCells):
    """The same with processes of this machine for jobs, ``array_parallelism`` at once; its processors are divided."""

    _EXECUTOR = "local"

    def _finished(self, executor: "AutoExecutor", arguments: Sequence[tuple[Any, ...]]) -> "Sequence[Job[JobReturn]]":
        most = int(self.params["array_parallelism"])
        threads = max((os.cpu_count() or 1) // most, 1)
        # Ctrl-C is for the sweep's own process, with which the jobs end; else each would leave a stack trace.
        executor.update_parameters(local_setup=["trap '' INT", f"export OMP_NUM_THREADS={threads}"])
        jobs: list[Job[JobReturn]] = []
        for one in arguments:
            while sum(not job.done() for job in jobs) >= most:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            jobs.append(executor.submit(self, *one))
        for job in jobs:
            job.wait()
        return jobs


def _result(job: "Job[JobReturn]") -> JobReturn:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.results()[0]
    except FailedJobError as error:  # before or after the work on its cell
        failure = str(error).strip().splitlines()[-1]
    except UncompletedJobError:  # killed
        failure = None
    return JobReturn(status=JobStatus.COMPLETED, _return_value=failure)
