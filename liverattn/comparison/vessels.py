"""Attention on the vessels of lesion-free phantoms: the paper's confusion of vessels with cysts, measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.attention_quality import (
    UNDEFINED,
    WHAT_INTERVALS_ARE,
    Floats,
    mean_interval,
    which_maps,
    with_enough,
)
from liverattn.comparison.explained import Explained
from liverattn.comparison.groups import Mask
from liverattn.comparison.numbers import interval_number
from liverattn.data.sources.phantom import PhantomSource, prepared_vessels
from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.evaluation.intervals import Interval, bootstrap_statistic, rate_interval
from liverattn.evaluation.vessels import VesselAttention, vessel_attention
from liverattn.reporting.results import Cell, Number, ResultTable, Row

COLUMNS = (
    "lesion-free images", "number", "maximum on a vessel", "by chance", "by chance, in liver", "energy on vessels",
    "energy / share", "mean probability",
)  # fmt: skip
NOTES = (
    "The generator knows its vessels; a vessel is the box around it. A gallbladder, as dark, is none.",
    "by chance: share of the image that vessels cover, the rate of a random point. by chance, in liver: how often the "
    "maximum of one image would lie on a vessel of another lesion-free image, the rate of a network that knows where "
    "livers have vessels and does not look at them.",
    "energy / share: mean energy on vessels over the mean share that they cover; plain averaging gets 1.",
    "P(cyst) is of the copy of its own task, and so is the maximum beside it.",
)


@dataclass(frozen=True)
class OnVessels:
    """Attention on the vessels of n lesion-free phantoms, under the copies of one output's task.

    Attributes:
        cases: (n,) images of the report.
        patients: (n,) of them.
        attention: Of the copies.
        probability: (n,) of the output.
    """

    cases: NDArray[np.int64]
    patients: NDArray[np.object_]
    attention: VesselAttention
    probability: Floats


def known_vessels(explained: Explained) -> list[NDArray[np.float64]] | None:
    """Boxes of the vessels in every image of the report, prepared pixels; None unless the images are phantoms.

    Raises:
        InputError: See :func:`~liverattn.data.sources.phantom.prepared_vessels`.
    """
    source = explained.subject.members[0].configuration()["data"]["source"]["_target_"]
    if source != f"{PhantomSource.__module__}.{PhantomSource.__name__}":
        return None
    vessels = prepared_vessels(explained.data.manifest, explained.data.cases)
    return [vessels[row] for row in explained.rows]


def on_vessels(explained: Explained, vessels: Sequence[NDArray[np.float64]], output: str) -> OnVessels | None:
    """Measure the lesion-free images.

    Args:
        explained: What was read.
        vessels: (N, 4) of every image of the report, in prepared pixels.
        output: Such as ``cyst``.

    Returns:
        None where there is no such output, or no lesion-free image with a copy.
    """
    subject, table = explained.subject, explained.table
    task = next((task.name for task in subject.tasks if output in task.outputs), None)
    if task is None:
        return None
    scores, size = explained.scores[task], explained.data.cases.size
    cases = np.flatnonzero((table["lesion"] == 0).to_numpy() & ~np.isnan(scores).any(axis=(1, 2)))
    if not len(cases):
        return None
    boxes, grid = [vessels[int(case)] for case in cases], (scores.shape[1], scores.shape[2])
    targets = np.stack([mask_to_grid(boxes_to_mask(of_case, size), grid) for of_case in boxes])
    return OnVessels(
        cases=cases,
        patients=table["patient_id"].to_numpy()[cases],
        attention=vessel_attention(explained.weights[task][cases], scores[cases], targets, boxes, size),
        probability=explained.probability[cases, subject.outputs.index(output)],
    )


def vessel_table(explained: Explained, vessels: Sequence[NDArray[np.float64]], threshold: float) -> ResultTable | None:
    """Do false positives look at vessels more than true negatives do, and is what is looked at there called a cyst?

    Args:
        explained: What was read.
        vessels: (N, 4) of every image of the report, in prepared pixels.
        threshold: Of the probability of a lesion.

    Returns:
        None without an output ``lesion``, or without lesion-free images.
    """
    seen, cyst = (on_vessels(explained, vessels, output) for output in ("lesion", "cyst"))
    if seen is None:
        return None
    rows = [*_by_call(seen, seen.probability >= threshold), *_by_place("P(lesion)", seen)]
    rows += [] if cyst is None else _by_place("P(cyst)", cyst)
    notes = (f"called lesion: P(lesion) >= {threshold:g}.", *NOTES, WHAT_INTERVALS_ARE, *which_maps(explained))
    return ResultTable("vessels", "Attention on vessels in lesion-free phantoms", COLUMNS, rows, notes)


def _by_call(seen: OnVessels, is_called: Mask) -> list[Row]:
    everything, attention = np.ones(len(is_called), bool), seen.attention
    hit = difference(attention.hit, is_called, seen.patients)
    energy = difference(attention.energy, is_called, seen.patients)
    return [
        Row(["called lesion (false positives)", *_numbers(seen, is_called)]),
        Row(["not called (true negatives)", *_numbers(seen, ~is_called)]),
        Row(
            [
                "difference",
                "",
                interval_number(hit, signed=True),
                *[UNDEFINED] * 2,
                interval_number(energy, 3, signed=True),
                *[UNDEFINED] * 2,
            ]
        ),
        Row(["all", *_numbers(seen, everything)]),
    ]


def _numbers(seen: OnVessels, chosen: Mask) -> list[Cell]:
    attention, patients = seen.attention, seen.patients[chosen]
    hit, energy, share = attention.hit[chosen], attention.energy[chosen], attention.share[chosen]
    ratio = bootstrap_statistic(lambda drawn: (drawn @ energy) / (drawn @ share), patients)
    return [
        int(chosen.sum()),
        interval_number(rate_interval(hit, patients)),
        *(Number(float(pd.Series(values[chosen]).mean())) for values in (attention.share, attention.elsewhere)),
        interval_number(mean_interval(energy, patients), 3),
        interval_number(with_enough(ratio, len(energy))),
        interval_number(mean_interval(seen.probability[chosen], patients), 3),
    ]


def _by_place(name: str, measured: OnVessels) -> list[Row]:
    hit, probability, patients = measured.attention.hit, measured.probability, measured.patients
    points = ~np.isnan(hit)
    found = difference(probability[points], hit[points] == 1, patients[points])
    undefined = [UNDEFINED] * 5
    rows = [
        Row(
            [
                f"{name}, maximum {place}",
                int(chosen.sum()),
                *undefined,
                interval_number(mean_interval(probability[chosen], patients[chosen]), 3),
            ],
            begins_section=place == "on a vessel",
        )
        for place, chosen in (("on a vessel", hit == 1), ("elsewhere", hit == 0))
    ]
    return [*rows, Row([f"{name}, difference", "", *undefined, interval_number(found, 3, signed=True)])]


def difference(values: Floats, chosen: Mask, patients: NDArray[np.object_]) -> Interval:
    """Mean over the chosen ones minus mean over the others, with limits over patients drawn within each.

    Args:
        values: (n,), NaN left out.
        chosen: (n,).
        patients: (n,).
    """
    known = ~np.isnan(values)
    found, one, other = values[known], chosen[known].astype(float), (~chosen[known]).astype(float)

    def statistic(drawn: Floats) -> Floats:
        return np.asarray((drawn @ (found * one)) / (drawn @ one) - (drawn @ (found * other)) / (drawn @ other))

    interval = bootstrap_statistic(statistic, patients[known], one)
    return with_enough(interval, int(min(one.sum(), other.sum())))
