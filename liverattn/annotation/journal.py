"""Every action on a table, one line each: what undo and repair read.

A line is on the disk before the table is rewritten. Killed in between, the table still is what the last line says it
was before, and the action is done again; killed while the line is written, the line is not whole and the action was
never done. A line names the table by its digest before and after, so a table that somebody else changed in the
meantime is noticed, and what was done before that is not undone over it.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from liverattn.annotation.labels import Labels
from liverattn.errors import InputError

UNDO = "undo"
ADDED = "added images"  # to the table; the line names the first and changes no label, and its table is written before


@dataclass(frozen=True)
class Action:
    """One line of the journal.

    Attributes:
        time: Seconds since 1970.
        image_id: Of the case.
        name: What was done, for people; :data:`UNDO` takes back the last action that was not taken back.
        before: The case's label cells.
        after: The same after the action.
        table_before: SHA-256 of the table's file.
        table_after: The same after the action.
    """

    time: float
    image_id: str
    name: str
    before: Labels
    after: Labels
    table_before: str
    table_after: str


class Journal:
    """The journal of one table, held for this process as long as it is open.

    Args:
        path: JSON lines; created where it is absent.

    Attributes:
        actions: All of them, oldest first.
        was_torn: The last line was not whole and is removed.

    Raises:
        InputError: Another process holds it, or a line other than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as stack:
            self._stream = stack.enter_context(path.open("ab+"))
            self._hold()
            self._stream.seek(0)
            *lines, torn = self._stream.read().split(b"\n")
            if lines and _parsed(lines[-1]) is None:  # a power cut may leave garbage that ends a line
                torn = lines.pop() + b"\n" + torn
            self.was_torn = bool(torn)
            self.actions = [self._action(number, line) for number, line in enumerate(lines, 1)]
            self._size = self._stream.tell() - len(torn)
            self._stream.truncate(self._size)
            stack.pop_all()

    def _hold(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another process annotates this table (it holds {self.path}). Use its page, or stop it first."
            ) from None

    def _action(self, number: int, line: bytes) -> Action:
        action = _parsed(line)
        if action is None:
            raise InputError(
                f"{self.path}: line {number} is damaged, so it is unknown what was done. The labels are in the table: "
                "move the journal away to go on without undo."
            )
        return action

    def append(self, action: Action) -> None:
        """Add an action; it is on the disk when this returns.

        Raises:
            OSError: It cannot be written; the journal stays as it was.
        """
        line = json.dumps(asdict(action), ensure_ascii=False).encode() + b"\n"
        try:
            self._stream.write(line)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError:
            os.truncate(self.path, self._size)
            raise
        self._size += len(line)
        self.actions.append(action)

    def close(self) -> None:
        """Release it."""
        self._stream.close()


def _parsed(line: bytes) -> Action | None:
    try:
        cells = json.loads(line)
        return Action(**{**cells, "before": Labels(**cells["before"]), "after": Labels(**cells["after"])})
    except (ValueError, TypeError, KeyError):
        return None


def undoable(actions: Sequence[Action], digest: str) -> list[Action]:
    """The actions that can still be taken back, oldest first.

    Args:
        actions: All of the journal.
        digest: Of the table as it is; what was done before somebody else changed it is not undone.
    """
    left: list[Action] = []
    for position, action in enumerate(actions):
        if position and action.table_before != actions[position - 1].table_after:
            left.clear()
        if action.name == UNDO:
            del left[-1:]
        elif action.name != ADDED:
            left.append(action)
    return left if actions and actions[-1].table_after == digest else []
