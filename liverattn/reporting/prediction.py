"""The report of predictions: one HTML file that works offline, also with thousands of images."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from liverattn.reporting.pages import data_uri, write_page
from liverattn.reporting.results import ResultTable


@dataclass(frozen=True, kw_only=True)
class PredictionReport:
    """What stands above the table of images.

    Attributes:
        title: Names the bundle.
        outputs: Names of the K outputs.
        point: Operating point of the decisions.
        thresholds: Of it, by output.
        counts: Such as images, errors, warnings.
        tables: Where labels are known: AUCs, rates.
        figures: PNG files: ROC, calibration.
        show_names: Else images are called by their number.
    """

    title: str
    outputs: Sequence[str]
    point: str
    thresholds: Mapping[str, float]
    counts: Mapping[str, int]
    tables: Sequence[ResultTable] = ()
    figures: Sequence[Path] = ()
    show_names: bool = True


@dataclass(frozen=True)
class ReportedImage:
    """One row.

    Attributes:
        number: Of the image, from 0.
        values: The row of ``predictions.csv``.
        picture: Path of its small image and map without suffix; None: the row has no picture.
    """

    number: int
    values: Mapping[str, Any]
    picture: Path | None = field(default=None)


def write_prediction_report(report: PredictionReport, images: Iterable[ReportedImage], path: Path) -> None:
    """Write the page, one image after the other: none but the current one is in memory.

    Raises:
        InputError: The file cannot be written.
    """
    write_page("prediction.html", path, report=report, images=_entries(report, images), data_uri=_inlined)


def _entries(report: PredictionReport, images: Iterable[ReportedImage]) -> Iterator[str]:
    """One line of JSON per image, in which nothing can end the element that holds it."""
    for image in images:
        row = image.values
        entry = {
            "n": image.number,
            "name": row["image_id"] if report.show_names else f"image {image.number}",
            "error": row["error"],
            "warnings": row["warnings"],
            "p": [_rounded(row[f"probability_{output}"]) for output in report.outputs],
            "spread": [_rounded(row[f"spread_{output}"]) for output in report.outputs],
            "decision": [row[f"decision_{output}"] for output in report.outputs],
            "truth": [row[f"truth_{output}"] for output in report.outputs],
            "boxes": _parsed(row["boxes"]),
            "known": _parsed(row["known_boxes"]),
            "size": [row["width"], row["height"]],
            "origin": (_parsed(row["region"]) or [0, 0])[:2],
            "kept": _parsed(row["kept"]),
            "m": row["median"],
            "overlay": row["overlay"],
        }
        if image.picture is not None and image.picture.with_suffix(".jpg").exists():
            entry["image"] = _inlined(image.picture.with_suffix(".jpg"))
            entry["map"] = _inlined(image.picture.with_suffix(".png"))
        yield json.dumps(entry).replace("<", "\\u003c").replace("&", "\\u0026")


def _parsed(cell: str | None) -> Any:
    return None if cell is None else json.loads(cell)


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


def _inlined(path: Path) -> str:
    return data_uri(path.read_bytes(), "jpeg" if path.suffix == ".jpg" else "png")
