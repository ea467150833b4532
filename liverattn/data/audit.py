"""What a person should know of the data before training on them: counts, distributions, findings, shortcuts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.data.cache import PreparedCases
from liverattn.data.duplicates import DuplicatePair, near_duplicates
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import PLAUSIBLE_MEDIAN
from liverattn.data.shortcuts import Shortcut, shortcut_findings, shortcuts
from liverattn.data.splits import strata
from liverattn.files import replacing, write_json
from liverattn.formulas import without_formulas

STRIDE = 32  # of the default backbone: the side of a grid cell in prepared pixels
TINY = 0.25  # of a cell's area
QUANTILES = {"min": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "max": 1.0}


def class_counts(manifest: Manifest) -> dict[str, int]:
    """Images per category in the form of Table 1: ``none`` first."""
    kinds = strata(manifest.table)
    return {kind: kinds.count(kind) for kind in ("none", *sorted(set(kinds) - {"none"})) if kind in kinds}


def distributions(cases: PreparedCases) -> dict[str, NDArray[np.float64]]:
    """Measured quantities by name, each (k,): those of images in which they are defined.

    m of Eq. 1 is 70 afterwards in every image whose top region is not black.
    """
    area = [100 * _areas(boxes).sum() / np.prod(cases.size) for boxes in cases.boxes if boxes is not None]
    known = ~np.isnan(cases.medians)
    quantities = {
        "m of Eq. 1 (0 to 255)": cases.medians[known],
        "m afterwards": (cases.medians * cases.factors)[known],
        "width (pixels)": cases.originals[:, 0].astype(np.float64),
        "height (pixels)": cases.originals[:, 1].astype(np.float64),
        "boxes (% of the prepared lesion image)": np.array([share for share in area if share > 0]),
    }
    return {name: values for name, values in quantities.items() if len(values)}


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Smallest, 10 %, median, 90 % and largest of (k,) values, k >= 1."""
    return {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def tiny_boxes(cases: PreparedCases) -> list[int]:
    """Rows with a box of less than a quarter of a grid cell: 256 square pixels of the prepared image at stride 32."""
    limit = TINY * STRIDE**2
    return [row for row, boxes in enumerate(cases.boxes) if boxes is not None and (_areas(boxes) < limit).any()]


def findings(manifest: Manifest, cases: PreparedCases) -> list[str]:
    """What stops nothing, counted, the manifest's own warnings first; up to five image_ids each."""
    low, high = PLAUSIBLE_MEDIAN
    height, width = cases.size
    lesion = manifest.table["lesion"].to_numpy() == 1
    unboxed = np.array([boxes is None for boxes in cases.boxes])
    small = (cases.originals[:, 0] < width) | (cases.originals[:, 1] < height)
    found: dict[str, Sequence[int] | NDArray[np.int64]] = {
        "lesion image(s) without boxes: no part in the attention loss": np.flatnonzero(lesion & unboxed),
        "image(s) with a box smaller than a quarter of a grid cell (stride 32)": tiny_boxes(cases),
        "image(s) with a black top region: intensities left as they are": np.flatnonzero(np.isnan(cases.medians)),
        f"image(s) with m outside {low} to {high}": np.flatnonzero((cases.medians < low) | (cases.medians > high)),
        f"image(s) smaller than {width}x{height}: enlarged": np.flatnonzero(small),
    }
    ids = manifest.table["image_id"]
    return [
        *manifest.warnings,
        *(
            ()
            if lesion.any()
            else ("no image shows a lesion: is that so, or were boxes or the meaning of names lost?",)
        ),
        *(f"{len(rows)} {what} ({_some(ids[rows])})" for what, rows in found.items() if len(rows)),
    ]


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join([*list(names)[:most], *(["..."] if len(names) > most else [])])


def duplicates_table(manifest: Manifest, pairs: Sequence[DuplicatePair]) -> pd.DataFrame:
    """One row per pair: both image_ids, similarity, mirrored, same_patient, and labels_differ.

    ``labels_differ`` says that lesion, malignant or type contradict each other; unknown contradicts nothing.
    """
    rows = [(manifest.table.loc[pair.first], manifest.table.loc[pair.second]) for pair in pairs]
    labels = ("lesion", "malignant", "type")
    return pd.DataFrame(
        {
            "image_id_a": [a["image_id"] for a, _ in rows],
            "image_id_b": [b["image_id"] for _, b in rows],
            "similarity": [pair.similarity for pair in pairs],
            "mirrored": [pair.mirrored for pair in pairs],
            "same_patient": [a["patient_id"] == b["patient_id"] for a, b in rows],
            "labels_differ": [
                any(pd.notna(a[label]) and pd.notna(b[label]) and a[label] != b[label] for label in labels)
                for a, b in rows
            ],
        }
    )


def duplicate_findings(table: pd.DataFrame) -> list[str]:
    """What the near-duplicates of :func:`duplicates_table` endanger: splits, and labels that contradict each other."""
    warnings = {
        "near-duplicate pair(s) of different patients may straddle a split; data.group_duplicates=true keeps them "
        "together": len(table) - sum(table["same_patient"]),
        "near-duplicate pair(s) have different labels; look at them in the report": sum(table["labels_differ"]),
    }
    return [f"{count} {what}" for what, count in warnings.items() if count]


@dataclass(frozen=True)
class Audit:
    """What the check found.

    Attributes:
        counts: Images per category.
        distributions: Values (k,) by quantity.
        warnings: One line each.
        pairs: Near-duplicates; None where they were not looked for.
        duplicates: The same as a table (:func:`duplicates_table`).
        shortcuts: One per output; empty where they were not looked for.
    """

    counts: dict[str, int]
    distributions: dict[str, NDArray[np.float64]]
    warnings: list[str]
    pairs: list[DuplicatePair] | None
    duplicates: pd.DataFrame
    shortcuts: list[Shortcut]

    def numbers(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "counts": self.counts,
            "distributions": {name: quantiles(values) for name, values in self.distributions.items()},
            "warnings": self.warnings,
            "near_duplicate_pairs": None if self.pairs is None else len(self.pairs),
            "shortcuts": [asdict(shortcut) for shortcut in self.shortcuts],
        }

    def remarked_pairs(self) -> list[tuple[DuplicatePair, list[str]]]:
        """The pairs and what is to be said of each; those with contradicting labels first."""
        remarks = {"labels_differ": "labels differ", "mirrored": "mirrored", "same_patient": "same patient"}
        said = [[remarks[name] for name in remarks if row[name]] for row in self.duplicates.to_dict("records")]
        return sorted(zip(self.pairs or (), said, strict=True), key=lambda pair: "labels differ" not in pair[1])

    def write(self, folder: Path) -> None:
        """Write ``check.json`` and ``duplicates.csv``."""
        write_json(folder / "check.json", self.numbers())
        with replacing(folder / "duplicates.csv") as temporary:
            without_formulas(self.duplicates).to_csv(temporary, index=False)


def audit(manifest: Manifest, cases: PreparedCases, cache: Path | None) -> Audit:
    """Look for everything in this module.

    Args:
        manifest: n cases.
        cases: Their prepared images.
        cache: Folder of the prepared images; None: neither near-duplicates nor shortcuts, which take the time.
    """
    pairs = None if cache is None else near_duplicates(manifest, cache)
    duplicates = duplicates_table(manifest, pairs or ())
    found = [] if cache is None else shortcuts(manifest, cases)
    warnings = [*findings(manifest, cases), *duplicate_findings(duplicates), *shortcut_findings(found)]
    return Audit(class_counts(manifest), distributions(cases), warnings, pairs, duplicates, found)


def contact_sample(manifest: Manifest, most: int) -> list[tuple[int, str]]:
    """Up to ``most`` rows and their categories, each category in turn so that rare ones are seen; always the same."""
    kinds = pd.Series(strata(manifest.table)).sample(frac=1, random_state=0)
    turns = kinds.groupby(kinds).cumcount().sort_values(kind="stable")
    return sorted(((int(row), kinds[row]) for row in turns.index[:most]), key=lambda case: (case[1], case[0]))
