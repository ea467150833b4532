"""Attention quality of every architecture beside maps that look at no image, and attention as a second detector."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.attention_quality import FEWEST, mean_interval
from liverattn.comparison.groups import Group, lesion_kinds, thirds_by_size
from liverattn.comparison.held_out import HeldOut, on_one_scale
from liverattn.comparison.numbers import interval_number, p_number
from liverattn.comparison.pairs import ONE_SCORE
from liverattn.comparison.scored import Scored
from liverattn.evaluation.delong import delong_interval, delong_test
from liverattn.evaluation.scores import Task
from liverattn.reporting.results import Number, ResultTable, Row

MEASURES = {
    "pointing": "maximum in a box",
    "energy": "energy in boxes",
    "lift": "lift",
    "average_precision": "average precision",
    "iou": "IoU at 0.5",
}
# What a map without a look gets: an even one its expectation, by the column of ``cases.parquet`` that holds it.
EVEN = {
    "pointing": "center_chance",
    "energy": "center_chance",
    "average_precision": "touched",
    "iou": "center_chance",
}
CENTER = {name: f"center_{name}" for name in MEASURES}


@dataclass(frozen=True)
class MeasuredMap:
    """Attention quality of one kind of map, each image once (mean over repeats), images ascending.

    Attributes:
        label: Of the row.
        quality: n rows, the columns of :data:`MEASURES`; NaN on images without known boxes.
    """

    label: str
    quality: pd.DataFrame


def attention_by_architecture(rows: Sequence[Scored], protocol: str, tasks: Sequence[Task]) -> ResultTable | None:
    """Attention quality of SPEC 7 beside two baselines, over all lesion images, by size and by what the lesion is.

    Args:
        rows: Architectures; those without recorded attention are left out.
        protocol: That all of them served.
        tasks: With K outputs in all.

    Returns:
        None where no architecture recorded attention or no image has boxes.
    """
    found = {one.label: one.held_out[protocol == "inner"] for one in rows}
    with_maps = {label: held_out for label, held_out in found.items() if held_out.quality}
    maps = [MeasuredMap(label, _per_image(one, one.quality[protocol])) for label, one in with_maps.items()]
    maps = [one for one in maps if one.quality["energy"].notna().any()]
    if not maps:
        return None
    held_out = next(iter(with_maps.values()))
    maps += _baselines(with_maps)
    share = next(iter(maps)).quality["chance"].to_numpy(np.float64)
    made = []
    for group, mask in _groups(held_out, share, tasks):
        for number, one in enumerate(maps):
            cells = _cells(one.quality[mask], _patients(held_out)[mask])
            made.append(Row([group, one.label, int(mask.sum()), *cells], True, number == 0, group != ALL))
    notes = [
        "Lesion images with known boxes, held out, each once: mean over repeats, then over images; 95 % intervals "
        f"over 2 000 draws of patients, none for fewer than {FEWEST} images. Lesion copies, protocol {protocol}.",
        "even map: what plain averaging gets; a point anywhere is in a box as often as boxes cover the image. center "
        "prior: the mean of the training folds' boxes, the same map for every image. Neither looks at the image.",
    ]
    columns = ["lesions", "map", "images", *MEASURES.values()]
    return ResultTable("attention", "Attention quality beside maps that look at no image", columns, made, notes)


ALL = "all"
BOTH = (Task("output", ("output", "peak"), 1.0, conditional=False),)  # detectors that are judged on all images


def _baselines(found: Mapping[str, HeldOut]) -> Iterator[MeasuredMap]:
    """Even map and center prior, once for every grid."""
    seen: list[pd.DataFrame] = []
    for label, held_out in found.items():
        if held_out.cases is None:
            continue
        known = _per_image(held_out, held_out.cases[["touched", *CENTER.values(), "center_chance"]])
        if any(known.equals(other) for other in seen):
            continue
        of_grid = f", grid of {label}" if seen else ""
        seen.append(known)
        even = known[list(EVEN.values())].set_axis(list(EVEN), axis=1).assign(lift=known["touched"] * 0 + 1)
        yield MeasuredMap(f"even map{of_grid}", even)
        yield MeasuredMap(f"center prior{of_grid}", known[list(CENTER.values())].set_axis(list(CENTER), axis=1))


def _groups(held_out: HeldOut, share: NDArray[np.float64], tasks: Sequence[Task]) -> Iterator[Group]:
    """Of lesion images with boxes: all, thirds by the share that the boxes cover, and by what each output says."""
    boxed = ~np.isnan(share)
    yield ALL, boxed
    truth = _per_image(held_out, pd.DataFrame(held_out.truth)).to_numpy(np.float64)
    kinds = lesion_kinds(truth, [name for task in tasks for name in task.outputs])
    yield from ((name, mask & boxed) for name, mask in [*thirds_by_size(share), *kinds] if (mask & boxed).any())


def _cells(quality: pd.DataFrame, patients: NDArray[np.str_]) -> list[Number]:
    return [interval_number(mean_interval(quality[name], patients), 1 if name == "lift" else 3) for name in MEASURES]


def _per_image(held_out: HeldOut, values: pd.DataFrame) -> pd.DataFrame:
    return values.groupby(held_out.keys["image_id"].to_numpy(dtype=str)).mean().reset_index(drop=True)


def _patients(held_out: HeldOut) -> NDArray[np.str_]:
    found = held_out.keys.groupby("image_id")["patient_id"].first()
    return np.asarray(found.to_numpy(dtype=str))


def detection_table(rows: Sequence[Scored], protocol: str, tasks: Sequence[Task]) -> ResultTable | None:
    """Lesion detection by max sigmoid(s) beside that by the lesion output.

    Args:
        rows: Architectures; those without recorded attention are left out.
        protocol: That all of them served.
        tasks: With K outputs in all.

    Returns:
        None without the output ``lesion`` or recorded attention.
    """
    names = [name for task in tasks for name in task.outputs]
    if "lesion" not in names:
        return None
    k, made = names.index("lesion"), []
    for scored in rows:
        held_out = scored.held_out[protocol == "inner"]
        if not held_out.quality or held_out.quality[protocol]["peak"].isna().all():
            continue
        peak = held_out.quality[protocol][["peak"]].to_numpy(np.float64)
        both = np.column_stack([held_out.probabilities[protocol][:, [k]], peak])
        scale = on_one_scale(replace(held_out, truth=held_out.truth[:, [k, k]], probabilities={protocol: both}), BOTH)
        columns = {
            "truth": held_out.truth[:, k],
            **dict(zip(("output", "peak"), scale.probabilities[protocol].T, strict=True)),
        }
        found, patients = _per_image(held_out, pd.DataFrame(columns)), _patients(held_out)
        test = delong_test(found["truth"], found["peak"], found["output"], patients)
        areas = [
            interval_number(delong_interval(found["truth"], found[name], patients), 3) for name in ("output", "peak")
        ]
        limits = {"low": test.low, "high": test.high}
        difference = Number(test.difference, limits, signed=True, between=" to ")
        made.append(Row([scored.label, *areas, difference, p_number(test.p)]))
    if not made:
        return None
    columns_shown = ["architecture", "lesion output", "max sigmoid(s)", "difference (95 %)", "p"]
    notes = [f"{ONE_SCORE} So is max sigmoid(s). Intervals and paired test by DeLong."]
    title = f"Detection by attention: AUC, protocol {protocol}"
    return ResultTable("detection", title, columns_shown, made, notes)
