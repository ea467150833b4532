"""Paths of images: below a folder, found by whatever an export calls them, and never outside."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm", ".jp2"}
# Label Studio puts this before the names of uploaded files; 20260131-1.png begins with a date.
UPLOAD_PREFIX = re.compile(r"^(?!(19|20)[0-9]{2}[01][0-9][0-3][0-9]-)[0-9a-f]{8}-")
# Folders that say what kind of file lies there, not of which case: P1/labels/1.txt is of P1/images/1.png.
LAYOUT = {"images", "jpegimages", "labels", "annotations", "masks"}


class ImageFiles:
    """Paths of images: below a folder, found by whatever an export calls them, and never outside."""

    def __init__(self, root: Path) -> None:
        """List the images below ``root``; hidden files and what archives of other systems leave are passed over."""
        self._root = _normalized(str(root))
        found = []
        self.links: list[str] = []  # folders that are not looked into: they could lead anywhere, and back
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
            self.links += [os.path.relpath(link, root) for name in names if os.path.islink(link := Path(folder, name))]
            found += [Path(folder, name) for name in files if not name.startswith(".")]
        paths = (path.relative_to(root).as_posix() for path in found if path.suffix.lower() in SUFFIXES)
        self.paths = tuple(sorted(paths, key=natural_order))
        self._by_name: dict[str, list[str]] = {}
        for path in self.paths:
            for name in {_normalized(path)[-1], _stem(_normalized(path)[-1])}:
                self._by_name.setdefault(name, []).append(path)

    def leave_out(self, paths: Iterable[str]) -> None:
        """Forget files that are no images of cases."""
        gone = set(paths)
        self.paths = tuple(path for path in self.paths if path not in gone)
        self._by_name = {name: [path for path in found if path not in gone] for name, found in self._by_name.items()}

    def named(self, file: str) -> list[str]:
        """All images with the name of ``file``, in whatever folder."""
        parts = _normalized(file)
        spellings = [parts[-1], _unquoted(parts[-1])] if parts else []
        names = [name for spelled in spellings for name in (spelled, UPLOAD_PREFIX.sub("", spelled))]
        return next((found for name in names if (found := self._by_name.get(name))), [])

    def folders(self, file: str) -> list[str]:
        """The folders that ``file`` is in, from the root on where it is below it."""
        folders = _normalized(file)[:-1]
        if self._root and folders[: len(self._root)] == self._root:
            folders = folders[len(self._root) :]
        return [_unquoted(name) for name in folders if name != ".." and not name.endswith(":")]

    def finder(self, files: Iterable[str]) -> "Finder":
        """What finds the files of one export."""
        return Finder(self, files)


class Finder:
    """Finds the images that one export names.

    All of its files together show whether it has the folders that lie below the root. Where it has, an image of the
    same name in another folder is another image. Where it has not, the images have been moved since, and the name
    decides.
    """

    def __init__(self, images: ImageFiles, files: Iterable[str]) -> None:
        """Look whether any of ``files`` lies in the folder that the export says."""
        self._images = images
        self._has_folders = any(self._fits(file) for file in files)

    def find(self, file: str) -> str:
        """The image, relative to the root, whose path ends most like ``file``.

        Args:
            file: As an export names it: a name with or without suffix, a path of any machine, or an address.

        Raises:
            ValueError: None, several that fit equally well, or one in a folder that contradicts.
        """
        best = self._best(file)
        if len(best) != 1:
            raise ValueError(
                f"could be any of {', '.join(best[:5])}" if best else "is not among the images below data.root"
            )
        agreeing, compared = self._agreement(file, best[0])
        if self._has_folders and agreeing < compared:
            raise ValueError(f"is not among the images below data.root ({best[0]} lies in another folder)")
        return best[0]

    def _best(self, file: str) -> list[str]:
        ranks = {path: self._rank(file, path) for path in self._images.named(file)}
        return [path for path, rank in ranks.items() if rank == max(ranks.values())]

    def _rank(self, file: str, path: str) -> tuple[bool, int, int]:
        named, found = self._images.folders(file), self._images.folders(path)
        return named == found, self._agreement(file, path)[0], _common_end(named, found)

    def _fits(self, file: str) -> bool:
        best = self._best(file)
        agreeing, compared = self._agreement(file, best[0]) if len(best) == 1 else (0, 0)
        return 0 < agreeing == compared

    def _agreement(self, file: str, path: str) -> tuple[int, int]:
        """How many of the last folders are the same, and how many could be."""
        named, found = (
            [name for name in self._images.folders(place) if name.lower() not in LAYOUT] for place in (file, path)
        )
        return _common_end(named, found), min(len(named), len(found))


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def stays_inside(path: str) -> bool:
    """Whether a path is relative and never goes up, read as any system would."""
    windows = PureWindowsPath(path)  # splits at both kinds of slashes
    absolute = PurePosixPath(path).is_absolute() or bool(windows.drive or windows.root)
    return not (absolute or ".." in windows.parts or "\0" in path)


def natural_order(path: str) -> list[tuple[int, int, str]]:
    """A sorting key that has 9.png before 10.png."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d{1,18})", path)]


def _normalized(file: str) -> list[str]:
    text = unquote(urlsplit(file).path) if re.match(r"^\w{2,}://", file) else file
    parts = unicodedata.normalize("NFC", text).replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".")]


def _unquoted(name: str) -> str:
    """Percent-encoded in paths, too: Label Studio writes those of its uploads without the server's address."""
    return unicodedata.normalize("NFC", unquote(name))


def _common_end(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = list(zip(reversed(left), reversed(right), strict=False))
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(pairs))
