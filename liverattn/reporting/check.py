"""The report of the data check: one HTML file that works offline, everything inlined, nothing executable."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from liverattn.errors import InputError, InputListError
from liverattn.reporting.pages import data_uri, write_page

WIDEST = 345  # pixels of an inlined image: some 15 kB
BOX_COLOR = (255, 255, 0)  # cyan, in OpenCV's order


@dataclass(frozen=True)
class CheckedImage:
    """One image of the report.

    Attributes:
        image: (H, W) intensities, 0 to 255; brighter ones are shown white.
        boxes: (N, 4) in its pixels; None where unknown.
        caption: Its image_id and what it shows; no names of patients.
    """

    image: NDArray[np.number]
    boxes: NDArray[np.float64] | None
    caption: str


@dataclass(frozen=True)
class CheckedPair:
    """Two images that look alike.

    Attributes:
        first: Left.
        second: Right.
        similarity: 0 to 1.
        remarks: What is to be said of the pair, such as "different patients".
    """

    first: CheckedImage
    second: CheckedImage
    similarity: float
    remarks: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Everything on the page; what is empty is left out.

    Attributes:
        title: Names the data.
        heading: Of the errors.
        errors: All of them, one line each; with any, the data cannot be used.
        remedy: For the errors.
        warnings: One line each.
        notes: What an import made of what it found.
        counts: Images per category.
        distributions: Values (k,), k >= 1, by quantity.
        shortcuts: Rows of output, positive and negative cases, AUC from size alone, AUC from all metadata (NaN where it
            was not computed), and whether that is suspicious.
        pairs: Near-duplicates to show; None where they were not looked for.
        pair_count: How many were found.
        images: The sample on the contact sheet.
        image_count: How many there are.
    """

    title: str
    heading: str = ""
    errors: Sequence[str] = ()
    remedy: str = ""
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    distributions: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    shortcuts: Sequence[tuple[str, int, int, float, float, bool]] = ()
    pairs: Sequence[CheckedPair] | None = None
    pair_count: int = 0
    images: Sequence[CheckedImage] = ()
    image_count: int = 0


def refusal(title: str, error: InputError) -> CheckReport:
    """The report of data that cannot be used: every problem, also those that the message leaves out."""
    if isinstance(error, InputListError):
        return CheckReport(title=title, heading=f"{error.heading}.", errors=error.problems, remedy=error.remedy)
    return CheckReport(title=title, heading=str(error))


def write_check(report: CheckReport, path: Path) -> None:
    """Render the page.

    Raises:
        InputError: The file cannot be written.
    """
    write_page("check.html", path, report=report, picture=_picture, chart=_chart, quantiles=_quantiles)


def _picture(shown: CheckedImage) -> str:
    """A data URI of the image with its boxes."""
    height, width = shown.image.shape
    scale = min(1.0, WIDEST / width)
    size = (round(width * scale), round(height * scale))
    gray = cv2.resize(np.clip(shown.image, 0, 255).astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    color = cv2.cvtColor(np.asarray(gray), cv2.COLOR_GRAY2BGR)
    for box in [] if shown.boxes is None else shown.boxes:
        x0, y0, x1, y1 = (int(edge) for edge in np.rint(box * scale))
        cv2.rectangle(color, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOR, 1)
    _, encoded = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return data_uri(encoded.tobytes(), "jpeg")


def _chart(distributions: Mapping[str, NDArray[np.floating]]) -> str:
    """A data URI of distributions side by side."""
    figure = Figure(figsize=(2.6 * len(distributions), 2.2), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(distributions), squeeze=False)[0], distributions.items(), strict=True
    ):
        # Equal values, such as m afterwards, have no range to divide.
        half = max(float(np.ptp(values)) / 2, 12.0)
        middle = (values.min() + values.max()) / 2
        bins = np.linspace(middle - half, middle + half, 26)
        axes.hist(values, bins=bins, color="#35618f")
        axes.set_title(name, fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return data_uri(buffer.getvalue(), "png")


def _quantiles(values: NDArray[np.floating]) -> list[str]:
    return [f"{value:.0f}" for value in np.quantile(values, [0, 0.1, 0.5, 0.9, 1])]
