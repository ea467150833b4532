"""Attention quality by what the lesion is and how large it is, as a table."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from liverattn.comparison.explained import Explained
from liverattn.comparison.groups import Mask, thirds_by_size
from liverattn.comparison.numbers import interval_number
from liverattn.data.manifest import LESION_TYPES
from liverattn.evaluation.intervals import Interval, bootstrap_statistic, rate_interval
from liverattn.reporting.results import Number, ResultTable, Row

Floats = NDArray[np.floating]

MEASURES = {"energy": "energy in boxes", "lift": "lift", "average_precision": "average precision", "iou": "IoU at 0.5"}
DIFFUSENESS = {"peak": "max sigmoid(s)", "entropy": "entropy"}
FEWEST = 5  # images that are drawn again: of fewer, an interval would be too narrow
WHAT_INTERVALS_ARE = (
    "In parentheses: 95 % intervals. Of rates Wilson's, wider where a patient's images are alike; of other numbers "
    f"percentiles over 2000 draws of patients with replacement, and none for fewer than {FEWEST} images."
)
UNDEFINED = Number(float("nan"))


def attention_table(explained: Explained) -> ResultTable:
    """Attention quality of SPEC 7 by type (where known), by malignancy and by size of the lesion."""
    cases = pd.concat([explained.table, explained.quality(explained.seen_task)], axis=1)
    boxed, free = cases[cases["chance"].notna()], cases[(cases["lesion"] == 0) & cases["peak"].notna()]
    rows = [
        Row([name, *_quality(boxed[mask])], begins_section=number == 0)
        for section in _sections(boxed)
        for number, (name, mask) in enumerate(section)
    ]
    undefined = [UNDEFINED] * (len(MEASURES) + 2)
    rows.append(Row(["lesion-free images", len(free), *undefined, *_diffuseness(free)], begins_section=True))
    return ResultTable(
        "attention_quality",
        "Attention quality on held-out images",
        ["images", "number", "maximum in a box", "chance", *MEASURES.values(), *DIFFUSENESS.values()],
        rows,
        [
            "Lesion images with known boxes. chance: share of the image that the boxes cover, which is what a random "
            "point and plain averaging get; lift: energy / chance of each image, averaged; average precision: of "
            "sigmoid(s) over the cells; entropy: of the map, 1 is diffuse.",
            WHAT_INTERVALS_ARE,
            *which_maps(explained),
        ],
    )


def which_maps(explained: Explained) -> Iterator[str]:
    """What a reader of numbers on attention should know of the maps."""
    subject = explained.subject
    yield (
        f"Attention of the copies of the task {explained.seen_task}, epochs chosen by protocol {subject.protocol}, on "
        "images that were not trained on."
    )
    if subject.kind == "ensemble":
        yield (
            "Measured on the weighted mean of the maps (and of sigmoid(s)) over all members and repeats: that is the "
            "map which is shown, and every image counts once. On one grid its energy is the mean of the single maps' "
            "energies; its other measures are usually better than theirs."
        )


def _sections(boxed: pd.DataFrame) -> list[list[tuple[str, Mask]]]:
    """Groups of lesion images, without the empty ones."""
    malignant = boxed["malignant"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    sections: list[list[tuple[str, Mask]]] = [
        [("all lesion images", np.ones(len(boxed), bool))],
        [(kind, (boxed["type"] == kind).to_numpy(bool)) for kind in LESION_TYPES],
        [("benign", malignant == 0), ("malignant", malignant == 1)],
        thirds_by_size(boxed["chance"].to_numpy(np.float64)),
    ]
    return [[(name, mask) for name, mask in section if mask.any()] for section in sections]


def _quality(cases: pd.DataFrame) -> list[int | Number]:
    return [
        len(cases),
        interval_number(rate_interval(cases["pointing"], cases["patient_id"])),
        Number(float(cases["chance"].mean())),
        *(
            interval_number(mean_interval(cases[name], cases["patient_id"]), digits=1 if name == "lift" else 2)
            for name in MEASURES
        ),
        *_diffuseness(cases),
    ]


def _diffuseness(cases: pd.DataFrame) -> list[Number]:
    return [Number(float(cases[name].mean()), digits=2) for name in DIFFUSENESS]


def mean_interval(values: ArrayLike, patients: ArrayLike) -> Interval:
    """Mean of (n,) values, NaN left out, with limits over drawn patients (n,)."""
    found = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(found)
    found = found[known]
    interval = bootstrap_statistic(lambda drawn: drawn @ found / drawn.sum(axis=1), np.asarray(patients)[known])
    return with_enough(interval, len(found))


def with_enough(interval: Interval, images: int) -> Interval:
    """The same, without limits where they rest on too few images."""
    return interval if images >= FEWEST else Interval(interval.value, float("nan"), float("nan"))
