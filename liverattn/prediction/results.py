"""What a bundle says of one image, and of many as a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.bundle.contents import Contents
from liverattn.data.preprocessing import PLAUSIBLE_MEDIAN, PreparedImage, Preprocessing, Window
from liverattn.prediction.images import Case, Grey
from liverattn.prediction.maps import PlacedMap, canvas_size, place, proposals

MOST_ENLARGED = 2.0
POINT, THRESHOLD = "sensitivity_90", 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a bundle says of one image.

    Attributes:
        case: The image.
        probabilities: By output; empty where there is an error.
        spread: By output: weighted standard deviation over the members; empty with one member.
        maps: One per architecture.
        image: (H, W) uint8, as decoded; of a DICOM file its ultrasound region.
        kept: What the border crop left of the image for the first architecture, ``x0, y0, x1, y1`` in its pixels.
        median: m of Eq. 1; None where the top region is black.
        region: Where in the file's pixels the image lies, ``x0, y0, x1, y1``; None: it is all of it.
        warnings: What is odd about the image.
        error: Why there is no prediction.
    """

    case: Case
    probabilities: Mapping[str, float]
    spread: Mapping[str, float]
    maps: tuple[PlacedMap, ...]
    image: Grey | None
    kept: Window | None
    median: float | None
    region: Window | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(W, H) of the image."""
        return None if self.image is None else (self.image.shape[1], self.image.shape[0])

    def attention(self, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """(H, W) attention sigmoid(s) over the original image, 0 to 1; 0 where borders were cropped.

        Args:
            size: (height, width) of the result; None: the image's.

        Raises:
            ValueError: There is an error instead.
        """
        if self.size is None:
            raise ValueError(f"{self.case.name} {self.error}: it has no attention map.")
        return place(self.maps, self.size, size or (self.size[1], self.size[0]))

    def coarse_attention(self) -> NDArray[np.float32]:
        """The same at no more pixels than it takes to draw it."""
        return self.attention(None if self.size is None else canvas_size(self.size))

    def boxes(self, threshold: float = THRESHOLD) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, 4) proposed boxes in pixels of the image, and the (N,) largest attention in each.

        In pixels of the file they lie :attr:`offset` further.
        """
        return (np.zeros((0, 4)), np.zeros(0)) if self.size is None else proposals(self.maps, self.size, threshold)

    @property
    def offset(self) -> NDArray[np.int64]:
        """(4,) to add to a box in pixels of the image for one in pixels of the file."""
        return np.array([0, 0, 0, 0] if self.region is None else [*self.region[:2]] * 2)

    @property
    def known_boxes(self) -> NDArray[np.float64] | None:
        """(N, 4) known lesions in pixels of the image; None where unknown."""
        return None if self.case.boxes is None else self.case.boxes - self.offset

    def decisions(self, contents: Contents, point: str = POINT) -> dict[str, bool]:
        """By output: at least the threshold of an operating point; outputs without that point are left out."""
        limits = contents.thresholds(point)
        return {o: self.probabilities[o] >= limit for o, limit in limits.items() if o in self.probabilities}


def failed(case: Case, problem: str) -> Prediction:
    """The row of an image that cannot be used."""
    return Prediction(case, {}, {}, (), None, None, None, error=problem)


def preparation_warnings(prepared: PreparedImage, steps: Preprocessing) -> Iterator[str]:
    """What is odd about the preparation of an image."""
    if steps.intensity != "off":
        low, high = PLAUSIBLE_MEDIAN
        if prepared.median is None:
            yield "its top region is black: intensities were not rescaled"
        elif not low <= prepared.median <= high:
            yield f"m = {prepared.median:.0f} lies outside {low} to {high}: very dark or bright at the top"
    x0, y0, x1, y1 = prepared.window
    enlarged = max(steps.height / (y1 - y0), steps.width / (x1 - x0))
    if enlarged > MOST_ENLARGED:
        yield f"only {x1 - x0}x{y1 - y0} pixels after cropping and padding, enlarged {enlarged:.1f} times"


def prediction_row(
    prediction: Prediction, contents: Contents, point: str = POINT, threshold: float = THRESHOLD
) -> dict[str, Any]:
    """One row of ``predictions.csv``: plain values, None where there is nothing to say; boxes in pixels of the file.

    Args:
        prediction: Of one image.
        contents: Of the bundle.
        point: Operating point of the decisions.
        threshold: Of the attention, for proposed boxes.
    """
    boxes, peaks = prediction.boxes(threshold)
    size = prediction.size
    decisions = prediction.decisions(contents, point)
    row: dict[str, Any] = {"image_id": prediction.case.name, "error": prediction.error}
    row["warnings"] = "; ".join(prediction.warnings) or None
    for prefix, values in (("probability", prediction.probabilities), ("spread", prediction.spread)):
        row |= {f"{prefix}_{output}": values.get(output) for output in contents.outputs}
    row |= {f"decision_{output}": _whole(decisions.get(output)) for output in contents.outputs}
    offset = prediction.offset
    row["boxes"] = json.dumps((boxes.astype(int) + offset).tolist()) if size is not None else None
    row["box_attention"] = json.dumps([round(peak, 4) for peak in peaks.tolist()]) if size is not None else None
    row |= {"width": None if size is None else size[0], "height": None if size is None else size[1]}
    row["kept"] = None if prediction.kept is None else json.dumps((prediction.kept + offset).tolist())
    row["region"] = None if prediction.region is None else json.dumps(prediction.region)
    row["median"] = prediction.median
    row |= known_values(prediction.case, contents)
    row["overlay"] = None
    return row


def known_values(case: Case, contents: Contents) -> dict[str, Any]:
    """The part of a row that was known before: no prediction changes it."""
    truth = {f"truth_{output}": case.truth.get(output) for output in contents.outputs}
    return truth | {"known_boxes": None if case.boxes is None else json.dumps(case.boxes.tolist())}


def predictions_table(predictions: Sequence[Prediction], contents: Contents) -> pd.DataFrame:
    """Many rows (:func:`prediction_row`) with the types of :func:`typed`."""
    return typed(pd.DataFrame([prediction_row(one, contents) for one in predictions]), contents)


def typed(table: pd.DataFrame, contents: Contents) -> pd.DataFrame:
    """The types of the columns, also where a column is empty: parts of one table fit together."""
    kinds = {"image_id": "object", "error": "object", "warnings": "object", "median": "float64"}
    kinds |= {name: "object" for name in ("boxes", "box_attention", "kept", "region", "known_boxes", "overlay")}
    kinds |= {name: "Int64" for name in ("width", "height")}
    for output in contents.outputs:
        kinds |= {f"{kind}_{output}": "float64" for kind in ("probability", "spread", "truth")}
        kinds[f"decision_{output}"] = "Int64"
    return table.astype({name: kind for name, kind in kinds.items() if name in table})


def _whole(decision: bool | None) -> int | None:
    return None if decision is None else int(decision)
