"""AUCs within subgroups: size and type of the lesion, site, and brightness of the image (m of Eq. 1)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.attention_quality import FEWEST
from liverattn.comparison.groups import Group, lesion_kinds, thirds_by_size
from liverattn.comparison.held_out import on_one_scale, out_of_fold
from liverattn.comparison.numbers import interval_number
from liverattn.comparison.pairs import ONE_SCORE
from liverattn.comparison.scored import Scored
from liverattn.evaluation.intervals import Interval, patient_draws, percentiles, score_strata, weighted_aucs
from liverattn.evaluation.scores import Task, auc, shows_lesion
from liverattn.reporting.results import Cell, Number, ResultTable, Row


def subgroup_table(rows: Sequence[Scored], protocol: str, tasks: Sequence[Task]) -> ResultTable | None:
    """AUC of every single-output task within subgroups, one column per row of the comparison.

    Args:
        rows: To stand beside each other, over the same fold runs.
        protocol: That all of them served.
        tasks: With K outputs in all.

    Returns:
        None where no run recorded what is known of its cases.
    """
    held_out = rows[0].held_out[protocol == "inner"]
    if held_out.cases is None:
        return None
    known = held_out.cases.groupby(held_out.keys["image_id"].to_numpy(dtype=str)).first()
    truth = out_of_fold(held_out, protocol).truth
    scales = [on_one_scale(one.held_out[protocol == "inner"], tasks) for one in rows]
    scores = [out_of_fold(one, protocol).probability for one in scales]
    patients = out_of_fold(held_out, protocol).patients
    weights = patient_draws(patients, score_strata(truth, tasks))
    made = []
    for output, k, labels, groups in _questions(truth, known, tasks):
        for number, (name, mask) in enumerate(groups):
            inside = np.where(mask, labels, np.nan)
            counts: list[Cell] = [int((inside == 1).sum()), int((inside == 0).sum())]
            areas = [_area(inside, score[:, k], patients, weights) for score in scores]
            made.append(Row([output, name, *counts, *areas], begins_section=number == 0))
    notes = [
        f"{ONE_SCORE} Intervals over 2 000 draws of all patients, none where a class has fewer than {FEWEST} images.",
        "Lesion, by size, type or kind: the lesion images of that group against all lesion-free ones. Sizes: thirds by "
        "the share of the prepared image that the boxes cover; m: thirds of the brightness that Eq. 1 divides by.",
    ]
    columns = ["output", "images", "positive", "negative", *(one.label for one in rows)]
    return ResultTable("subgroups", f"AUC within subgroups, protocol {protocol}", columns, made, notes)


def _questions(
    truth: NDArray[np.float64], known: pd.DataFrame, tasks: Sequence[Task]
) -> Iterator[tuple[str, int, NDArray[np.float64], list[Group]]]:
    """Every single-output task: its output, column, labels on the images it is judged on, and groups of images."""
    names = [name for task in tasks for name in task.outputs]
    shown = shows_lesion(truth, names)
    sizes = thirds_by_size(known["center_chance"].to_numpy(np.float64))
    common = [*_by_brightness(known), *_by_site(known)]
    for task in (task for task in tasks if len(task.outputs) == 1):
        k = names.index(task.outputs[0])
        labels = np.where(shown | (not task.conditional), truth[:, k], np.nan)
        groups = [("all", np.ones(len(labels), bool)), *sizes]
        if task.outputs[0] == "lesion":
            kinds = [*sizes, *lesion_kinds(truth, names)]
            groups = [groups[0], *((name, mask | (labels == 0)) for name, mask in kinds)]
        yield task.outputs[0], k, labels, [*groups, *common]


def _by_brightness(known: pd.DataFrame) -> list[Group]:
    m = known["m"].to_numpy(np.float64)
    if np.isnan(m).all():
        return []
    low, high = np.nanquantile(m, [1 / 3, 2 / 3])
    return [
        (f"m up to {low:.0f}", m <= low),
        (f"m {low:.0f} to {high:.0f}", (m > low) & (m <= high)),
        (f"m above {high:.0f}", m > high),
    ]


def _by_site(known: pd.DataFrame) -> list[Group]:
    site = known["site"].fillna("").astype(str)
    sites = sorted(set(site) - {""})
    return [(f"site {name}", (site == name).to_numpy()) for name in sites] if len(sites) > 1 else []


def _area(
    labels: NDArray[np.float64], score: NDArray[np.float64], patients: NDArray[np.str_], weights: NDArray[np.float32]
) -> Number:
    labels = np.where(np.isnan(score), np.nan, labels)
    value, limits = auc(labels, score), Interval(*[float("nan")] * 3)
    classes = [labels == one for one in (0, 1)]
    if min(one.sum() for one in classes) >= FEWEST:
        smallest = min(len(np.unique(patients[one])) for one in classes)
        limits = percentiles(value, weighted_aucs(labels, score, weights), smallest)
    return interval_number(replace(limits, value=value), 3)
