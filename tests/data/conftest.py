"""Tiny cases, made here: images of 48x64 pixels with a gray field in black borders, and a bright square per box."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from liverattn.data.cache import PreparedCases, prepare_cases
from liverattn.data.labels import case_labels
from liverattn.data.manifest import Manifest, read_manifest
from liverattn.data.preprocessing import Preprocessing

HEADER = "image_id,path,patient_id,lesion,malignant,type,boxes,site"

Box = tuple[int, int, int, int]
Prepared = tuple[PreparedCases, NDArray[np.float32]]


def draw_case(seed: int, boxes: Sequence[Box] = ()) -> NDArray[np.uint8]:
    """(48, 64): noise of 40 to 120 in the middle of a black border 4 pixels wide, boxes at 200."""
    image = np.zeros((48, 64), np.uint8)
    image[4:44, 4:60] = np.random.default_rng(seed).integers(40, 120, (40, 56))
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 200
    return image


def save_case(path: Path, seed: int, boxes: Sequence[Box] = ()) -> None:
    Image.fromarray(draw_case(seed, boxes)).save(path)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``cases.csv`` beside eight images a.png to h.png of 64x48 pixels."""
    for seed, name in enumerate("abcdefgh"):
        save_case(tmp_path / f"{name}.png", seed)

    def write(*rows: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
        path = tmp_path / "cases.csv"
        path.write_bytes("\n".join([header, *rows, ""]).encode(encoding))
        return path

    return write


@pytest.fixture
def cases(tmp_path: Path) -> Callable[..., Manifest]:
    """Draws and reads n cases: every third one lesion-free, then a cyst with a box, then a metastasis without boxes."""

    def make(count: int = 6) -> Manifest:
        rows = []
        for i in range(count):
            boxes: list[Any] = [(8 + i, 10, 24 + i, 30)] if i % 3 == 1 else []
            save_case(tmp_path / f"{i}.png", i, boxes)
            label = ["0,,,", f'1,0,cyst,"{[list(box) for box in boxes]}"', "1,1,metastasis,"][i % 3]
            rows.append(f"case{i},{i}.png,,{label},")
        (tmp_path / "cases.csv").write_text("\n".join([HEADER, *rows]))
        return read_manifest(tmp_path / "cases.csv")

    return make


@pytest.fixture
def prepare(cases: Callable[..., Manifest], tmp_path: Path) -> Callable[..., Prepared]:
    """Prepares cases of {none, a cyst with a box, a metastasis without boxes}; one malignancy is made unknown."""

    def make(count: int, *, height: int, width: int) -> Prepared:
        manifest = cases(count)
        manifest.table.loc[2, ["malignant", "type"]] = [pd.NA, None]
        labels = case_labels(manifest, ["lesion", "malignancy", "cyst"])
        steps = Preprocessing(height=height, width=width)
        return prepare_cases(manifest, steps, tmp_path / "cache", workers=1), labels

    return make
