"""Several processes train one fold together (``trainer=ddp``): the first leads, the others follow.

When the leader begins to train, Lightning starts the same command once more for every further process. By then the
leader has prepared the data, drawn the folds and begun the run folder. It alone writes, prints and tracks; the
followers read, compute and leave.
"""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from subprocess import Popen
from typing import TYPE_CHECKING, Any

from liverattn.errors import INTERRUPTED, InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

PATIENCE = 5.0  # seconds within which processes that meet the same error have all met it
SECONDS_BETWEEN_LOOKS = 0.2
LEADER = "LIVERATTN_LEADER"
STOPPED = (-signal.SIGTERM, -signal.SIGINT, 130)  # by a person, or by the system at its end


def is_leader() -> bool:
    """This process writes, prints and tracks; so does a process that trains alone."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


@contextmanager
def following() -> Iterator[None]:
    """Work for the leader, in silence, and no longer than it lives.

    The leader tells of an error that all processes meet, and ends this one while it waits here. An error that this
    process meets alone is raised after the wait. Ctrl-C is the leader's.
    """
    done, leader = threading.Event(), int(os.environ.get(LEADER, os.getppid()))  # it may be gone by now
    threading.Thread(target=_end_with, args=(leader, done), daemon=True).start()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BaseException:
            time.sleep(PATIENCE)
            raise
        finally:
            done.set()
            signal.signal(signal.SIGINT, before)


def _end_with(leader: int, done: threading.Event) -> None:
    # Without its leader a process would wait in a collective operation, half an hour on some devices.
    while not done.wait(0.5):
        if os.getppid() != leader:
            os.kill(os.getpid(), signal.SIGKILL)


def stop_at_once() -> None:
    """SIGTERM stops the leader as Ctrl-C does, and a follower like any process.

    Lightning broadcasts it, and whoever was in another operation waits for ever.
    """
    if threading.current_thread() is threading.main_thread():  # else neither Lightning nor this process hears it
        signal.signal(signal.SIGTERM, signal.default_int_handler if is_leader() else signal.SIG_DFL)


@contextmanager
def leading(trainer: "pl.Trainer") -> Iterator[None]:
    """End the followers when this process fails, and this process when one of them does; alone, do nothing.

    Raises:
        InputError: A follower failed by itself; it has said why, if it could.
        KeyboardInterrupt: It was stopped.
    """
    launcher: Any = trainer.strategy.launcher
    followers, done = list[Popen[bytes]](), threading.Event()
    if launcher is None or not is_leader():
        yield
        return
    threading.Thread(target=_end_after, args=(launcher, followers, done), daemon=True).start()
    os.environ[LEADER] = str(os.getpid())
    try:
        yield
    except BaseException as error:
        done.set()
        everyone = [*followers, *launcher.procs]
        # Where a follower is gone, torch finds the connection to it broken.
        failed = _failed(everyone) if isinstance(error, RuntimeError) else None
        _kill(everyone)
        if failed in STOPPED:
            raise KeyboardInterrupt from error
        if failed is not None:
            raise InputError(_ended(failed)) from error
        raise
    finally:
        done.set()
        del os.environ[LEADER]


def _end_after(launcher: Any, followers: list["Popen[bytes]"], done: threading.Event) -> None:
    # Some devices wait half an hour for a process that is gone, and so does whoever is waiting for all to begin.
    while not done.wait(SECONDS_BETWEEN_LOOKS):
        if len(launcher.procs) == launcher.num_processes - 1:
            followers[:] = launcher.procs
            launcher.procs.clear()  # Lightning watches the same list, and would kill this process without a word
        failed = next((follower.returncode for follower in followers if follower.poll()), None)
        if failed is None or done.wait(PATIENCE / 2):  # the connection broke, and this process has noticed
            continue
        _kill(followers)
        if failed != 130:  # it has said so
            print(INTERRUPTED if failed in STOPPED else f"Error: {_ended(failed)}", file=sys.stderr, flush=True)
        os._exit(130 if failed in STOPPED else 1)


def _ended(status: int) -> str:
    return (
        f"Another process of this run ended with status {status}; its own message, if it left one, stands above. The "
        "same command goes on from the last whole epoch."
    )


def _kill(followers: Sequence["Popen[bytes]"]) -> None:
    for follower in followers:
        follower.kill()


def _failed(followers: Sequence["Popen[bytes]"]) -> int | None:
    """Status of the first follower that ended in failure, after a while None."""
    deadline = time.monotonic() + PATIENCE / 2
    while followers and time.monotonic() < deadline:
        for follower in followers:
            if follower.poll():
                return follower.returncode
        time.sleep(0.1)
    return None
