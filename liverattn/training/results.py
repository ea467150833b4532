"""From the task copies of a run to its predictions, metrics and pictures: needs no network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from liverattn.data.cache import PreparedCases
from liverattn.data.manifest import Manifest
from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.evaluation.localization import AttentionQuality, attention_quality
from liverattn.evaluation.scores import Task, output_aucs, task_aucs, weighted_score
from liverattn.models.attention import attention_map
from liverattn.reporting.figures import AttentionPanel, RocPanel
from liverattn.training.checkpoints import TaskCopy

QUALITY = tuple(field.name for field in fields(AttentionQuality))


def attention_maps(copy: TaskCopy, lambdas: Sequence[float]) -> NDArray[np.float32]:
    """(n, h, w) attention maps of a copy, each summing to 1 over the cells."""
    maps = attention_map(torch.from_numpy(copy.outputs.scores)[:, None], lambdas)[:, 0].numpy()
    return np.asarray(maps, dtype=np.float32)


def copy_predictions(
    copy: TaskCopy,
    manifest: Manifest,
    cases: PreparedCases,
    truth: NDArray[np.floating],
    tasks: Sequence[Task],
    lambdas: Sequence[float],
) -> pd.DataFrame:
    """One row per held-out case: names, truth, logits, attention quality.

    Args:
        copy: Weights' outputs on the held-out cases.
        manifest: All cases.
        cases: The same, prepared.
        truth: (n, K) labels of all cases, NaN where unknown.
        tasks: With K outputs in all.
        lambdas: Scales of Eq. 3.
    """
    rows = copy.outputs.rows
    names = [name for task in tasks for name in task.outputs]
    quality = [
        asdict(_quality(cases, int(row), weights, scores))
        for row, weights, scores in zip(rows, attention_maps(copy, lambdas), copy.outputs.scores, strict=True)
    ]
    return pd.concat(
        [
            manifest.table.loc[rows, ["image_id", "patient_id"]].reset_index(drop=True),
            pd.DataFrame({"task": copy.task, "epoch": copy.epoch}, index=range(len(rows))),
            pd.DataFrame(truth[rows], columns=[f"truth_{name}" for name in names]),
            pd.DataFrame(copy.outputs.logits, columns=[f"logit_{name}" for name in names]),
            pd.DataFrame(quality, columns=list(QUALITY)),
        ],
        axis=1,
    )


def _quality(
    cases: PreparedCases, row: int, weights: NDArray[np.floating], scores: NDArray[np.floating]
) -> AttentionQuality:
    boxes = cases.boxes[row]
    grid = (scores.shape[0], scores.shape[1])
    target = None if boxes is None else mask_to_grid(boxes_to_mask(boxes, cases.size), grid)
    return attention_quality(weights, scores, target, boxes, cases.size)


def run_metrics(predictions: pd.DataFrame, tasks: Sequence[Task]) -> dict[str, Any]:
    """Numbers of a fold run from its prediction table.

    Returns:
        ``score`` (Eq. 4, each task from its own copy), ``auc`` by task, ``outputs``: AUC by output from the copy of its
        task, ``copies``: epoch and all task AUCs of each copy, ``attention``: means over the held-out cases, from the
        lesion copy (or the first there is).
    """
    aucs: dict[str, float] = {task.name: float("nan") for task in tasks}
    by_output: dict[str, float] = {name: float("nan") for task in tasks for name in task.outputs}
    copies: dict[str, Any] = {}
    for task in tasks:
        rows = predictions[predictions["task"] == task.name]
        if rows.empty:
            continue
        truth, logits = _arrays(rows, tasks)
        all_tasks, all_outputs = task_aucs(truth, logits, tasks), output_aucs(truth, logits, tasks)
        aucs[task.name] = all_tasks[task.name]
        by_output.update({name: all_outputs[name] for name in task.outputs})
        copies[task.name] = {"epoch": int(rows["epoch"].iloc[0]), "auc": all_tasks}
    return {
        "score": weighted_score(aucs, tasks),
        "auc": aucs,
        "outputs": by_output,
        "copies": copies,
        "attention": _attention_means(predictions),
    }


def _arrays(rows: pd.DataFrame, tasks: Sequence[Task]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    names = [name for task in tasks for name in task.outputs]
    truth = rows[[f"truth_{name}" for name in names]].to_numpy(dtype=np.float64)
    return truth, rows[[f"logit_{name}" for name in names]].to_numpy(dtype=np.float64)


def _attention_means(predictions: pd.DataFrame) -> Mapping[str, float]:
    copy = "lesion" if (predictions["task"] == "lesion").any() else predictions["task"].iloc[0]
    rows = predictions[predictions["task"] == copy]
    boxed = rows[rows["chance"].notna()]
    free = rows[rows["truth_lesion"] == 0] if "truth_lesion" in rows else rows.iloc[:0]
    means = {name: float(boxed[name].mean()) for name in QUALITY}
    lesion_free = {f"{name}_lesion_free": float(free[name].mean()) for name in ("peak", "entropy")}
    return {**means, **lesion_free, "cases_with_boxes": float(len(boxed))}


def attention_panels(
    copy: TaskCopy, cases: PreparedCases, truth: NDArray[np.floating], lambdas: Sequence[float], each: int = 4
) -> list[AttentionPanel]:
    """Held-out cases to look at: the most wrong ones, and some right ones from sure to unsure.

    Args:
        copy: Of the lesion task.
        cases: All prepared cases.
        truth: (n,) lesion labels of all cases.
        lambdas: Scales of Eq. 3.
        each: Images per group TP, FP, FN, TN (fewer where there are fewer), by the sign of the lesion logit.
    """
    rows, logits = copy.outputs.rows, copy.outputs.logits[:, 0]
    maps = attention_maps(copy, lambdas)
    panels = []
    for group, is_lesion, called in (("TP", 1, 1), ("FN", 1, 0), ("FP", 0, 1), ("TN", 0, 0)):
        members = np.flatnonzero((truth[rows] == is_lesion) & ((logits > 0) == called))
        members = members[np.argsort(-np.abs(logits[members]), kind="stable")]
        if is_lesion == called and len(members) > each:
            members = members[np.linspace(0, len(members) - 1, each).astype(int)]
        for member in members[:each]:
            row = int(rows[member])
            panels.append(
                AttentionPanel(
                    image=np.minimum(cases.image(row) * cases.factors[row], 255),
                    lift=maps[member] * maps[member].size,
                    boxes=cases.boxes[row],
                    caption=f"{group}  P(lesion) = {1 / (1 + np.exp(-logits[member])):.2f}",
                    group=group,
                )
            )
    return panels


def roc_panels(predictions: pd.DataFrame, tasks: Sequence[Task]) -> list[RocPanel]:
    """Fig. 5 for one fold run: one panel per task that has a copy, conditional tasks on lesion images only."""
    panels = []
    for task in tasks:
        rows = predictions[predictions["task"] == task.name]
        if task.conditional:
            rows = rows[rows["truth_lesion"] == 1]
        if len(rows):
            curves = {
                name: (rows[f"truth_{name}"].to_numpy(np.float64), rows[f"logit_{name}"].to_numpy(np.float64))
                for name in task.outputs
            }
            panels.append(RocPanel(task.name, curves))
    return panels
