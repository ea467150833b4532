"""The boxes of a case in one cell of a table: JSON, and what can be wrong with it."""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_SHOWN = 100  # characters of a cell in a message


def parse_boxes(text: str) -> NDArray[np.float64]:
    """Read boxes from a manifest cell.

    Args:
        text: JSON ``[[x0, y0, x1, y1], ...]`` in original pixels, half-open.

    Returns:
        (N, 4) float64, N >= 1; a box that is there twice counts once.

    Raises:
        ValueError: Not JSON, no boxes, or any box not four finite numbers, inverted, empty, negative or within the
            first pixel (all are named).
    """
    try:
        # Whole numbers as floats, too: an absurdly long one becomes infinite instead of overflowing later.
        boxes = json.loads(text, parse_int=float)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at character {error.pos})") from None
    except RecursionError:
        raise ValueError("is not a list of boxes (nested too deeply)") from None
    if not isinstance(boxes, list) or not boxes:
        raise ValueError("has no boxes; leave the cell blank where boxes are unknown")
    problems = [problem for box in boxes if (problem := _edge_problem(box)) is not None]
    if problems:
        raise ValueError("; ".join(problems))
    return np.asarray(list(dict.fromkeys(map(tuple, boxes))), dtype=np.float64)


def _edge_problem(box: Any) -> str | None:
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(e, float) and math.isfinite(e) for e in box)):
        return f"box {shortened(str(box))} is not four finite numbers [x0, y0, x1, y1]"
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        return f"box {box} is empty or inverted: x0 < x1 and y0 < y1 must hold"
    if x0 < 0 or y0 < 0:
        return f"box {box} begins outside the image: edges must be >= 0"
    if x1 <= 1 and y1 <= 1:
        return f"box {box} lies within the first pixel: give edges in pixels, not in shares of the image's size"
    return None


def shortened(text: str) -> str:
    """As much of a cell as a message can show."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def box_problem(text: str) -> str | None:
    """What is wrong with a cell, or None."""
    try:
        parse_boxes(text)
    except ValueError as error:
        return str(error)
    return None
