"""Predictions against labels that are known: AUCs, rates at the operating point, calibration."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liverattn.evaluation.calibration import reliability
from liverattn.evaluation.intervals import Interval, bootstrap_scores, rate_interval
from liverattn.evaluation.scores import Task, shows_lesion
from liverattn.prediction.job import PredictionJob
from liverattn.reporting.figures import RocPanel, roc_figure
from liverattn.reporting.probability_figures import CalibrationPanel, calibration_figure
from liverattn.reporting.results import Number, ResultTable
from liverattn.reporting.results import Row as TableRow


@dataclass(frozen=True)
class Scored:
    """Labeled images with their predictions.

    Attributes:
        tasks: With K outputs in all.
        truth: (n, K) 0, 1 or NaN; conditional outputs are NaN on images that are not known to show a lesion.
        probability: (n, K).
        patients: (n,), the image itself where no patient is known.
    """

    tasks: tuple[Task, ...]
    truth: NDArray[np.float64]
    probability: NDArray[np.float64]
    patients: list[str]

    @property
    def outputs(self) -> list[str]:
        """Names of the K outputs."""
        return [output for task in self.tasks for output in task.outputs]

    def aucs(self) -> ResultTable:
        """Every output, task and Eq. 4, with intervals."""
        found = bootstrap_scores(self.truth, self.probability, self.patients, self.tasks)
        rows = []
        for name, one in found.items():
            column = self.truth[:, self.outputs.index(name)] if name in self.outputs else None
            positive = "" if column is None else f"{int((column == 1).sum())} / {int((column == 0).sum())}"
            rows.append(TableRow([name, _number(one), positive]))
        note = "In parentheses 95 % intervals over patients: bootstrap of 2 000 draws, expanded percentiles."
        return ResultTable("aucs", "AUC (95 % interval)", ["", "AUC", "cases + / -"], rows, [note])

    def rates(self, point: str, thresholds: dict[str, float]) -> ResultTable:
        """Sensitivity and specificity of every output at the bundle's thresholds."""
        rows = []
        for k, output in enumerate(self.outputs):
            if output in thresholds:
                called, truth = self.probability[:, k] >= thresholds[output], self.truth[:, k]
                hits = rate_interval(np.where(truth == 1, called, np.nan), self.patients)
                passed = rate_interval(np.where(truth == 0, ~called, np.nan), self.patients)
                rows.append(TableRow([output, Number(thresholds[output]), _number(hits), _number(passed)]))
        note = (
            "Thresholds are the bundle's; in parentheses Wilson's 95 % intervals, wider where a patient's images "
            "are alike."
        )
        title = f"At {point} (95 % interval)"
        return ResultTable("rates", title, ["output", "threshold", "sensitivity", "specificity"], rows, [note])

    def draw(self, folder: Path) -> list[Path]:
        """``roc.png`` and ``calibration.png``."""
        roc, calibration = folder / "roc.png", folder / "calibration.png"
        columns = {output: (self.truth[:, k], self.probability[:, k]) for k, output in enumerate(self.outputs)}
        roc_figure([RocPanel(task.name, {o: columns[o] for o in task.outputs}) for task in self.tasks], roc)
        panels = []
        for output, (truth, probability) in columns.items():
            found = reliability(truth, probability, self.patients)
            if found is not None:
                observed, low, high = np.array([[one.value, one.low, one.high] for one in found.observed]).T
                panels.append(CalibrationPanel(output, found.predicted, observed, low, high, found.brier))
        calibration_figure(panels, calibration)
        return [roc, calibration]


def scored(job: PredictionJob) -> Scored | None:
    """The images of a job whose labels are known; None where no output has both classes."""
    contents = job.predictor.contents
    tasks = tuple(Task(one.name, one.outputs, one.weight, one.conditional) for one in contents.tasks)
    first = contents.outputs[0]
    truth, probability, patients = [], [], []
    for row in job.rows():
        if row.values["error"] is None and row.values[f"truth_{first}"] is not None:
            truth.append([row.values[f"truth_{output}"] for output in contents.outputs])
            probability.append([row.values[f"probability_{output}"] for output in contents.outputs])
            patient = job.cases[row.values["image_id"]].patient
            patients.append(row.values["image_id"] if patient is None else patient)
    labels = np.array(truth, dtype=np.float64).reshape(-1, len(contents.outputs))
    shown = shows_lesion(labels, contents.outputs)
    conditional = np.array([task.conditional for task in tasks for _ in task.outputs])
    labels[np.ix_(~shown, conditional)] = np.nan
    if not ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any():
        return None
    return Scored(tasks, labels, np.array(probability, dtype=np.float64), patients)


def _number(one: Interval) -> Number:
    return Number(one.value, {"low": one.low, "high": one.high}, between=" to ")
