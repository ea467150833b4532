"""Outputs of the network and what is known of them for each case."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.data.manifest import LESION_TYPES, Manifest
from liverattn.errors import InputError

OUTPUTS = ("lesion", "malignancy", *LESION_TYPES)


def case_labels(
    manifest: Manifest, outputs: Sequence[str], lesion_free: Literal["zeros", "masked"] = "zeros"
) -> NDArray[np.float32]:
    """Labels of every case for every output.

    Args:
        manifest: n cases.
        outputs: K names out of :data:`OUTPUTS`.
        lesion_free: What the outputs other than ``lesion`` get on a lesion-free image: ``zeros`` ("seven sigmoids":
            they are trained as negatives) or ``masked`` (unknown, no part in the loss). Their evaluation is on lesion
            images only either way.

    Returns:
        (n, K) float32: 0, 1, or NaN where unknown.

    Raises:
        InputError: An output is unknown, or has no positive label in these data.
    """
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown:
        raise InputError(f"Unknown output(s) {', '.join(unknown)} in data.tasks. Valid: {', '.join(OUTPUTS)}.")
    if lesion_free not in ("zeros", "masked"):
        raise InputError(f"Expected data.lesion_free to be zeros or masked, but got {lesion_free!r}.")
    labels = np.stack([truth_of(manifest.table, name) for name in outputs], axis=1).astype(np.float32)
    absent = [name for name, column in zip(outputs, labels.T, strict=True) if not (column == 1).any()]
    if absent:
        raise InputError(
            f"No case is positive for the output(s) {', '.join(absent)}, so they cannot be learned from these data. "
            "Leave them out of data.tasks: '~data.tasks.type' drops a task, 'data.tasks.type.outputs=[cyst,hcc]' keeps "
            "some of its outputs."
        )
    if lesion_free == "masked":
        conditional = np.array([name != "lesion" for name in outputs])
        labels[np.ix_(manifest.table["lesion"].to_numpy() == 0, conditional)] = np.nan
    return labels


def without_positives(table: pd.DataFrame, tasks: Mapping[str, Sequence[str]]) -> list[str]:
    """Options that leave out what no case of a manifest's table is positive for; ``tasks``: outputs by task."""
    options = []
    for name, outputs in tasks.items():
        left = [output for output in outputs if (truth_of(table, output) == 1).any()]
        if not left:
            options.append(f"~data.tasks.{name}")
        elif len(left) < len(outputs):
            options.append(f"data.tasks.{name}.outputs=[{','.join(left)}]")
    return options


def kinds_of_lesion(table: pd.DataFrame) -> NDArray[np.int64]:
    """(n,) 0 none, 1 benign, 2 malignant, for the n cases of a manifest's table.

    A lesion of unknown malignancy is of no kind, -1; where no lesion's is known, all are of one kind, 1.
    """
    unknown = -2 if table["malignant"].notna().any() else 0
    kinds = np.where(table["lesion"] == 0, 0, 1 + table["malignant"].astype("Int64").fillna(unknown))
    return kinds.astype(np.int64)


def truth_of(table: pd.DataFrame, output: str) -> NDArray[np.float64]:
    """(n,) 0, 1, or NaN where unknown, of one output and the n cases of a manifest's table."""
    lesion = table["lesion"].to_numpy()
    if output == "lesion":
        return np.asarray(lesion, dtype=np.float64)
    if output == "malignancy":
        known = table["malignant"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        known = np.where(table["type"].notna(), (table["type"] == output).astype(float), np.nan)
    labels: NDArray[np.float64] = np.where(lesion == 0, 0.0, known)
    return labels
