"""Prepared images, content-addressed and memory-mapped.

One file per prepared image, named by the hash of everything that it depends on: the image file's bytes, its boxes, the
preprocessing settings and the version of the steps. A changed input therefore has another name: a stale entry is never
read, an interrupted build goes on where it stopped, and processes that build at once write the same files.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from liverattn.data.exclusion import exclude_option
from liverattn.data.images import ImageError, decode_grey, file_bytes
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import PreparedImage, Preprocessing, Window
from liverattn.errors import InputError, InputListError
from liverattn.files import digest, digest_of_lists, replacing

AT_ONCE = 1024  # images handed to the threads; as many are waited for
TOGETHER = 8  # of them, to one thread: handing over takes Python's lock
STEPS_VERSION = 2  # raise it when the same settings give other pixels


@dataclass(frozen=True)
class PreparedCases:
    """The prepared images of a manifest, in its order.

    Attributes:
        folder: Of the cache.
        keys: (n,) bytes, the names of the cache files in it (a path would take ten times the memory).
        boxes: n arrays (N, 4) in prepared pixels, or None where unknown.
        factors: (n,) float32, 70 / m of Eq. 1.
        medians: (n,) float64, m of Eq. 1, NaN where the top region is black.
        originals: (n, 2) int, width and height of the files.
        size: (height, width) of the prepared images.
        fingerprint: SHA-256 over image files, boxes, labels and patients: equal for the same data at any resolution.
    """

    folder: Path
    keys: NDArray[np.bytes_]
    boxes: tuple[NDArray[np.float64] | None, ...]
    factors: NDArray[np.float32]
    medians: NDArray[np.float64]
    originals: NDArray[np.int64]
    size: tuple[int, int]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def files(self) -> tuple[Path, ...]:
        """The n cache files."""
        return tuple(map(self.file, range(len(self))))

    def file(self, row: int) -> Path:
        """The cache file of one case."""
        return Path(self._file(row))

    def window(self, row: int) -> Window:
        """The part of the original image that a prepared one shows, in its pixels (may reach beyond its edges)."""
        with safe_open(self.file(row), framework="numpy") as opened:
            x0, y0, x1, y1 = json.loads(opened.metadata()["case"])["window"]
        return x0, y0, x1, y1

    def image(self, row: int) -> NDArray[np.uint8]:
        """(height, width) uint8 of one case, read from the page cache.

        Raises:
            InputError: The file was removed, or cut off, since it was prepared.
        """
        try:
            with open(self._file(row), "rb", buffering=0) as file:  # mapping so small a file takes longer
                content = file.read()
            header = int.from_bytes(content[:8], "little")  # of safetensors; behind it lies the image alone
            return np.frombuffer(content, np.uint8, offset=8 + header).reshape(self.size)
        except (FileNotFoundError, ValueError):
            raise InputError(
                f"The prepared image {self._file(row)} was removed or damaged meanwhile. The same command prepares it "
                "again and goes on."
            ) from None

    def _file(self, row: int) -> str:
        return _file(self.folder, self.keys[row].decode())


def prepare_cases(
    manifest: Manifest, preprocessing: Preprocessing, folder: Path, *, workers: int | None = None
) -> PreparedCases:
    """Build what is missing in the cache, in parallel and with a progress bar, and open it.

    Args:
        manifest: n checked cases.
        preprocessing: The steps.
        folder: Of the cache; shared by all data sets and settings.
        workers: Threads (decoding, resizing and sorting run outside Python's lock); None: one per core.

    Raises:
        InputError: Images cannot be decoded or are black all over (all of them are listed; what could be prepared
            stays), or the disk is full.
    """
    cv2.setNumThreads(0)  # the cores are taken
    table, columns, problems = manifest.table, _Columns(len(manifest.table)), list[str]()
    unusable = list[str]()
    settings = preprocessing.settings()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)

    def prepare(row: dict[Any, Any]) -> _Entry | str:
        try:
            return _entry(manifest.root, row, preprocessing, settings, folder)
        except ImageError as error:
            return f"image_id {row['image_id']!r}, {row['path']}: {error}"

    def prepare_several(rows: Sequence[dict[Any, Any]]) -> list[_Entry | str]:
        return [prepare(row) for row in rows]

    def results() -> Iterator[_Entry | str]:
        for start in range(0, len(table), AT_ONCE):
            rows = table.iloc[start : start + AT_ONCE].to_dict("records")
            yield from chain.from_iterable(
                pool.map(prepare_several, (rows[i : i + TOGETHER] for i in range(0, len(rows), TOGETHER)))
            )

    try:
        shown = track(results(), f"Preparing {len(table)} images", total=len(table), transient=True)
        for index, result in enumerate(shown):
            if isinstance(result, str):
                problems.append(result)
                unusable.append(table.at[index, "image_id"])
            else:
                columns.put(index, result)
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise InputListError(
            f"{len(problems)} image(s) cannot be used",
            problems,
            f"Replace these files, or leave the cases out too: {exclude_option(unusable)}. "
            "The other images are prepared and stay so.",
        )
    return columns.opened(manifest, preprocessing, folder)


class _Entry(NamedTuple):
    """What is kept of one case; ``content`` is the hash of the image file."""

    key: str
    content: str
    boxes: NDArray[np.float64] | None
    factor: float
    median: float
    original: tuple[int, int]


class _Columns:
    """What is kept of n cases: as objects it would take ten times the memory."""

    def __init__(self, count: int) -> None:
        self.keys, self.contents = np.empty(count, "S64"), np.empty(count, "S64")
        self.boxes: list[NDArray[np.float64] | None] = [None] * count
        self.factors, self.medians = np.empty(count, np.float32), np.empty(count)
        self.originals = np.empty((count, 2), np.int64)

    def put(self, index: int, entry: _Entry) -> None:
        """Keep one case."""
        self.keys[index], self.contents[index], self.boxes[index] = entry.key, entry.content, entry.boxes
        self.factors[index], self.medians[index], self.originals[index] = entry.factor, entry.median, entry.original

    def opened(self, manifest: Manifest, preprocessing: Preprocessing, folder: Path) -> PreparedCases:
        """All of them."""
        return PreparedCases(
            folder=folder,
            keys=self.keys,
            boxes=tuple(self.boxes),
            factors=self.factors,
            medians=self.medians,
            originals=self.originals,
            size=(preprocessing.height, preprocessing.width),
            fingerprint=digest_of_lists(
                (content.decode() for content in self.contents),
                (None if boxes is None else boxes.tolist() for boxes in manifest.table["boxes"]),
                _labels(manifest.table),
            ),
        )


def _file(folder: Path, key: str) -> str:
    return os.path.join(folder, key[:2], f"{key}.safetensors")  # as a Path it takes longer than reading it


def _entry(
    root: Path, row: dict[Any, Any], steps: Preprocessing, settings: Mapping[str, object], folder: Path
) -> _Entry:
    encoded, boxes = file_bytes(root / row["path"]), row["boxes"]
    content = hashlib.sha256(encoded).hexdigest()
    key = digest([STEPS_VERSION, content, None if boxes is None else boxes.tolist(), settings])
    entry = _file(folder, key)
    metadata = _metadata(entry)
    if metadata is None:
        prepared = steps.apply(decode_grey(encoded), np.zeros((0, 4)) if boxes is None else boxes)
        metadata = _describe(prepared, annotated=boxes is not None)
        with replacing(Path(entry)) as temporary:
            save_file({"image": np.ascontiguousarray(prepared.image)}, temporary, {"case": json.dumps(metadata)})
    return _Entry(
        key=key,
        content=content,
        boxes=None if metadata["boxes"] is None else np.array(metadata["boxes"] or np.zeros((0, 4))),
        factor=metadata["factor"],
        median=math.nan if metadata["median"] is None else metadata["median"],
        original=tuple(metadata["original"]),
    )


def _metadata(entry: str) -> dict[str, Any] | None:
    try:
        with safe_open(entry, framework="numpy") as opened:
            described: dict[str, Any] = json.loads(opened.metadata()["case"])
            return described
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, TypeError, KeyError, ValueError):  # damaged on disk: build it again
        return None


def _describe(prepared: PreparedImage, *, annotated: bool) -> dict[str, Any]:
    return {
        "boxes": prepared.boxes.tolist() if annotated else None,
        "factor": prepared.factor,
        "median": prepared.median,
        "original": list(prepared.original),
        "window": list(prepared.window),
    }


def _labels(table: pd.DataFrame) -> Iterator[list[str | float]]:
    columns = [table[name] for name in ("image_id", "patient_id", "lesion", "malignant", "type")]
    for cells in zip(*columns, strict=True):
        yield [math.nan if pd.isna(cell) else str(cell) for cell in cells]
