"""What to predict on: files, folders, tables, DICOM or arrays; each image is decoded when its turn comes."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.misc import is_dicom

from liverattn.data.dicom import FrameChoice, grey_frames, read_header
from liverattn.data.image_files import SUFFIXES, natural_order
from liverattn.data.images import LUMA, SMALLEST, ImageError, read_image, to_8_bit
from liverattn.data.labels import OUTPUTS, truth_of
from liverattn.data.manifest import CONTROLS, check_manifest
from liverattn.data.preprocessing import Window
from liverattn.data.spreadsheets import read_cells
from liverattn.data.workbooks import WORKBOOKS
from liverattn.errors import InputError, expect_choice

# Pictures to a person, which no decoder here reads: each becomes a row that says so, instead of being passed over.
UNREADABLE = {".svg", ".heic", ".heif", ".avif", ".eps", ".psd"}
JOURNAL = "rows.jsonl"  # marks a folder of predictions
NEEDED, OF_LESIONS = ("image_id", "path"), ("malignant", "type", "boxes")  # columns of a table
TABLES = {".csv", ".tsv", *WORKBOOKS}
Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """One image to predict on.

    Attributes:
        name: How it is called in the results: its path below the folder, its ``image_id``, its file's name.
        path: Of its file; None for an array.
        frame: Of a DICOM file with several, from 0; None: no DICOM file.
        pixels: An array instead of a file: (H, W), or (H, W, 3) in the order red, green, blue.
        truth: Known labels by output, 0 or 1; for the results, never for the prediction.
        boxes: (N, 4) known lesions in pixels of its file; None where unknown.
        patient: Whose image it is, where known: intervals are over patients.
        problem: Why it cannot be used, where this is known before it is opened.
    """

    name: str
    path: Path | None = None
    frame: int | None = None
    pixels: NDArray[Any] | None = None
    truth: Mapping[str, float] = field(default_factory=dict)
    boxes: NDArray[np.float64] | None = None
    patient: str | None = None
    problem: str | None = None

    def read(self) -> tuple[Grey, tuple[str, ...], Window | None]:
        """Decode it.

        Returns:
            (H, W) uint8, remarks on what is odd about it, and where in the file's pixels it lies; None: it is all.

        Raises:
            ImageError: It cannot be used.
        """
        if self.problem is not None:
            raise ImageError(self.problem)
        if self.pixels is not None:
            return _of_array(self.pixels), (), None
        assert self.path is not None
        if self.frame is None:
            return *read_image(self.path), None
        header = read_header(self.path)
        if header is None:
            raise ImageError("is no ultrasound image")
        (grey,) = grey_frames(header, [self.frame])
        if not grey.any():
            raise ImageError("is black all over")
        remarks = ("may show the patient's identity in its pixels",) if header.burnt_in else ()
        return grey, remarks, header.window


def _of_array(pixels: NDArray[Any]) -> Grey:
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
        raise ImageError(f"has the shape {pixels.shape}; expected (H, W) or (H, W, 3)")
    if not (
        pixels.dtype == bool or np.issubdtype(pixels.dtype, np.integer) or np.issubdtype(pixels.dtype, np.floating)
    ):
        raise ImageError(f"has values of the type {pixels.dtype}; expected numbers")
    height, width = pixels.shape[:2]
    if min(width, height) < SMALLEST:
        raise ImageError(f"is only {width}x{height} pixels; at least {SMALLEST}x{SMALLEST} are needed")
    if pixels.dtype == bool:
        pixels = np.where(pixels, 255, 0).astype(np.uint8)
    grey = _grey_of_array(pixels)
    if not grey.any():
        raise ImageError("is black all over")
    return grey


def _grey_of_array(pixels: NDArray[Any]) -> Grey:
    if pixels.ndim == 2:
        return to_8_bit(pixels)
    if pixels.dtype == np.uint8:  # as a file is converted
        return np.array(Image.fromarray(pixels).convert("L"))
    grey = pixels[..., ::-1] @ LUMA
    return to_8_bit(grey if np.issubdtype(pixels.dtype, np.floating) else np.rint(grey).astype(np.int64))


def cases_of(images: Any, *, root: Path | None = None, frames: FrameChoice = "middle") -> tuple[list[Case], list[str]]:
    """All that ``images`` names.

    Args:
        images: A path of an image, a DICOM file, a folder of both (at any depth), or a table of cases
            (:mod:`liverattn.data.manifest`); an array (H, W) or (H, W, 3); or a sequence of any of these.
        root: Folder that a table's paths are relative to; None: the table's.
        frames: Of DICOM files with several: ``first``, ``middle`` or ``all``.

    Returns:
        The cases, and notes on what was passed over.

    Raises:
        InputError: It does not exist, holds no image, or a table breaks a rule.
    """
    expect_choice("frames", frames, ("first", "middle", "all"))
    if isinstance(images, np.ndarray):
        return [Case("array", pixels=images)], []
    if isinstance(images, str | Path):
        path = Path(images).expanduser()
        if not path.exists():
            raise InputError(f"{path} does not exist. Give an image, a folder, a table or a DICOM file as images=...")
        if path.is_dir():
            return _of_folder(path, frames)
        if path.suffix.lower() in TABLES:
            return _of_table(path, root, frames)
        return list(_of_file(path, path.name, frames)), []
    if not isinstance(images, Iterable) or getattr(images, "ndim", 1) != 1:  # such as a tensor, which has rows
        raise InputError(
            f"Expected images to be paths or arrays, but got {type(images).__name__}. Give an image as a file or as an "
            "array of NumPy."
        )
    return _of_sequence(list(images), root, frames)


def _of_sequence(images: Sequence[Any], root: Path | None, frames: FrameChoice) -> tuple[list[Case], list[str]]:
    found: list[Case] = []
    notes: list[str] = []
    for number, one in enumerate(images):
        if isinstance(one, np.ndarray):
            found.append(Case(f"array {number}", pixels=one))
        else:
            cases, more = cases_of(one, root=root, frames=frames)
            found, notes = found + cases, notes + more
    times = Counter(case.name for case in found)
    return [
        replace(c, name=_written(str(c.path))) if times[c.name] > 1 and c.frame is None else c for c in found
    ], notes


def _of_folder(folder: Path, frames: FrameChoice) -> tuple[list[Case], list[str]]:
    unread: list[Path] = []
    found = list(_files(folder, unread))
    if folder in unread:
        raise InputError(
            f"The folder {folder} cannot be read (permission denied). Correct images=... or its permissions."
        )
    results = {path.parent for path in found if path.name == JOURNAL}  # of predictions: pictures of pictures else
    paths = sorted(
        (path for path in (*found, *unread) if not path.name.startswith(".") and results.isdisjoint(path.parents)),
        key=lambda path: natural_order(path.relative_to(folder).as_posix()),
    )
    passed_over: Counter[str] = Counter()
    cases: list[Case] = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path in unread:
            cases.append(
                Case(_written(name), path, problem="is a folder that may not be read: what it holds is missing")
            )
        elif path.suffix.lower() in SUFFIXES | UNREADABLE or _is_dicom(path):
            cases += _of_file(path, name, frames)
        else:
            passed_over[path.suffix.lower() or "no suffix"] += 1
    if not cases:
        raise InputError(f"No image among the {len(paths)} files below {folder}. Correct images=...")
    if not passed_over:
        return cases, []
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(passed_over.items()))
    return cases, [f"{sum(passed_over.values())} file(s) are no images and were passed over: {kinds}"]


def _files(folder: Path, unread: list[Path]) -> Iterator[Path]:
    """All files below a folder; folders that may not be read are added to ``unread``."""

    def note(error: OSError) -> None:
        unread.append(Path(error.filename))

    for parent, _, names in os.walk(folder, onerror=note):
        yield from (path for path in map(Path(parent).joinpath, names) if not _is_special(path))


def _is_special(path: Path) -> bool:
    """Such as a link that leads nowhere; whatever else is wrong with a file is said when its turn comes."""
    try:
        return not path.is_file()
    except OSError:
        return False


def _written(name: str) -> str:
    """A file's name as text.

    Bytes that are no UTF-8 are escaped, which no table could hold, and control characters, which a terminal would obey.
    """
    text = os.fsencode(name).decode(errors="backslashreplace")
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _is_dicom(path: Path) -> bool:
    try:
        return path.suffix.lower() == ".dcm" or is_dicom(path)
    except OSError:
        return False


def _of_file(path: Path, name: str, frames: FrameChoice) -> Iterator[Case]:
    name = _written(name)
    if path.suffix.lower() in UNREADABLE:
        yield Case(name, path, problem=f"{path.suffix.lower()} files are not read: save it as PNG")
    elif path.suffix.lower() in SUFFIXES or not path.is_file() or not _is_dicom(path) or path.stat().st_size == 0:
        yield Case(name, path)  # opened when its turn comes; whatever is wrong with it is said then
    else:
        try:
            header = read_header(path)
        except ImageError as error:
            yield Case(name, path, problem=str(error))
            return
        if header is None:
            yield Case(name, path, problem="is a DICOM file, but no ultrasound image")
            return
        chosen = header.chosen(frames)
        for frame in chosen:
            yield Case(name if len(chosen) == 1 else f"{name}#{frame}", path, frame)


def _of_table(path: Path, root: Path | None, frames: FrameChoice) -> tuple[list[Case], list[str]]:
    """Cases of a table, and notes on it.

    A column ``lesion`` is not needed. Where it is blank, there is one if its malignancy, type or boxes are given; else
    nothing is known of the case.
    """
    cells = read_cells(path)
    missing = [column for column in NEEDED if column not in cells]
    if missing:
        raise InputError(
            f"{path} lacks the column(s) {', '.join(missing)}. Found: {', '.join(map(str, cells.columns))}. "
            f"Required: {', '.join(NEEDED)}; where labels are known: {', '.join(('lesion', *OF_LESIONS))}."
        )
    if "lesion" not in cells:
        cells["lesion"] = ""
    given = {column: cells[column].str.strip() != "" for column in ("lesion", *OF_LESIONS) if column in cells}
    is_labeled = np.logical_or.reduce(list(given.values()))
    cells.loc[~given["lesion"], "lesion"] = "1"  # where nothing is known, for the checks only
    manifest = check_manifest(cells, path.parent if root is None else root, str(path), open_images=False)
    truth = {output: truth_of(manifest.table, output) for output in OUTPUTS}
    cases: list[Case] = []
    notes = list(manifest.warnings)
    for number, row in enumerate(manifest.table.to_dict("records")):
        known = {o: float(t[number]) for o, t in truth.items() if is_labeled[number] and not math.isnan(t[number])}
        boxes = row["boxes"] if row["lesion"] else None
        found = list(_of_file(manifest.root / row["path"], row["image_id"], frames))
        if len(found) > 1 and boxes is not None:
            notes.append(f"{row['image_id']}: its boxes are of one frame, so that they are not used for {len(found)}")
            boxes = None
        cases += [replace(case, truth=known, boxes=boxes, patient=row["patient_id"]) for case in found]
    return cases, notes
