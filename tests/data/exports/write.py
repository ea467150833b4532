"""Writes the exports beside this file with the tools' own libraries; they are kept, so that tests need none of these.

Datumaro 1.13.12 (CVAT's library) writes COCO, VOC, YOLO and CVAT, label-studio-sdk 2.1.2 converts COCO to its own JSON,
labelme 6.3.1 saves LabelMe, openpyxl the workbook: install these, then ``python write.py``.
"""

import csv
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType, Bbox, LabelCategories
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
from labelme import LabelFile
from openpyxl import Workbook

HERE = Path(__file__).parent
SIZE = (64, 48)


def cases() -> list[tuple[str, str, list[list[float]]]]:
    """Name, class and boxes of ``cases.csv``."""
    with (HERE / "cases.csv").open() as stream:
        return [(row["image_id"], row["type"], json.loads(row["boxes"] or "[]")) for row in csv.DictReader(stream)]


def dataset() -> Dataset:
    """All cases as Datumaro has them."""
    names = sorted({kind for _, kind, _ in cases() if kind})
    items = []
    for name, kind, boxes in cases():
        annotations = [
            Bbox(x0, y0, x1 - x0, y1 - y0, label=names.index(kind), id=i, group=i, attributes={"occluded": False})
            for i, (x0, y0, x1, y1) in enumerate(boxes, start=1)
        ]
        image = Image.from_numpy(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), ext=".png")
        items.append(DatasetItem(id=name, subset="train", media=image, annotations=annotations))
    return Dataset.from_iterable(items, categories={AnnotationType.label: LabelCategories.from_iterable(names)})


def main() -> None:
    """Write all exports."""
    with tempfile.TemporaryDirectory() as place:
        for name, format_ in {
            "coco": "coco_instances",
            "voc": "voc_detection",
            "yolo": "yolo",
            "cvat": "cvat",
        }.items():
            dataset().export(f"{place}/{name}", format_, save_media=True)
            shutil.rmtree(HERE / name, ignore_errors=True)
            for file in sorted(Path(place, name).rglob("*")):
                if (
                    file.suffix in (".json", ".xml", ".txt", ".yaml", ".names", ".data")
                    and file.stat().st_size < 50_000
                ):
                    target = HERE / name / file.relative_to(Path(place, name))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, target)
    shutil.rmtree(HERE / "labelstudio", ignore_errors=True)
    (HERE / "labelstudio").mkdir()
    convert_coco_to_ls(
        str(HERE / "coco/annotations/instances_train.json"),
        str(HERE / "labelstudio/tasks.json"),
        out_type="annotations",
        use_super_categories=False,
    )
    (HERE / "labelme").mkdir(exist_ok=True)
    for name, kind, boxes in cases():
        shapes = [
            {
                "label": kind,
                "points": [box[:2], box[2:]],
                "shape_type": "rectangle",
                "flags": {},
                "group_id": None,
                "description": "",
                "mask": None,
            }
            for box in boxes
        ]
        LabelFile().save(
            filename=str(HERE / f"labelme/{name}.json"),
            shapes=shapes,
            image_path=f"{name}.png",
            image_data=None,
            image_height=SIZE[1],
            image_width=SIZE[0],
            other_data={},
            flags={},
        )
    write_workbook(HERE / "cases.xlsx")


def write_workbook(path: Path) -> None:
    """The cases as a person keeps them: in German, one row per box, left, top, width, height."""
    book = Workbook()
    book.active.title = "Notizen"
    sheet = book.create_sheet("Befunde")
    sheet.append(["Bild", "Patient", "Befund", "links", "oben", "breit", "hoch"])
    for number, (name, kind, boxes) in enumerate(cases(), start=1):
        for x0, y0, x1, y1 in boxes or [[None] * 4]:
            edges = [None] * 4 if x0 is None else [x0, y0, x1 - x0, y1 - y0]
            sheet.append([name, number, {"cyst": "Zyste", "": "kein Herd"}.get(kind, kind), *edges])
    book.save(path)


if __name__ == "__main__":
    main()
