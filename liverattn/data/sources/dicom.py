"""Ultrasound DICOM files, single- and multi-frame: images without labels, which a table or a person adds."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from pydicom.misc import is_dicom
from rich.progress import track

from liverattn.commands import option
from liverattn.data.dicom import FrameChoice, UltrasoundFile, grey_frames, read_header
from liverattn.data.dicom_labels import LABELS, Labels, cell, read_labels
from liverattn.data.exclusion import left_out, left_out_among, or_exclude
from liverattn.data.images import ImageError
from liverattn.data.manifest import OPTIONAL, REQUIRED, Manifest, check_manifest
from liverattn.data.preprocessing import Window
from liverattn.data.spreadsheets import read_cells
from liverattn.errors import InputError, InputListError, UnlabeledError, expect_choice
from liverattn.files import digest, replacing
from liverattn.formulas import without_formulas
from liverattn.pseudonyms import pseudonym, secret_key

COLUMNS = (*REQUIRED, *OPTIONAL)
BURNT_IN = "DICOM file(s) may show the patient's identity in their pixels: look before you share the images"


@dataclass(frozen=True, kw_only=True)
class DicomSource:
    """Cases from DICOM files, converted once to PNG with names that identify nobody.

    Patient and instance numbers are hashed with a key that lies beside the converted images and never leaves this
    machine: a plain hash of a hospital's number could be found by trying all numbers.

    Attributes:
        root: Folder of the files, at any depth.
        folder: Where converted images and their table go, one folder per ``root`` and ``frames`` below it.
        frames: Of multi-frame files: ``first``, ``middle`` or ``all`` (which share their patient).
        labels: Table with the columns ``file`` (relative to ``root``), ``lesion``, and any of ``malignant``, ``type``,
            ``boxes`` (in the pixels of the DICOM frame; not for ``all`` of several frames), ``site``, one row per file
            or per box. What it has no column for, and with None everything, is said by the converted images' own table,
            which a person fills in.
    """

    root: str
    folder: str
    frames: FrameChoice = "middle"
    labels: str | None = None

    def manifest(self) -> Manifest:
        """Convert what is missing and check the cases.

        Raises:
            InputError: No DICOM files, damaged ones (all are listed; the others are converted and stay so), or labels
                that do not fit.
            UnlabeledError: Nothing says yet which images show a lesion.
        """
        expect_choice("data.frames", self.frames, ("first", "middle", "all"))
        root = Path(self.root).expanduser()
        folder = Path(self.folder) / f"dicom-{digest([str(root.resolve()), self.frames])[:8]}"
        counted: Counter[str] = Counter()
        files = {path.relative_to(root).as_posix(): path for path in _files(root)}
        out = left_out_among(files)  # of the names, those that are of files: what cannot be read has no other
        rows = self._rows({name: path for name, path in files.items() if name not in out}, root, folder, counted)
        labels, warnings = self._labels({row["file"]: row["window"] for row in rows} | dict.fromkeys(out))
        table, absent = folder / "cases.csv", folder / "absent.csv"
        labels = _for_each_frame(labels, Counter(row["file"] for row in rows), table)
        known = _known(table, absent)
        cases = _with_labels(rows, labels, known)
        gone = known[~known["image_id"].isin(cases["image_id"])]
        _write(gone, absent)  # what was said of these files, should they come back
        _write(cases, table)
        if len(gone):
            counted[f"row(s) of files that are not there now are kept in {absent}"] = len(gone)
        warnings += [f"{counted.pop(BURNT_IN)} {BURNT_IN}"] if BURNT_IN in counted else []
        notes = [f"{count} {what}" for what, count in sorted(counted.items())]
        cases = pd.concat([cases, pd.DataFrame({"image_id": sorted(out), "path": sorted(out)}, dtype=object)])
        blank = int((cases["lesion"].isna() & ~cases["image_id"].isin(left_out(cases["image_id"]))).sum())
        if blank:
            raise UnlabeledError("\n".join([*notes, *warnings, _awaited(table, len(rows), blank)]))
        return check_manifest(cases.reset_index(drop=True), folder, str(table), warnings, notes)

    def _labels(self, windows: Mapping[str, Window | None]) -> tuple[dict[str, Labels], list[str]]:
        return ({}, []) if self.labels is None else read_labels(Path(self.labels).expanduser(), windows)

    def _rows(self, files: Mapping[str, Path], root: Path, folder: Path, counted: Counter[str]) -> list[dict[str, Any]]:
        key = secret_key(Path(self.folder) / "key")
        problems: dict[str, str] = {}
        rows = []
        for name, path in track(files.items(), "Converting DICOM files", transient=True):
            try:
                file = read_header(path)
                if file is None:
                    counted["DICOM file(s) are no ultrasound images and were passed over"] += 1
                    continue
                rows += list(self._converted(file, name, folder, key))
                _count(file, counted)
            except ImageError as error:
                problems[name] = str(error)
        counts = Counter(row["image_id"] for row in rows)
        again = sorted({row["file"] for row in rows if counts[row["image_id"]] > 1})
        problems |= dict.fromkeys(again, "another file has the same SOP Instance UID")
        if problems or (files and not rows):
            heading = f"{root}: {len(problems)} DICOM file(s) cannot be used"
            remedy = f"Remove or replace them{or_exclude(list(problems))}. The other files are converted and stay so."
            said = [f"{name}: {problem}" for name, problem in problems.items()]
            raise InputListError(heading, said or ["no ultrasound image among the DICOM files"], remedy)
        return rows

    def _converted(self, file: UltrasoundFile, name: str, folder: Path, key: bytes) -> Iterator[dict[str, Any]]:
        stem = f"us-{pseudonym(key, file.instance)}"
        targets = {index: folder / "images" / f"{stem}-{index:04d}.png" for index in file.chosen(self.frames)}
        missing = [index for index, target in targets.items() if not target.exists()]
        for index, grey in zip(missing, grey_frames(file, missing), strict=True):
            with replacing(targets[index]) as temporary:
                Image.fromarray(grey).save(temporary, format="PNG")
        patient = f"patient-{pseudonym(key, file.patient)}" if file.patient is not None else stem
        for target in targets.values():
            yield {
                "image_id": target.stem,
                "path": target.relative_to(folder).as_posix(),
                "patient_id": patient,
                "file": name,
                "window": file.window or (0, 0, file.header.Columns, file.header.Rows),
            }


def _for_each_frame(labels: Mapping[str, Labels], frames: Mapping[str, int], table: Path) -> dict[str, Labels]:
    """What labels of files say of each of their frames: of several nothing about boxes, since the liver moves."""
    several = {file for file, count in frames.items() if count > 1}
    if shared := [f"{file}: {frames[file]} frames" for file in labels if file in several and labels[file].get("boxes")]:
        raise InputListError(
            "data.labels has boxes for files of several frames, and data.frames=all would give each of these the same",
            shared,
            "Take data.frames=first or middle, or clear these boxes, run again and draw those of each frame: "
            f"python -m liverattn.annotate {option('data.manifest', table)}",
        )
    return {
        file: {column: said[column] for column in said if column != "boxes" or file not in several}
        for file, said in labels.items()
    }


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"The folder {root} of DICOM files does not exist or cannot be read. Correct data.root=...")
    try:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        found = [path for path in files if path.suffix.lower() == ".dcm" or is_dicom(path)]
    except OSError as error:
        raise InputError(f"The folder {root} cannot be read ({error}).") from None
    if not found:
        raise InputError(f"No DICOM file among the {len(files)} files below {root}. Correct data.root=...")
    return found


def _count(file: UltrasoundFile, counted: Counter[str]) -> None:
    counted["DICOM file(s) were converted"] += 1
    if file.patient is None:
        counted["DICOM file(s) have no patient number: each stands for a patient"] += 1
    if file.window is not None:
        counted["DICOM file(s) were cut to their ultrasound region"] += 1
    if file.scaled:
        counted["DICOM file(s) have ultrasound regions of another size, and were left whole"] += 1
    if file.burnt_in:
        counted[BURNT_IN] += 1


def _awaited(table: Path, cases: int, blank: int) -> str:
    manifest = option("data.manifest", table)
    return (
        f"{cases} image(s) are in {table.parent}; of {blank} nobody has said whether they show a lesion.\n"
        f"Fill in the column lesion of {table}, give data.labels=TABLE, or draw boxes:\n"
        f"  python -m liverattn.annotate {manifest}\nThen use data=manifest {manifest}"
    )


def _known(*tables: Path) -> pd.DataFrame:
    """What was filled in before, columns of a person's own too; of an image in several tables the first one's row."""
    found = {path: read_cells(path) for path in tables if path.exists()}
    for path, cells in found.items():
        if "image_id" not in cells:
            raise InputError(f"{path} has no column image_id. Put it back, or remove the table: it is made again.")
    known = pd.concat(found.values()) if found else pd.DataFrame(columns=list(COLUMNS))
    return known.drop_duplicates("image_id").fillna("")


def _with_labels(rows: list[dict[str, Any]], labels: Mapping[str, Labels], known: pd.DataFrame) -> pd.DataFrame:
    """The cases' table: given labels first, else those that a person filled in before."""
    before = {row["image_id"]: row for row in known.to_dict("records")}
    own = [column for column in known if column not in COLUMNS]
    filled = []
    for row in rows:
        old = before.get(row["image_id"], {})
        said = {column: cell(old, column) for column in LABELS} | labels.get(row["file"], {})
        filled.append({column: row.get(column) for column in COLUMNS} | said | {name: cell(old, name) for name in own})
    return pd.DataFrame(filled, columns=[*COLUMNS, *own], dtype=object)


def _write(cells: pd.DataFrame, path: Path) -> None:
    if len(cells):
        with replacing(path) as temporary:
            without_formulas(cells).to_csv(temporary, index=False)
    else:
        path.unlink(missing_ok=True)
