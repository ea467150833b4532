"""The table of cases as a person keeps it: all rows, columns and other cells stay as they are when labels change."""

import codecs
import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from liverattn.annotation.labels import Labels
from liverattn.data.images import ImageError, image_size
from liverattn.data.manifest import check_manifest
from liverattn.data.spreadsheets import read_cells
from liverattn.errors import InputError
from liverattn.files import replacing
from liverattn.formulas import as_text

LABEL_COLUMNS = ("lesion", "malignant", "type", "boxes")


class CaseTable:
    """A table of cases whose ``lesion`` may be blank: nobody has looked yet.

    Separator, line ends, byte order mark, blank rows, unknown columns and the order of everything are kept. Label
    columns that are absent are added at the end when something is written.

    Args:
        path: CSV as :func:`liverattn.data.spreadsheets.read_cells` reads it.
        root: Folder that image paths are relative to; None: the table's.

    Attributes:
        root: The same.
        image_ids: Of the n cases.
        paths: Of their images, relative to the root.
        digest: SHA-256 of the file as it was last read or written by this process.

    Raises:
        InputError: Not a table, or a row breaks a rule of the manifest other than the blank ``lesion``.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self.path, self.root = path, path.parent if root is None else root
        content = path.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        self.image_ids, self.paths, self._rows_of_cases = _checked(path, self.root)
        self._mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
        text = content.decode("utf-8-sig")
        header = text.partition("\n")[0]
        self._separator, self._line_end = max(",;\t", key=header.count), "\r\n" if header.endswith("\r") else "\n"
        lines = io.StringIO(text, newline="")
        self._rows = list(csv.reader(lines, delimiter=self._separator, skipinitialspace=True, strict=True))
        names = [name.strip() for name in self._rows[0]]
        missing = [name for name in LABEL_COLUMNS if name not in names]
        self._rows[0] += missing
        self._columns = [[*names, *missing].index(name) for name in LABEL_COLUMNS]
        for row in self._rows_of_cases:
            cells = self._rows[row]
            cells += [""] * (len(self._rows[0]) - len(cells))

    def __len__(self) -> int:
        return len(self.image_ids)

    def labels(self, case: int) -> Labels:
        """The label cells of a case (from 0)."""
        cells = self._rows[self._rows_of_cases[case]]
        return Labels(*(cells[column] for column in self._columns))

    def image(self, case: int) -> Path:
        """The image file of a case."""
        return self.root / self.paths[case]

    def content_with(self, case: int, labels: Labels) -> bytes:
        """The file's bytes with other labels of one case; nothing is changed yet."""
        rows = list(self._rows)
        rows[self._rows_of_cases[case]] = self._relabeled(case, labels)
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self._separator, lineterminator=self._line_end).writerows(rows)
        return self._mark + text.getvalue().encode()

    def add(self, paths: Sequence[Path]) -> int:
        """Add unlabeled images, relative to the root, at the end of the file; returns the first one's case."""
        first, header = len(self), [name.strip() for name in self._rows[0]]
        for image_id, path in zip(_image_ids(paths, self.image_ids), paths, strict=True):
            cells = {"image_id": as_text(image_id), "path": as_text(path.as_posix())}
            self._rows_of_cases.append(len(self._rows))
            self._rows.append([cells.get(name, "") for name in header])
            self.image_ids.append(image_id)
            self.paths.append(path.as_posix())
        self._replace(self.content_with(first, self.labels(first)))
        return first

    def is_unchanged(self) -> bool:
        """The file is as this process read or wrote it."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest() == self.digest
        except OSError:
            return False

    def write(self, case: int, labels: Labels) -> None:
        """Change one case in the file; the file as it was before any change is kept once beside it."""
        self._replace(self.content_with(case, labels))
        self._rows[self._rows_of_cases[case]] = self._relabeled(case, labels)

    def _replace(self, content: bytes) -> None:
        original = self.path.with_name(f"{self.path.stem}.before-annotation.csv")
        if not original.exists():
            _write(original, self.path.read_bytes())
        _write(self.path, content)
        self.digest = hashlib.sha256(content).hexdigest()

    def _relabeled(self, case: int, labels: Labels) -> list[str]:
        cells = list(self._rows[self._rows_of_cases[case]])
        for name, column in zip(LABEL_COLUMNS, self._columns, strict=True):
            cells[column] = getattr(labels, name)
        return cells


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())  # a power cut must not leave an empty file under the table's name


def _checked(path: Path, root: Path) -> tuple[list[str], list[str], list[int]]:
    """image_ids and paths, and where the cases stand among the file's rows; blank ``lesion`` cells pass."""
    cells = read_cells(path)
    for name in LABEL_COLUMNS:
        if name not in cells:
            cells[name] = ""
    known = [any(str(cell).strip() for cell in row) for row in cells[list(LABEL_COLUMNS[1:])].to_numpy()]
    blank = cells["lesion"].str.strip() == ""
    trial = cells.assign(lesion=cells["lesion"].where(~blank, ["1" if is_known else "0" for is_known in known]))
    table = check_manifest(trial, root, str(path)).table
    return table["image_id"].tolist(), table["path"].tolist(), [int(row) + 1 for row in cells.index]


def create_table(root: Path, path: Path) -> Sequence[str]:
    """Write a table of all images below a folder, none of them labeled; hidden files and folders are passed over.

    Args:
        root: Folder of images; the table names them relative to it.
        path: Of the table.

    Returns:
        What was left out and why, one line per file.

    Raises:
        InputError: No folder or no images.
    """
    if not root.is_dir():
        raise InputError(f"The folder {root} does not exist. Give a folder of images as data.root=...")
    found, left_out = usable_images(root)
    if not found:
        raise InputError(f"No usable images below {root}." + "".join(f"\n  - {line}" for line in left_out))
    ids = _image_ids(found)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(["image_id", "path", *LABEL_COLUMNS])
        named = ((as_text(image_id), as_text(name.as_posix())) for image_id, name in zip(ids, found, strict=True))
        lines.writerows([*names, "", "", "", ""] for names in named)
    return left_out


def usable_images(root: Path, known: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Images below a folder other than the known ones, relative to it, and what was left out and why."""
    found, left_out, present = [], [], {(root / path).resolve() for path in known}
    for image in _image_files(root):
        if image.resolve() in present:
            continue
        try:
            image_size(image)
            found.append(image.relative_to(root))
        except ImageError as error:
            left_out.append(f"{image.relative_to(root)}: {error}")
    return found, left_out


def _image_ids(paths: Sequence[Path], taken: Sequence[str] = ()) -> list[str]:
    """Names without suffix; with it where that is another image's."""
    short = [path.with_suffix("").as_posix() for path in paths]
    counts = Counter([*taken, *short])
    return [stem if counts[stem] == 1 else path.as_posix() for stem, path in zip(short, paths, strict=True)]


def _image_files(root: Path) -> list[Path]:
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = (path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    visible = (path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts))
    return sorted(visible, key=lambda path: (path.parent, len(path.stem), path.stem, path.suffix))
