"""The MLflow run of a sweep: parent of its cells' runs, with their summary."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from liverattn.errors import InputError
from liverattn.mlflow_requests import prompt_requests
from liverattn.runs import RunFolder
from liverattn.sweeps.record import Progress, Sweep
from liverattn.tracking import MlflowTracking, Tracking

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
ENDED = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@dataclass(frozen=True)
class ParentRun:
    """An open MLflow run of a sweep.

    Attributes:
        client: Of the tracking server or database.
        experiment: Id of the MLflow experiment.
        run_id: Of the parent.
        sweep: Whose run it is.
    """

    client: "MlflowClient"
    experiment: str
    run_id: str
    sweep: Sweep

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables from which MLflow makes the tags of new runs in the cells' processes, wherever they are."""
        return {"MLFLOW_RUN_CONTEXT": json.dumps(self._tags)}

    @property
    def _tags(self) -> dict[str, str]:
        return {PARENT_TAG: self.run_id, "sweep": self.sweep.id}

    def close(self, status: str, progress: Sequence[Progress], summary: "pd.DataFrame") -> None:
        """Bring the children's tags and states up to date, write the summary, end the run.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            progress: Of the sweep's cells.
            summary: One row per architecture; see :func:`liverattn.sweeps.matrix.summary`.
        """
        with prompt_requests():
            self.client.get_run(self.run_id)  # is it there? What follows asks for every child
        runs = (_mlflow_run(self.sweep.run(cell)) for cell in self.sweep.cells)
        children = {run: item.state for run, item in zip(runs, progress, strict=True) if run is not None}
        for run in self._found([*children, *self._left_over(children)]):
            self._mend(run, children.get(run.info.run_id, "interrupted"))
        self.client.log_text(self.run_id, summary.to_csv(index=False), "summary.csv")
        for name, value in _metrics(progress, summary).items():
            self.client.log_metric(self.run_id, name, value)
        self.client.set_terminated(self.run_id, ENDED[status])

    def _found(self, run_ids: Iterable[str]) -> Iterable["Run"]:
        from mlflow.exceptions import MlflowException

        for run_id in run_ids:
            try:
                yield self.client.get_run(run_id)
            except MlflowException:  # tracked in another database than this one, or deleted there
                continue

    def _left_over(self, children: Mapping[str, str]) -> list[str]:
        # A cell that is killed before it has noted its run makes another one when it goes on.
        found = self.client.search_runs([self.experiment], f"tags.`{PARENT_TAG}` = '{self.run_id}'")
        return [run.info.run_id for run in found if run.info.run_id not in children]

    def _mend(self, run: "Run", state: str) -> None:
        for name, value in self._tags.items():
            if name not in run.data.tags:
                self.client.set_tag(run.info.run_id, name, value)
        if state in ENDED and run.info.status != ENDED[state]:
            self.client.set_terminated(run.info.run_id, ENDED[state])


def _mlflow_run(run: RunFolder) -> str | None:
    try:
        found: str | None = run.record().get("mlflow_run_id")
    except InputError:  # a damaged record: the others are brought up to date all the same
        return None
    return found


def open_parent(tracking: Tracking, sweep: Sweep) -> ParentRun | None:
    """Open the MLflow run of a sweep: a new one, or the one that it has; None without tracking.

    The database and the experiment are made here if they are new, before several cells would do it at once.

    Raises:
        InputError: The tracking server does not answer as one.
    """
    if not isinstance(tracking, MlflowTracking):
        return None
    with tracking.usable():
        client, experiment = tracking.store()
        found = client.search_runs([experiment], f"tags.sweep_key = '{sweep.key}'")
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return ParentRun(client, experiment, found[0].info.run_id, sweep)
        run = client.create_run(experiment, tags=_parent_tags(sweep, tracking), run_name=f"sweep {sweep.name}")
    return ParentRun(client, experiment, run.info.run_id, sweep)


def _parent_tags(sweep: Sweep, tracking: MlflowTracking) -> dict[str, str]:
    names = [name for name in sweep.cells[0].tags if name not in ("repeat", "fold", "settings")]
    held = {name: sorted({cell.tags[name] for cell in sweep.cells}) for name in names}
    return {
        "sweep": sweep.id,
        "sweep_key": sweep.key,
        "cells": str(len(sweep.cells)),
        "command": tracking.shared_command(sweep.command),
        **{name: "; ".join(values) for name, values in held.items()},
    }


def _metrics(progress: Sequence[Progress], summary: "pd.DataFrame") -> dict[str, float]:
    states: list[str] = [item.state for item in progress]
    counts = {f"cells/{state}": float(states.count(state)) for state in (*ENDED, "missing")}
    means = {}
    for row in summary.to_dict("records"):
        place = re.sub(r"[^\w .-]", "-", str(row["architecture"]))
        for name, value in row.items():
            if isinstance(value, float) and value == value:
                means[f"{place}/{name}"] = value
    return {**counts, **means}
