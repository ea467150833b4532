"""Many predictions, written as they are made: what is done stays, and the same command goes on."""

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save_file

from liverattn.errors import InputError, expect_boolean, expect_share, expect_whole
from liverattn.files import read_json, replacing, write_json
from liverattn.formulas import without_formulas
from liverattn.prediction.images import JOURNAL, Case
from liverattn.prediction.predictor import Predictor
from liverattn.prediction.results import POINT, THRESHOLD, Prediction, known_values, prediction_row, typed
from liverattn.reporting.overlay import Overlay, Tile, write_overlay, write_sheet, write_thumbnail

WIDEST = 360  # of a picture in the report, pixels
CHUNK = 1000  # rows


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What is written; an :class:`InputError` where that cannot be.

    Attributes:
        operating_point: Of the decisions.
        threshold: Of the attention, for proposed boxes.
        overlays: A picture of each image with its attention.
        maps: The raw maps of each image, as safetensors.
        pictures: Images that the report shows; those after them stand in its table without a picture.
    """

    operating_point: str = POINT
    threshold: float = THRESHOLD
    overlays: bool = True
    maps: bool = False
    pictures: int = 2000

    def __post_init__(self) -> None:
        for name in ("overlays", "maps"):
            expect_boolean(name, getattr(self, name))
        expect_share("threshold", self.threshold)
        expect_whole("pictures", self.pictures, 0)


@dataclass(frozen=True)
class Row:
    """A finished image.

    Attributes:
        number: Of the image in this folder, for good: names its files.
        values: Of ``predictions.csv``.
    """

    number: int
    values: Mapping[str, Any]


class PredictionJob:
    """A folder of predictions.

    ``rows.jsonl`` grows by one line per image, after the image's files are written; the tables are made of it. It keeps
    the number of every image that was ever in it, so that none takes over the files of another.

    Args:
        folder: Of the results.
        predictor: Of a bundle.
        cases: What to predict on, each with a name of its own.
        options: What is written.

    Raises:
        InputError: The folder holds predictions of another bundle or with other options, an operating point is unknown,
            or two cases have one name.
    """

    def __init__(self, folder: Path, predictor: Predictor, cases: Sequence[Case], options: JobOptions) -> None:
        self.folder, self.predictor, self.options = folder, predictor, options
        self.cases = {case.name: case for case in cases}
        if len(self.cases) < len(cases):
            raise InputError("Two images have the same name. Give them in a table with an image_id each.")
        known = [one.name for points in predictor.contents.operating_points.values() for one in points]
        if options.operating_point not in known:
            names = ", ".join(dict.fromkeys(known)) or "none"
            raise InputError(f"Expected operating_point to be one of {names}, but got {options.operating_point!r}.")
        self._check_identity()
        self._places, self._numbers = self._read_journal()
        free = itertools.count(max(self._numbers.values(), default=-1) + 1)
        for name in self.cases:
            if name not in self._numbers:
                self._numbers[name] = next(free)

    @property
    def left(self) -> list[Case]:
        """Those that are not done."""
        return [case for name, case in self.cases.items() if name not in self._places]

    def run(self, advance: Callable[[int], object] = lambda count: None) -> None:
        """Predict on what is left.

        Args:
            advance: Told how many images more are done.
        """
        drawn: deque[tuple[Prediction, Future[None]]] = deque()
        with self._journal.open("ab") as journal, ThreadPoolExecutor(1) as pool:
            try:
                for prediction in self.predictor.stream(self.left):
                    drawn.append((prediction, pool.submit(self._draw, prediction)))
                    while len(drawn) > 2 * self.predictor.batch_size:
                        self._write(journal, *drawn.popleft())
                        advance(1)
                while drawn:
                    self._write(journal, *drawn.popleft())
                    advance(1)
            finally:
                pool.shutdown(cancel_futures=True)

    def rows(self) -> Iterator[Row]:
        """All finished images, in the order of the cases, with what is known of them now; one is in memory at once."""
        with self._journal.open("rb") as journal:
            for name, case in self.cases.items():
                if name in self._places:
                    journal.seek(self._places[name])
                    row = json.loads(journal.readline())["row"]
                    yield Row(self._numbers[name], row | known_values(case, self.predictor.contents))

    def counts(self) -> dict[str, int]:
        """Images, and how many of them have an error or a warning."""
        found = {"images": 0, "with errors": 0, "with warnings": 0}
        for row in self.rows():
            found["images"] += 1
            found["with errors"] += row.values["error"] is not None
            found["with warnings"] += row.values["warnings"] is not None
        return found

    def write_tables(self) -> list[Path]:
        """``predictions.csv`` and ``predictions.parquet``, a thousand rows at a time."""
        csv, parquet = self.folder / "predictions.csv", self.folder / "predictions.parquet"
        with replacing(csv) as text, replacing(parquet) as binary:
            writer: pq.ParquetWriter | None = None
            for part in self._parts():
                without_formulas(part).to_csv(text, mode="a", index=False, header=writer is None)
                texts = dict.fromkeys(part.select_dtypes("object"), "string")  # empty ones have no type else
                table = pa.Table.from_pandas(part.astype(texts), preserve_index=False)
                writer = writer or pq.ParquetWriter(binary, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()
        return [csv, parquet]

    def write_sheet(self, count: int = 24) -> Path | None:
        """``attention.png``: images from the most to the least probable lesion, evenly spaced; None without any."""
        path = self.folder / "attention.png"
        first = f"probability_{self.predictor.contents.outputs[0]}"
        shown = [
            (row.values[first], row.number)
            for row in self.rows()
            if row.values["error"] is None and row.number < self.options.pictures
        ]
        if not shown:
            path.unlink(missing_ok=True)  # of an earlier call
            return None
        shown.sort(reverse=True)
        chosen = [shown[k] for k in sorted({round(k) for k in np.linspace(0, len(shown) - 1, count)})]
        captions = {number: f"#{number}  {first[12:]} {value:.2f}" for value, number in chosen}
        values = {row.number: row.values for row in self.rows() if row.number in captions}
        tiles = [
            Tile(self.picture(k), caption, _shares(values[k], "known_boxes"), _shares(values[k], "boxes"))
            for k, caption in captions.items()
        ]
        write_sheet(tiles, path)
        return path

    def picture(self, number: int) -> Path:
        """A report's picture, without suffix."""
        return self.folder / "pictures" / f"{number:06d}"

    def _parts(self) -> Iterator[pd.DataFrame]:
        rows = self.rows()
        while part := [row.values for _, row in zip(range(CHUNK), rows, strict=False)]:
            yield typed(pd.DataFrame(part), self.predictor.contents)

    @property
    def _journal(self) -> Path:
        return self.folder / JOURNAL

    def _check_identity(self) -> None:
        path = self.folder / "job.json"
        now = {"bundle": self.predictor.digest, "precision": self.predictor.precision, **asdict(self.options)}
        remedy = "Give another out=..., or remove that folder."
        try:
            before = read_json(path) if path.exists() else now
        except ValueError as error:
            problem = f"does not say of which bundle its predictions are: job.json is damaged ({error})"
            raise InputError(f"{self.folder} {problem}. {remedy}") from None
        if changed := [name for name, value in now.items() if before.get(name) != value]:
            raise InputError(f"{self.folder} holds predictions with another {' and '.join(changed)}. {remedy}")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
        self._journal.touch()

    def _read_journal(self) -> tuple[dict[str, int], dict[str, int]]:
        """Places in the journal of the cases that are done, and the numbers of all images that are in it.

        A line that was cut off is removed.
        """
        places: dict[str, int] = {}
        numbers: dict[str, int] = {}
        with self._journal.open("r+b") as journal:
            while line := journal.readline():
                place = journal.tell() - len(line)
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if entry is None:
                    journal.truncate(place)
                    break
                if "number" not in entry:
                    continue  # of an earlier version, which numbered anew every time: whose pictures are whose is lost
                name = entry["row"]["image_id"]
                numbers[name] = entry["number"]
                places.pop(name, None)
                if name in self.cases and self._is_done(self.cases[name], entry):
                    places[name] = place
        return places, numbers

    def _is_done(self, case: Case, entry: Mapping[str, Any]) -> bool:
        """Nothing failed then, and neither the image nor the boxes in its picture are others now."""
        boxes = known_values(case, self.predictor.contents)["known_boxes"]
        row = entry["row"]
        return row["error"] is None and row["known_boxes"] == boxes and entry["image"] == _state(case)

    def _write(self, journal: Any, prediction: Prediction, drawing: "Future[None]") -> None:
        drawing.result()
        row = prediction_row(prediction, self.predictor.contents, self.options.operating_point, self.options.threshold)
        number = self._numbers[prediction.case.name]
        if self.options.overlays and prediction.error is None:
            row["overlay"] = f"attention/{number:06d}.png"
        entry = {"image": _state(prediction.case), "number": number, "row": row}
        place = journal.tell()
        journal.write(json.dumps(entry).encode() + b"\n")
        journal.flush()
        self._places[prediction.case.name] = place

    def _draw(self, prediction: Prediction) -> None:
        number = self._numbers[prediction.case.name]
        picture = self.picture(number)
        attention, maps = (self.folder / folder / picture.name for folder in ("attention", "maps"))
        attention, maps = attention.with_suffix(".png"), maps.with_suffix(".safetensors")
        if prediction.image is None:
            for path in (picture.with_suffix(".jpg"), picture.with_suffix(".png"), attention, maps):
                path.unlink(missing_ok=True)  # of the time when it could be used
            return
        boxes, _ = prediction.boxes(self.options.threshold)
        overlay = Overlay(prediction.image, prediction.coarse_attention(), prediction.known_boxes, boxes)
        if number < self.options.pictures:
            write_thumbnail(overlay, picture, WIDEST)
        if self.options.overlays:
            write_overlay(overlay, attention)
        if self.options.maps:
            with replacing(maps) as temporary:
                save_file(_raw(prediction), temporary)


def _state(case: Case) -> list[Any] | None:
    """Where an image lies, which frame is meant, size and time of the file: another one is predicted on again."""
    with suppress(OSError):
        if case.path is not None:
            found = case.path.stat()
            return [str(case.path.absolute()), case.frame, found.st_size, found.st_mtime_ns]
    return None


def _shares(row: Mapping[str, Any], column: str) -> NDArray[np.float64]:
    """(N, 4) boxes of a row as shares of the image's width and height."""
    boxes = np.array(json.loads(row[column] or "[]"), dtype=np.float64).reshape(-1, 4)
    left, top = json.loads(row["region"] or "[0, 0]")[:2]
    return np.asarray((boxes - [left, top, left, top]) / ([row["width"], row["height"]] * 2))


def _raw(prediction: Prediction) -> dict[str, Any]:
    """``attention_K`` (h, w) and ``window_K`` (4,) of each architecture, and ``size`` (2,) as width and height."""
    arrays: dict[str, Any] = {"size": np.array(prediction.size)}
    for k, one in enumerate(prediction.maps):
        arrays[f"attention_{k}"] = np.ascontiguousarray(one.attention)
        arrays[f"window_{k}"] = np.array(one.window)
    return arrays
