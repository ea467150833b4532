"""Paths of images: below a folder, found by whatever an export calls them, and never outside."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm", ".jp2"}
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts one before the names of uploaded files


class ImageFiles:
    """Paths of images: below a folder, found by whatever an export calls them, and never outside."""

    def __init__(self, root: Path) -> None:
        """List the images below ``root``; hidden files and what archives of other systems leave are passed over."""
        found = []
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
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

    def find(self, file: str) -> str:
        """The image, relative to the folder, whose path ends most like ``file``.

        Args:
            file: As an export names it: a name with or without suffix, a path of any machine, or an address.

        Raises:
            ValueError: None, or several that fit equally well.
        """
        parts = _normalized(file)
        names = [parts[-1], UPLOAD_PREFIX.sub("", parts[-1])] if parts else []
        candidates = next((found for name in names if (found := self._by_name.get(name))), [])
        agreement = {path: _common_end(_normalized(path)[:-1], parts[:-1]) for path in candidates}
        best = [path for path, count in agreement.items() if count == max(agreement.values())]
        if len(best) != 1:
            raise ValueError(
                f"could be any of {', '.join(best[:5])}" if best else "is not among the images below data.root"
            )
        return best[0]


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


def _common_end(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = list(zip(reversed(left), reversed(right), strict=False))
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(pairs))
