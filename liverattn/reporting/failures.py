"""The report on failures: one HTML file that works offline, everything inlined, nothing executable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from liverattn.reporting.pages import data_uri, write_page
from liverattn.reporting.results import ResultTable

WIDTH = 345  # pixels of an inlined image: some 15 kB
LESION_COLOR, VESSEL_COLOR = (0, 255, 255), (255, 150, 50)  # cyan and orange
LEGEND = (240, 14)  # width and height of the color scale, pixels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class FailedCase:
    """One case that is called wrongly.

    Attributes:
        image: (H, W) intensities, 0 to 255; brighter ones are shown white.
        lift: (h, w) attention map times its number of cells: 1 is what plain averaging gives everywhere.
        boxes: (N, 4) of lesions in its pixels; None where unknown.
        vessels: (N, 4) in its pixels; None where unknown.
        name: image_id; None: not to be named.
        kind: Such as ``false positive``.
        said: Truth, call and probability.
        attention: Where the network looked.
    """

    image: NDArray[np.number]
    lift: NDArray[np.floating]
    boxes: NDArray[np.float64] | None
    vessels: NDArray[np.float64] | None
    name: str | None
    kind: str
    said: str
    attention: str


@dataclass(frozen=True)
class FailedTask:
    """What a task gets wrong.

    Attributes:
        title: Of the task.
        summary: How many calls are wrong.
        cases: The most wrong ones, from the most wrong on.
        confusions: Types by what they are called; None for a task with one output.
    """

    title: str
    summary: str
    cases: Sequence[FailedCase]
    confusions: ResultTable | None = None

    @property
    def kinds(self) -> list[tuple[str, list[FailedCase]]]:
        """The cases by kind."""
        kinds = sorted({case.kind for case in self.cases}, reverse=True)  # false positives first
        return [(kind, [case for case in self.cases if case.kind == kind]) for kind in kinds]


@dataclass(frozen=True)
class FailureReport:
    """Everything on the page.

    Attributes:
        title: Names the run or ensemble.
        facts: What it is, by name.
        tasks: Their failures.
        tables: Attention quality and the like.
        notes: What a reader should know, one line each.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    tasks: Sequence[FailedTask]
    tables: Sequence[ResultTable]
    notes: Sequence[str] = ()


def write_failures(report: FailureReport, path: Path) -> None:
    """Render the page.

    Raises:
        InputError: The file cannot be written.
    """
    cases = [case for task in report.tasks for case in task.cases]
    largest = max(2.0, float(np.median([case.lift.max() for case in cases]))) if cases else 2.0
    write_page(
        "report.html",
        path,
        report=report,
        plain=lambda case: _inlined(_boxed(_gray(case.image), case.boxes, LESION_COLOR, case)),
        superposed=lambda case: _inlined(_explained(case, largest)),
        legend=_inlined(_legend(largest)),
        largest=f"{largest:.1f}",
        has_vessels=any(case.vessels is not None for case in cases),
    )


def superpose(image: Pixels, lift: NDArray[np.floating], largest: float) -> Pixels:
    """Color an image by where the attention lies: gray up to 1, the plain average; full color from ``largest`` on.

    Args:
        image: (H, W, 3) red, green, blue.
        lift: (h, w) attention map times its number of cells.
        largest: End of the color scale, > 1.
    """
    fine = cv2.resize(lift.astype(np.float32), (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    share = np.clip((np.asarray(fine) - 1) / (largest - 1), 0, 1)
    color = colormaps["plasma"](share)[..., :3] * 255
    opacity = 0.7 * np.sqrt(share)[..., None]
    return np.asarray(np.rint(image * (1 - opacity) + color * opacity), dtype=np.uint8)


def _legend(largest: float) -> Pixels:
    gray = np.full((LEGEND[1], LEGEND[0], 3), 90, np.uint8)
    return superpose(gray, np.linspace(1, largest, LEGEND[0])[None], largest)


def _gray(image: NDArray[np.number]) -> Pixels:
    """(H, W, 3) of the width of the page's pictures."""
    height, width = image.shape
    interpolation = cv2.INTER_AREA if width >= WIDTH else cv2.INTER_LINEAR
    size = (WIDTH, round(height * WIDTH / width))
    resized = cv2.resize(np.clip(image, 0, 255).astype(np.uint8), size, interpolation=interpolation)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def _explained(case: FailedCase, largest: float) -> Pixels:
    picture = superpose(_gray(case.image), case.lift, largest)
    return _boxed(_boxed(picture, case.vessels, VESSEL_COLOR, case), case.boxes, LESION_COLOR, case)


def _boxed(picture: Pixels, boxes: NDArray[np.float64] | None, color: tuple[int, int, int], case: FailedCase) -> Pixels:
    scale = WIDTH / case.image.shape[1]
    for box in [] if boxes is None else boxes:
        x0, y0, x1, y1 = (int(edge) for edge in np.rint(box * scale))
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), color, 1)
    return picture


def _inlined(picture: Pixels) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data_uri(encoded.tobytes(), "jpeg")
