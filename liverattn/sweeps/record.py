"""CONTRACT on disk: ``sweeps/ID.json`` below the outputs, one record per sweep; its cells are run folders.

A cell is identified by its run folder, whose name holds a hash of what determines the result; a sweep by its cells. So
the same command finds its record again, and what has become of a cell is read from its folder, whoever worked on it.
"""

import json
import shlex
import statistics
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from liverattn.errors import InputError
from liverattn.files import digest, write_json
from liverattn.runs import RunFolder, State

CELL_OF_A_ROW = ("repeat", "fold")
ALWAYS_SHOWN = ("experiment", "architecture", "lambda", "resolution")


@dataclass(frozen=True)
class Cell:
    """One fold run of a sweep.

    Attributes:
        overrides: As Hydra takes them.
        folder: Of the run, relative to the outputs.
        epochs: To train.
        tags: What people tell cells apart by, ``repeat`` and ``fold`` among them.
        label: Of the architecture, as ``liverattn.compare`` takes it; empty in the records of older versions.
    """

    overrides: tuple[str, ...]
    folder: str
    epochs: int
    tags: Mapping[str, str]
    label: str = ""

    @property
    def command(self) -> str:
        """What runs this cell alone, for a shell."""
        # A preset of a sweep holds only what is swept, and would start the sweep again.
        own = [override for override in self.overrides if not override.startswith(("+sweep=", "sweep="))]
        return shlex.join(["python", "-m", "liverattn.train", *own])

    @property
    def place(self) -> tuple[int, int]:
        """Repeat and fold."""
        return int(self.tags["repeat"]), int(self.tags["fold"])


@dataclass(frozen=True)
class Progress:
    """What has become of a cell.

    Attributes:
        state: Of its run.
        share: Of its epochs that are done, 0 to 1.
        seconds: That its epochs take, from those that are done; None: not known yet.
        error: Of a failed run.
    """

    state: State
    share: float
    seconds: float | None
    error: str | None


@dataclass(frozen=True)
class Sweep:
    """A sweep as it is recorded.

    Attributes:
        outputs: Folder of all outputs.
        id: Eight digits that depend on the cells only.
        name: For people.
        key: Random; names the sweep's run on a tracking server that others use, too.
        command: That started it last.
        started: When that was, in seconds since 1970.
        jobs: Cells at once.
        status: How the command ended: ``finished``, ``failed`` or ``interrupted``; ``running``: it goes on, or was
            killed; ``new``.
        cells: In order.
    """

    outputs: Path
    id: str
    name: str
    key: str
    command: str
    started: float
    jobs: int
    status: str
    cells: tuple[Cell, ...]

    @property
    def path(self) -> Path:
        """The record."""
        return sweeps_folder(self.outputs) / f"{self.id}.json"

    def marked(self, status: str) -> "Sweep":
        """The sweep with another status, recorded."""
        marked = replace(self, status=status)
        write_json(self.path, {name: value for name, value in asdict(marked).items() if name != "outputs"})
        return marked

    def run(self, cell: Cell) -> RunFolder:
        """A cell's run folder."""
        return RunFolder(self.outputs / cell.folder)

    def runs(self) -> list[int]:
        """Positions of the first cell of each run; cells may share one (``protocol=paper,last``)."""
        return list({cell.folder: position for position, cell in reversed(list(enumerate(self.cells)))}.values())[::-1]

    def unfinished(self) -> list[int]:
        """Positions of the cells to work on."""
        progress = self.progress()
        return [position for position in self.runs() if progress[position].state != "finished"]

    def progress(self) -> list[Progress]:
        """What has become of each cell."""
        return [_progress(self.run(cell), cell.epochs) for cell in self.cells]

    def rows(self) -> dict[str, list[int]]:
        """Positions of the cells that differ only in repeat and fold, by a name for people."""
        rows: dict[str, list[int]] = {}
        for position, cell in enumerate(self.cells):
            # Cells of one architecture differ in the protocol, or in what is shown to it.
            alike = [other for other in self.cells if _architecture(other) == _architecture(cell)]
            differing = [_said(name, cell.tags[name]) for name in _varied_tags(alike) if cell.tags[name]]
            rows.setdefault(" ".join([_architecture(cell), *differing]), []).append(position)
        return rows

    def columns(self) -> list[str]:
        """Tags that tell the rows apart: the first four always, others where they differ."""
        return [*ALWAYS_SHOWN, *(name for name in _varied_tags(self.cells) if name not in ALWAYS_SHOWN)]

    def cell_name(self, position: int) -> str:
        """One cell, for people."""
        row = next(label for label, members in self.rows().items() if position in members)
        repeat, fold = self.cells[position].place
        return f"{row} repeat {repeat} fold {fold}"

    def seconds_left(self, progress: Sequence[Progress]) -> float | None:
        """Time that unfinished cells will take; None: nothing is known yet.

        A cell takes what the finished cells of its row took (median), else its row's unfinished ones by the epochs that
        they have done, else any. Failed cells do not count: they wait for a remedy.
        """
        known = [item.seconds for item in progress if item.seconds is not None]
        if not known:
            return None
        left, runs = 0.0, set(self.runs())
        for members in self.rows().values():
            done = [progress[i].seconds for i in members if progress[i].state == "finished"]
            row = [seconds for seconds in done or (progress[i].seconds for i in members) if seconds is not None]
            waiting = [progress[i] for i in runs & {*members} if progress[i].state not in ("finished", "failed")]
            left += statistics.median(row or known) * sum(1 - item.share for item in waiting)
        return left / self.jobs


