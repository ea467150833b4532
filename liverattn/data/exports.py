"""Cases to the formats of annotation tools, so that boxes can be corrected there and imported again."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from liverattn.data.images import image_size
from liverattn.data.manifest import LESION_TYPES, Manifest
from liverattn.errors import InputError
from liverattn.files import write_json

CLASSES = ("lesion", "benign", "malignant", *LESION_TYPES)


def coco(manifest: Manifest) -> dict[str, Any]:
    """COCO's object detection format.

    It cannot say that an image shows a lesion that nobody has drawn: such cases are left out.
    ``patient_id`` stands beside an image's name, where :class:`liverattn.data.sources.coco.CocoSource` finds it.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, row in enumerate(manifest.table.to_dict("records"), start=1):
        if row["boxes"] is None:
            continue
        width, height = image_size(manifest.root / row["path"])
        images.append(
            {"id": i, "file_name": row["path"], "width": width, "height": height, "patient_id": row["patient_id"]}
        )
        for x0, y0, x1, y1 in row["boxes"].tolist():
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": CLASSES.index(_class(row)) + 1}
                | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def label_studio(manifest: Manifest) -> list[dict[str, Any]]:
    """Label Studio's tasks; the class of a lesion image is a choice for the whole image, too."""
    return [_task(manifest.root, row) for row in manifest.table.to_dict("records")]


def _task(root: Path, row: Mapping[Any, Any]) -> dict[str, Any]:
    width, height = image_size(root / row["path"])
    name = _class(row) if row["lesion"] else "none"
    shared = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
    results = [
        {"id": f"box{i}", "type": "rectanglelabels", "from_name": "label", **shared}
        | {"value": _percent(box, width, height) | {"rotation": 0, "rectanglelabels": [name]}}
        for i, box in enumerate([] if row["boxes"] is None else row["boxes"].tolist())
    ]
    choice = {"id": "case", "type": "choices", "from_name": "case", **shared, "value": {"choices": [name]}}
    data = {"image": f"/data/local-files/?d={quote(row['path'])}", "patient_id": row["patient_id"]}
    return {"data": data, "annotations": [{"result": [choice, *results]}]}


def _percent(box: list[float], width: int, height: int) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    return {
        "x": 100 * x0 / width,
        "y": 100 * y0 / height,
        "width": 100 * (x1 - x0) / width,
        "height": 100 * (y1 - y0) / height,
    }


def _class(row: Mapping[Any, Any]) -> str:
    if row["type"] is not None:
        return str(row["type"])
    return "lesion" if pd.isna(row["malignant"]) else ("benign", "malignant")[int(row["malignant"])]


FORMATS: Mapping[str, Callable[[Manifest], Any]] = {"coco": coco, "labelstudio": label_studio}


def write_exports(manifest: Manifest, names: Sequence[str], folder: Path) -> list[str]:
    """Write cases in tools' formats, ``NAME.json`` each.

    Args:
        manifest: The cases.
        names: Some of :data:`FORMATS`.
        folder: Of the files.

    Returns:
        A line for each file, and what it could not hold.

    Raises:
        InputError: A format is not one of them.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise InputError(f"Expected export to name some of {', '.join(FORMATS)}, but got {', '.join(unknown)}.")
    lines = []
    for name in names:
        write_json(folder / f"{name}.json", FORMATS[name](manifest))
        lost = sum(boxes is None for boxes in manifest.table["boxes"]) if name == "coco" else 0
        without = f" (without {lost} lesion image(s) whose boxes are unknown: COCO cannot say so)" if lost else ""
        lines.append(f"Export:          {folder / f'{name}.json'}{without}")
    return lines
