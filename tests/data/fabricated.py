"""Cases made up without image files: what the check of data is tested with."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from liverattn.data.cache import PreparedCases
from liverattn.data.manifest import Manifest


class Fabricated(PreparedCases):
    """Prepared cases whose images are uniform: (1, 1) pixel of 100."""

    def image(self, row: int) -> Any:
        return np.full((1, 1), 100, np.uint8)


def prepared(**changes: Any) -> PreparedCases:
    """n = 4 cases of 240x345, all 800x600, m 70, without boxes."""
    count = len(next(iter(changes.values()))) if changes else 4
    default: dict[str, Any] = {
        "folder": Path("none"),
        "keys": np.array([b"none"] * count),
        "boxes": (np.zeros((0, 4)),) * count,
        "factors": np.ones(count, np.float32),
        "medians": np.full(count, 70.0),
        "originals": np.tile([800, 600], (count, 1)),
        "size": (240, 345),
        "fingerprint": "none",
    }
    return Fabricated(**{**default, **changes})


def table(lesion: Any, malignant: Any = None, **columns: Any) -> Manifest:
    """One patient per case."""
    count = len(lesion)
    ids = [f"case{i}" for i in range(count)]
    cells = {
        "image_id": ids,
        "patient_id": ids,
        "path": ids,
        "lesion": list(lesion),
        "malignant": pd.array([pd.NA] * count if malignant is None else malignant, dtype="Int64"),
        "type": [None] * count,
        **columns,
    }
    cells["type"] = pd.Series(cells["type"], dtype=object)
    return Manifest(pd.DataFrame(cells), Path("root"), warnings=("heard before",))
