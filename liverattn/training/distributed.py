"""Several processes train one fold together (``trainer=ddp``): the first leads, the others follow.

When the leader begins to train, Lightning starts the same command once more for every further process. By then the
leader has prepared the data, drawn the folds and begun the run folder. It alone writes, prints and tracks; the
followers read, compute and leave.
"""

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from subprocess import Popen
from typing import TYPE_CHECKING

from liverattn.errors import InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

PATIENCE = 5.0  # seconds within which processes that meet the same error have all met it


def is_leader() -> bool:
    """This process writes, prints and tracks; so does a process that trains alone."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


@contextmanager
def following() -> Iterator[None]:
    """Work for the leader, in silence, and no longer than it lives.

    The leader tells of an error that all processes meet, and ends this one while it waits here. An error that this
    process meets alone is raised after the wait.
    """
    done = threading.Event()
    threading.Thread(target=_end_with, args=(os.getppid(), done), daemon=True).start()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BaseException:
            time.sleep(PATIENCE)
            raise
        finally:
            done.set()


def _end_with(leader: int, done: threading.Event) -> None:
    # Without its leader a process would wait in a collective operation, half an hour on some devices.
    while not done.wait(0.5):
        if os.getppid() != leader:
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def leading(trainer: "pl.Trainer") -> Iterator[None]:
    """End the followers when this process fails; without followers, do nothing.

    Raises:
        InputError: A follower failed by itself; it has said why, if it could.
    """
    try:
        yield
    except BaseException as error:
        followers: Sequence[Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", ())
        # Where a follower is gone, torch finds the connection to it broken.
        failed = _failed(followers) if isinstance(error, RuntimeError) else None
        for follower in followers:
            follower.kill()
        if failed is not None:
            raise InputError(
                f"Another process of this run ended with status {failed}; its own message, if it left one, stands "
                "above. The same command goes on from the last whole epoch."
            ) from error
        raise


def _failed(followers: Sequence["Popen[bytes]"]) -> int | None:
    """Status of the first follower that ended in failure, after a while None."""
    deadline = time.monotonic() + PATIENCE / 2
    while followers and time.monotonic() < deadline:
        for follower in followers:
            if follower.poll():
                return follower.returncode
        time.sleep(0.1)
    return None
