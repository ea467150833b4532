"""Folders that belong to one process at a time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liverattn.errors import InputError


class BusyError(InputError):
    """Another process works on the folder."""


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX, patience: float = 0) -> Iterator[None]:
    """Hold a folder for this process by a file in it; a killed process releases it.

    Args:
        path: The file, which is made if it is not there.
        kind: Of the lock (``fcntl``).
        patience: Seconds to wait for whoever holds it.

    Raises:
        BusyError: Another process works on the folder.
    """
    deadline = time.monotonic() + patience
    with path.open("a") as stream:
        while True:
            try:
                fcntl.flock(stream, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(f"Another process works on {path.parent}. Wait for it, or stop it.") from None
                time.sleep(0.1)
        yield
