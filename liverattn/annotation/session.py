"""A person at work on a table: where they are, what they did, and how to take it back. Knows no web page."""

import hashlib
import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from liverattn.annotation.journal import ADDED, UNDO, Action, Journal, undoable
from liverattn.annotation.labels import LABEL_KEYS, Labels, whole_boxes
from liverattn.annotation.table import CaseTable, usable_images
from liverattn.data.images import image_size
from liverattn.errors import InputError

LONGEST_GAP = 60  # seconds: a longer one was a break


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        cases: All of them.
        complete: Without lesion, or with a lesion and boxes.
        seconds: Median time per image since the start, breaks left out; None before the second image.
    """

    cases: int
    complete: int
    seconds: float | None

    @property
    def left(self) -> int:
        """Cases that nobody has looked at, or lesions without boxes."""
        return self.cases - self.complete


class Session:
    """Opens a table for annotation; every action is in journal and table when the method returns.

    Args:
        path: Of the table (:class:`~liverattn.annotation.table.CaseTable`).
        root: Folder that image paths are relative to; None: the table's.

    Attributes:
        table: The cases.
        journal: Of the table.
        case: The one that is looked at, from 0.
        only_open: Neighbors are open cases only.
        notes: What a person should know of the opening.
        problem: Why nothing is saved any more; None while all is well.

    Raises:
        InputError: The table or its journal cannot be used, or another process works on them.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        if path.suffix.lower() != ".csv":
            raise InputError(f"{path} cannot be filled in here. Save it as 'CSV UTF-8' under a name that ends in .csv.")
        if not path.exists():
            raise InputError(f"The table {path} does not exist. Give its path, or a folder of images as data.root=...")
        self.notes: list[str] = []
        self.problem: str | None = None
        self.only_open = False
        self.journal = Journal(path.with_name(f"{path.stem}.journal.jsonl"))
        with ExitStack() as stack:  # a table that cannot be used is not held
            stack.callback(self.journal.close)
            self.table = CaseTable(path, root)
            self._row = {image_id: case for case, image_id in enumerate(self.table.image_ids)}
            self._repair()
            stack.pop_all()
        self._undoable = undoable(self.journal.actions, self.table.digest)
        self._opened = len(self.journal.actions)
        self.case = self._where_it_stopped()

    def _repair(self) -> None:
        if self.journal.was_torn:
            self.notes.append("The journal's last line was not whole (power cut?): that action was never done.")
        last = self.journal.actions[-1] if self.journal.actions else None
        if last is None or last.table_after == self.table.digest:
            return
        if last.table_before == self.table.digest and last.name != ADDED:
            self.table.write(self._row[last.image_id], last.after)
            self.notes.append(f"The last action ({last.name} on {last.image_id}) was interrupted; it is done now.")
        else:
            self.notes.append("The table was changed since it was annotated last; undo does not reach behind that.")

    def _where_it_stopped(self) -> int:
        if self.journal.actions and self.journal.actions[-1].image_id in self._row:
            return self._row[self.journal.actions[-1].image_id]
        return next((case for case in range(len(self.table)) if not self.table.labels(case).is_complete), 0)

    def add_new_images(self) -> None:
        """Add the images below the root that the table does not have, and look at the first of them."""
        new, left_out = usable_images(self.table.root, self.table.paths)
        self.notes += [f"Left out: {line}" for line in left_out]
        if not new:
            return
        before = self.table.digest
        self.case = self.table.add(new)
        self._row = {image_id: case for case, image_id in enumerate(self.table.image_ids)}
        self.notes.append(f"{len(new)} image(s) came to the folder since, and are in the table now.")
        if self.journal.actions:  # so that undo reaches behind
            labels, image_id = self.table.labels(self.case), self.table.image_ids[self.case]
            self.journal.append(
                Action(round(time.time(), 3), image_id, ADDED, labels, labels, before, self.table.digest)
            )
            self._opened = len(self.journal.actions)

    def answer(self, case: int, key: str) -> None:
        """Label a case.

        Args:
            case: From 0.
            key: Of :data:`~liverattn.annotation.labels.LABEL_KEYS`.

        Raises:
            InputError: It cannot be saved; see :attr:`problem`.
        """
        answer = LABEL_KEYS[key]
        self._act(case, answer, self.table.labels(case).answered(answer))

    def box(self, case: int, boxes: Sequence[Sequence[float]], name: str = "boxes") -> None:
        """Set a case's boxes; new ones are brought to whole pixels inside the image, clicks are left out.

        Args:
            case: From 0.
            boxes: All boxes of the case, original pixels.
            name: Of the action in the journal.

        Raises:
            InputError: It cannot be saved; see :attr:`problem`.
        """
        present, size = self.table.labels(case).box_list(), image_size(self.table.image(case))
        kept = [[box] if list(box) in present else whole_boxes([box], size) for box in boxes]
        left = [list(box) for found in kept for box in found]
        if left != present:
            self._act(case, name, self.table.labels(case).boxed(left))

    def change(self, case: int, before: Sequence[float] | None, after: Sequence[float] | None) -> None:
        """Set one box of a case; the others stay, also those that another tab drew in the meantime.

        Args:
            case: From 0.
            before: What it was; None: a new one.
            after: What it is; None: it is removed.

        Raises:
            InputError: It cannot be saved; see :attr:`problem`.
        """
        boxes: list[Sequence[float]] = [*self.table.labels(case).box_list()]
        place = boxes.index(before) if before in boxes else len(boxes)
        boxes[place : place + 1] = [] if after is None else [after]
        self.box(case, boxes)

    def accept(self, case: int, boxes: Sequence[Sequence[float]]) -> None:
        """Add suggested boxes that the case does not have yet."""
        present = self.table.labels(case).box_list()
        self.box(case, [*present, *(box for box in boxes if list(box) not in present)], "accepted suggestion")

    def undo(self) -> None:
        """Take back the last action, also one from before this start, and look at its case."""
        if self._undoable:
            action = self._undoable[-1]
            self.case = self._row[action.image_id]
            self._save(self.case, UNDO, action.before)
            self._undoable.pop()

    def neighbor(self, direction: int) -> int:
        """The next (1) or previous (-1) case; with ``only_open`` the next open one, around the ends."""
        cases = len(self.table)
        if not self.only_open:
            return min(max(self.case + direction, 0), cases - 1)
        around = [(self.case + direction * distance) % cases for distance in range(1, cases)]
        return next((case for case in around if not self.table.labels(case).is_complete), self.case)

    def step(self, direction: int) -> None:
        """Look at a :meth:`neighbor`."""
        self.case = self.neighbor(direction)

    def _act(self, case: int, name: str, labels: Labels) -> None:
        if labels != self.table.labels(case):
            self._save(case, name, labels)
            self._undoable.append(self.journal.actions[-1])

    def _save(self, case: int, name: str, labels: Labels) -> None:
        if self.problem is None and not self.table.is_unchanged():
            self.problem = (
                f"{self.table.path.name} was changed by another program while this page was open. Nothing is saved any "
                "more, so that those changes stay. Stop with Ctrl-C and give the same command to go on with them."
            )
        if self.problem is not None:
            raise InputError(self.problem)
        after = hashlib.sha256(self.table.content_with(case, labels)).hexdigest()
        image_id, before = self.table.image_ids[case], self.table.labels(case)
        action = Action(round(time.time(), 3), image_id, name, before, labels, self.table.digest, after)
        try:
            self.journal.append(action)
            self.table.write(case, labels)
        except (OSError, InputError) as error:  # whether this action counts is decided when the table is opened again
            self.problem = f"Saving failed: {error} Stop with Ctrl-C, mend that, and give the same command to go on."
            raise InputError(self.problem) from error

    def progress(self) -> Progress:
        """Counts and speed."""
        complete = sum(self.table.labels(case).is_complete for case in range(len(self.table)))
        return Progress(len(self.table), complete, _seconds_per_image(self.journal.actions[self._opened :]))

    def close(self) -> None:
        """Release the table."""
        self.journal.close()


def _seconds_per_image(actions: Sequence[Action]) -> float | None:
    """Median time between the last actions on successive images."""
    ends = [list(visit)[-1].time for _, visit in itertools.groupby(actions, lambda action: action.image_id)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(ends) if later - earlier < LONGEST_GAP]
    return statistics.median(gaps) if gaps else None