def _architecture(cell: Cell) -> str:
    return cell.label or cell.tags["experiment"]


def _said(name: str, value: str) -> str:
    return value if name == "settings" else f"{name}={value}"


def _varied_tags(cells: Sequence[Cell]) -> list[str]:
    return [
        name for name in cells[0].tags if name not in CELL_OF_A_ROW and len({cell.tags[name] for cell in cells}) > 1
    ]


def _progress(run: RunFolder, epochs: int) -> Progress:
    done = sorted(path.stat().st_mtime for path in run.epoch(0).parent.glob("*.safetensors"))[:epochs]
    # From one epoch's file to the next: what start and finish take is little, and interruptions do not count.
    gaps = [later - earlier for earlier, later in pairwise(done)]
    state = run.state
    return Progress(
        state=state,
        share=1.0 if state == "finished" else len(done) / epochs,
        seconds=statistics.median(gaps) * epochs if gaps else None,
        error=run.failure if state == "failed" else None,
    )


def sweeps_folder(outputs: Path) -> Path:
    """Where the records lie."""
    return outputs / "sweeps"


def known_or_new(outputs: Path, cells: Iterable[Cell], *, name: str, command: str, started: float, jobs: int) -> Sweep:
    """A sweep with the key and the status of its record, if it has one; nothing is written.

    Args:
        outputs: Folder of all outputs.
        cells: In order.
        name: For people.
        command: That starts it.
        started: Seconds since 1970.
        jobs: Cells at once.
    """
    cells = tuple(cells)
    identity = digest(sorted({cell.folder for cell in cells}))[:8]
    path = sweeps_folder(outputs) / f"{identity}.json"
    known = read_sweep(path) if path.exists() else None
    key, status = (uuid.uuid4().hex[:12], "new") if known is None else (known.key, known.status)
    return Sweep(outputs, identity, name, key, command, started, jobs, status, cells)


def read_sweep(path: Path) -> Sweep:
    """Read a record.

    Raises:
        InputError: Absent or damaged.
    """
    try:
        content = json.loads(path.read_text())
        cells = tuple(Cell(**{**cell, "overrides": tuple(cell["overrides"])}) for cell in content.pop("cells"))
        return Sweep(outputs=path.parent.parent, cells=cells, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not the record of a sweep ({error}). Remove it and start the sweep again; finished runs stay."
        ) from None


def find_sweeps(outputs: Path) -> tuple[list[Sweep], list[str]]:
    """All recorded sweeps, the last started first; and what is wrong with records that cannot be read."""
    found, problems = [], []
    for path in sorted(sweeps_folder(outputs).glob("[!.]*.json")):
        try:
            found.append(read_sweep(path))
        except InputError as error:
            problems.append(str(error))
    return sorted(found, key=lambda sweep: sweep.started, reverse=True), problems
