"""Files appear whole or not at all: every file is written to a temporary name beside its place and renamed."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from liverattn.errors import InputError

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT}
DIGITS = 12  # of a temporary name
TEMPORARY = re.compile(rf"\..+\.[0-9a-f]{{{DIGITS}}}\.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is renamed to ``path``, on failure removed.

    Safe when several processes write the same file at once: the last rename wins and no reader sees a part.

    Raises:
        InputError: The disk is full (or its quota is), or the folder is not writable, or a file.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # on a read-only file system it says what is said below
            temporary.unlink(missing_ok=True)
        said = unusable(error, path)
        if said is None:
            raise
        raise InputError(f"Cannot write {said}") from error


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` for what is put together on the way there; it is removed in the end."""
    temporary = temporary_beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` for what is written on the way there; :func:`forget_unfinished` knows it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:DIGITS]}.part")


def forget_unfinished(path: Path, age: float | None = None) -> None:
    """Remove what killed processes left of a file, or of the files in a folder at any depth, that they were writing.

    Args:
        path: Nobody else writes to it now.
        age: Seconds since it was last written to, where others may be writing; None: whatever it is.
    """
    beside = path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * DIGITS}.part")
    below = (  # rglob fails where another process removes a folder meanwhile
        Path(folder, name)
        for folder, folders, files in os.walk(path)
        for name in [*folders, *files]
        if TEMPORARY.fullmatch(name)
    )
    for left in [*beside, *below]:
        with suppress(OSError):  # where nothing may be removed, whoever writes says so
            if age is None or time.time() - left.stat().st_mtime > age:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def unusable(error: BaseException, path: str | Path | None = None) -> str | None:
    """What is wrong with a disk or a place on it, and what to do; None: the error is of another kind.

    Args:
        error: Of whoever wrote or read; safetensors and torch report a full disk in a text, not in an error number.
        path: What was to be written; None: what the error names.
    """
    text, number = str(error).lower(), getattr(error, "errno", None)
    path = path or getattr(error, "filename", None)
    if number in OUT_OF_SPACE or "no space left" in text or "os error 28" in text:
        problem, remedy = "no space left on the disk", "free some space"
    elif "file write failed" in text or "unexpected pos" in text:
        problem, remedy = "the file could not be written whole (is the disk full?)", "free some space"
    elif number == errno.EROFS or "os error 30" in text:
        problem, remedy = "the file system is read-only", "make it writable"
    elif isinstance(error, PermissionError):
        problem, remedy = "permission denied", "correct the permissions of it and its folder"
    elif isinstance(error, FileExistsError | NotADirectoryError) and path and not (above := _nearest(path)).is_dir():
        path, problem, remedy = above, "a file is where a folder is needed", "move it away"
    else:
        return None
    return (
        f"{'' if path is None else f'{path}: '}{problem}. Nothing was lost: {remedy}, or give another place (outputs: "
        "paths.outputs=...), then run the same command again; it goes on from here."
    )


def _nearest(path: str | Path) -> Path:
    return next(place for place in (Path(path), *Path(path).parents) if os.path.exists(place))


def usable_folder(path: Path, option: str = "out") -> Path:
    """Make a folder that is to be written to.

    Args:
        path: Of it.
        option: That names it.

    Raises:
        InputError: It cannot be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(path, os.W_OK | os.X_OK) else "it may not be written to"
    except OSError as error:
        above = _nearest(path)
        problem = error.strerror if above.is_dir() else f"{above} is a file"
    if problem is not None:
        raise InputError(f"The folder {path} cannot be used: {problem}. Give another {option}=...")
    return path


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, atomically; NaN becomes null, which JSON can hold."""
    with replacing(path) as temporary, temporary.open("w") as file:
        json.dump(_without_nan(value), file, indent=1, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return content


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def digest(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of a JSON-serializable value, independent of dictionary order."""
    return hashlib.sha256(_encoded(value)).hexdigest()


def _encoded(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest_of_lists(*lists: Iterable[Any]) -> str:
    """:func:`digest` of a list of long lists, without holding them."""
    hashed = hashlib.sha256()
    for number, values in enumerate(lists):
        hashed.update(b",[" if number else b"[[")
        for place, value in enumerate(values):
            hashed.update(b"," * (place > 0) + _encoded(value))
        hashed.update(b"]")
    hashed.update(b"]")
    return hashed.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (64 hexadecimal digits) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
