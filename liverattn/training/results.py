"""From the recorded outputs of a run to its predictions, metrics and pictures: needs no network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.data.cache import PreparedCases
from liverattn.data.manifest import Manifest
from liverattn.data.shortcuts import METADATA, metadata
from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.evaluation.localization import ON_LESIONS, AttentionQuality, attention_quality, center_prior
from liverattn.evaluation.protocols import best_epochs, last_epochs
from liverattn.evaluation.scores import Task, output_aucs, task_aucs, weighted_score
from liverattn.reporting.figures import AttentionPanel, RocPanel
from liverattn.training.outputs import Outputs

AT_ONCE = 1024  # cases whose maps of every lambda are held
QUALITY = tuple(field.name for field in fields(AttentionQuality))


def attention_maps(outputs: Outputs, lambdas: Sequence[float]) -> NDArray[np.float32]:
    """(n, h, w) attention maps, each summing to 1 over the cells."""
    import torch  # only now: most of what reads run folders needs none

    from liverattn.models.attention import attention_map

    maps = np.empty_like(outputs.scores)
    for start in range(0, len(maps), AT_ONCE):
        scores = torch.from_numpy(outputs.scores[start : start + AT_ONCE])
        maps[start : start + AT_ONCE] = attention_map(scores[:, None], lambdas)[:, 0]
    return maps


def epoch_aucs(
    recorded: Iterable[Outputs], selection_rows: NDArray[np.int64], truth: NDArray[np.floating], tasks: Sequence[Task]
) -> pd.DataFrame:
    """What every epoch reaches on the cases that are not trained on.

    Args:
        recorded: Outputs of every epoch, of which one at a time is held.
        selection_rows: Of the inner split; empty without one.
        truth: (n, K) labels of all cases, NaN where unknown.
        tasks: With K outputs in all.

    Returns:
        One row per epoch (from 0) and ``cases`` (``held_out``; ``selection`` where there is an inner split), with the
        AUC of every task and the score (Eq. 4); NaN where undefined.
    """
    rows = []
    for epoch, outputs in enumerate(recorded):
        for cases in ("held_out", *(["selection"] if len(selection_rows) else [])):
            part = outputs.only(selection_rows, keep=cases == "selection")
            aucs = task_aucs(truth[part.rows], part.logits, tasks)
            rows.append({"epoch": epoch, "cases": cases, **aucs, "score": weighted_score(aucs, tasks)})
    return pd.DataFrame(rows)


def protocol_epochs(aucs: pd.DataFrame, tasks: Sequence[Task]) -> dict[str, dict[str, int]]:
    """Epoch of every task under every protocol that the training serves.

    Args:
        aucs: See :func:`epoch_aucs`.
        tasks: Of its columns.
    """
    by_cases = {cases: rows[[task.name for task in tasks]].to_dict("records") for cases, rows in aucs.groupby("cases")}
    held_out = by_cases["held_out"]
    inner = {"inner": best_epochs(by_cases["selection"])} if "selection" in by_cases else {}
    return {**inner, "paper": best_epochs(held_out), "last": last_epochs(held_out)}


def fold_predictions(tables: Mapping[int, pd.DataFrame], chosen: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """One row per held-out case, task and protocol.

    Args:
        tables: :func:`epoch_predictions` of every epoch that is chosen.
        chosen: Epoch by task, by protocol.
    """
    parts = []
    for protocol, epochs in chosen.items():
        for task, epoch in epochs.items():
            keys = pd.DataFrame({"protocol": protocol, "task": task, "epoch": epoch}, index=tables[epoch].index)
            parts.append(pd.concat([keys, tables[epoch]], axis=1))
    return pd.concat(parts, ignore_index=True)


def epoch_predictions(
    outputs: Outputs,
    manifest: Manifest,
    cases: PreparedCases,
    truth: NDArray[np.floating],
    tasks: Sequence[Task],
    lambdas: Sequence[float],
) -> pd.DataFrame:
    """One row per held-out case: names, truth, logits, attention quality.

    Args:
        outputs: Of one epoch on the held-out cases.
        manifest: All cases.
        cases: The same, prepared.
        truth: (n, K) labels of all cases, NaN where unknown.
        tasks: With K outputs in all.
        lambdas: Scales of Eq. 3.
    """
    rows = outputs.rows
    names = [name for task in tasks for name in task.outputs]
    quality = [
        asdict(_quality(cases, int(row), weights, scores))
        for row, weights, scores in zip(rows, attention_maps(outputs, lambdas), outputs.scores, strict=True)
    ]
    return pd.concat(
        [
            manifest.table.loc[rows, ["image_id", "patient_id"]].reset_index(drop=True),
            pd.DataFrame(truth[rows], columns=[f"truth_{name}" for name in names]),
            pd.DataFrame(outputs.logits, columns=[f"logit_{name}" for name in names]),
            pd.DataFrame(quality, columns=list(QUALITY)),
        ],
        axis=1,
    )


def case_table(
    rows: NDArray[np.int64],
    train_rows: NDArray[np.int64],
    manifest: Manifest,
    cases: PreparedCases,
    grid: tuple[int, int],
) -> pd.DataFrame:
    """What is known of held-out cases besides labels, and what a map that looks at no image gets on them.

    Args:
        rows: (n,) held out.
        train_rows: Whose boxes the map is fitted on.
        manifest: All cases.
        cases: The same, prepared.
        grid: (h, w) of the attention.

    Returns:
        One row per held-out case: ``image_id``, ``site``, the columns of
        :data:`~liverattn.data.shortcuts.METADATA`, ``touched`` (share of the cells that a box touches: the average
        precision of an even map) and ``center_MEASURE`` for every measure of attention quality on lesions; NaN where
        they do not apply.
    """
    training = (_target(cases, int(row), grid) for row in train_rows)
    center = center_prior(target for target in training if target is not None)
    weights, scores = center or (np.zeros(grid), np.zeros(grid))
    found = []
    for row in rows:
        target, quality = _target(cases, int(row), grid), _quality(cases, int(row), weights, scores)
        is_measured = center is not None and target is not None and target.any()
        found.append(
            [np.mean(target > 0) if is_measured and target is not None else np.nan]
            + [getattr(quality, name) if is_measured else np.nan for name in ON_LESIONS]
        )
    measured = np.column_stack([metadata(cases, rows), np.array(found, dtype=np.float64).reshape(len(rows), -1)])
    names = [*METADATA, "touched", *(f"center_{name}" for name in ON_LESIONS)]
    known = manifest.table.loc[rows, ["image_id", "site"]].reset_index(drop=True)
    return pd.concat([known, pd.DataFrame(measured, columns=names)], axis=1)


def _quality(
    cases: PreparedCases, row: int, weights: NDArray[np.floating], scores: NDArray[np.floating]
) -> AttentionQuality:
    target = _target(cases, row, (scores.shape[0], scores.shape[1]))
    return attention_quality(weights, scores, target, cases.boxes[row], cases.size)


def _target(cases: PreparedCases, row: int, grid: tuple[int, int]) -> NDArray[np.float32] | None:
    boxes = cases.boxes[row]
    return None if boxes is None else mask_to_grid(boxes_to_mask(boxes, cases.size), grid)


def run_metrics(predictions: pd.DataFrame, tasks: Sequence[Task]) -> dict[str, Any]:
    """Numbers of a fold run under one protocol, from that protocol's rows of its prediction table.

    Returns:
        ``score`` (Eq. 4, each task from its own copy), ``auc`` by task, ``outputs``: AUC by output from the copy of its
        task, ``copies``: epoch and all task AUCs of the copy of each task, ``attention``: means over the held-out
        cases, from the lesion copy (or the first there is).
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
    outputs: Outputs, cases: PreparedCases, truth: NDArray[np.floating], lambdas: Sequence[float], each: int = 4
) -> list[AttentionPanel]:
    """Held-out cases to look at: the most wrong ones, and some right ones from sure to unsure.

    Args:
        outputs: On the held-out cases, of the lesion task's copy.
        cases: All prepared cases.
        truth: (n,) lesion labels of all cases.
        lambdas: Scales of Eq. 3.
        each: Images per group TP, FP, FN, TN (fewer where there are fewer), by the sign of the lesion logit.
    """
    rows, logits = outputs.rows, outputs.logits[:, 0]
    maps = attention_maps(outputs, lambdas)
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
    """Fig. 5 for one fold run: one panel per task that has a copy, conditional tasks on lesion images only.

    Without an output ``lesion`` all images show one, as far as is known.
    """
    panels = []
    for task in tasks:
        rows = predictions[predictions["task"] == task.name]
        if task.conditional and "truth_lesion" in rows:
            rows = rows[rows["truth_lesion"] == 1]
        if len(rows):
            curves = {
                name: (rows[f"truth_{name}"].to_numpy(np.float64), rows[f"logit_{name}"].to_numpy(np.float64))
                for name in task.outputs
            }
            panels.append(RocPanel(task.name, curves))
    return panels
