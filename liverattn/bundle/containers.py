"""A bundle's files in a folder or in one zip, and which names they may have."""

import re
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from liverattn.errors import InputError

CONTENTS, CARD, SUMS, NETWORKS = "bundle.json", "README.md", "SHA256SUMS", "networks"
LINE = re.compile(r"([0-9a-f]{64})  (bundle\.json|README\.md|networks/[0-9a-f]{64}\.safetensors)")
ORIGIN = (1980, 1, 1, 0, 0, 0)  # of every entry of a zip, so that equal contents are equal bytes


def write_zip(stream: IO[bytes], files: Iterable[tuple[str, bytes]]) -> None:
    """Equal files give equal bytes: nothing is compressed, every entry has the same date and rights."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name, ORIGIN)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content)


class Folder:
    """A bundle's folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> set[str]:
        """Files of the bundle; what file browsers leave behind is passed over."""
        paths = (path for path in self._path.rglob("*") if not path.is_dir())
        return {path.relative_to(self._path).as_posix() for path in paths if not path.name.startswith(".")}

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            InputError: It cannot be read, or is a device or pipe, which might never end.
        """
        path = self._path / name
        if not path.is_file():
            raise InputError(f"The bundle {self._path} is refused: {name} is no plain file.")
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"The bundle {self._path} cannot be read: {name} ({error.strerror}).") from None


class Zip:
    """A zip of a bundle, read where it lies: nothing is unpacked, so that no entry's name can lead anywhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
            entries = self._archive.infolist()
        except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
            raise InputError(f"The bundle {path} is refused: it is not a readable zip ({error}).") from None
        names = [entry.filename for entry in entries]
        strange = [name for name in names if LINE.fullmatch(f"{'0' * 64}  {name}") is None and name != SUMS]
        if strange or len(set(names)) != len(names):
            problem = f"its entry {strange[0]!r} is no part of a bundle" if strange else "it has an entry twice"
            raise InputError(f"The bundle {path} is refused: {problem}. Nothing of it was used.")
        if not self._is_canonical(names):
            raise InputError(
                f"The bundle {path} is refused: the zip is not byte for byte the one that was written. Get it again; "
                "if another program packed it, unpack it and give the folder."
            )

    def _is_canonical(self, names: Iterable[str]) -> bool:
        with self._path.open("rb") as original:
            sink = _Comparison(original)
            try:
                write_zip(sink, ((name, self.read(name)) for name in names))  # type: ignore[arg-type]
            except InputError:
                return False
            return sink.agrees() and sink.length == self._path.stat().st_size

    def names(self) -> set[str]:
        """Entries of the zip."""
        return set(self._archive.namelist())

    def read(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            InputError: It is damaged or compressed.
        """
        try:
            entry = self._archive.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > self._path.stat().st_size:
                raise zipfile.BadZipFile("an entry is compressed")
            return self._archive.read(entry)
        except (OSError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, struct.error) as error:
            raise InputError(f"The bundle {self._path} is refused: {name} is damaged ({error}).") from None


class _Comparison:
    """Takes what is written into a file and compares it with one that is there."""

    def __init__(self, original: IO[bytes]) -> None:
        self._original = original
        self._place = self.length = 0
        self._written: dict[int, bytes] = {}  # headers are written twice: before and after their entry
        self._agrees = True

    def write(self, content: bytes) -> int:
        if len(content) < 2**12:
            self._written[self._place] = bytes(content)
        else:
            self._agrees &= self._at(self._place, len(content)) == content
        self._place += len(content)
        self.length = max(self.length, self._place)
        return len(content)

    def agrees(self) -> bool:
        return self._agrees and all(self._at(place, len(c)) == c for place, c in self._written.items())

    def _at(self, place: int, count: int) -> bytes:
        self._original.seek(place)
        return self._original.read(count)

    def seek(self, place: int, whence: int = 0) -> int:
        assert whence == 0
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return True

    def flush(self) -> None:
        pass


def expect_outside(folder: Path, bundle: Path) -> None:
    """Refuse to write into the folder of a bundle, which would be refused from then on.

    Raises:
        InputError: ``out`` lies there.
    """
    if bundle.is_dir() and folder.resolve().is_relative_to(bundle.resolve()):
        raise InputError(
            f"out={folder} lies in the bundle {bundle.resolve()}, which must stay as it is. Give another out=..."
        )


def open_container(path: Path) -> "Folder | Zip":
    """A bundle's folder or zip.

    Raises:
        InputError: Absent, or a zip with anything in it that no bundle has.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise InputError(f"The bundle {path} does not exist. make ensemble writes one: give its folder or zip.")
    return Zip(path)
