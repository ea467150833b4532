"""Which architectures are compared, over which cells, and which of them the ensemble is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from liverattn.comparison.architectures import Architecture, Cell
from liverattn.errors import InputError, InputListError, expect_whole
from liverattn.evaluation.scores import Task
from liverattn.provenance import has_setting

PROTOCOLS = ("paper", "inner", "last")
_KIND = {False: "protocol=paper", True: "protocol=inner"}
QUOTED = "A name with a blank needs quotes twice: 'a=\"NAME\"' or 'members=[\"NAME\"]'."


@dataclass(frozen=True)
class Candidates:
    """Architectures that can be compared: finished over the same cells, with the same outputs.

    Attributes:
        architectures: By label.
        cells: Whole repeats, ascending.
        notes: One line per architecture that is left out, and what a reader of the tables should know of the cells.
    """

    architectures: tuple[Architecture, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]


def named_members(architectures: Sequence[Architecture], names: Sequence[str] | None) -> list[Architecture] | None:
    """Find architectures by label, or by experiment and as many settings as only one of them has.

    Which settings a label has depends on what else is finished: a sweep may say fewer, or others.

    Raises:
        InputError: A name is unknown, given twice, or fits several architectures.
    """
    if names is None:
        return None
    labels = ", ".join(f'"{architecture.label}"' for architecture in architectures)
    if isinstance(names, str) or not names:
        raise InputError(f"Expected members to be a list of names or null, but got {names!r}. There are: {labels}.")
    found: list[Architecture] = []
    for name in names:
        fitting = [a for a in architectures if a.label == name] or [a for a in architectures if _is_called(a, name)]
        if len(fitting) != 1:
            number = "No architecture is" if not fitting else f"{len(fitting)} architectures are"
            raise InputError(f"{number} called {name!r}. {QUOTED} There are: {labels}.")
        if fitting[0] in found:
            raise InputError(f"The architecture {fitting[0].label!r} is given twice.")
        found.extend(fitting)
    return found


def _is_called(architecture: Architecture, name: str) -> bool:
    experiment, *settings = name.split(" ")
    run = architecture.any_run
    return run.experiment == experiment and all(has_setting(run.settings, said) for said in settings)


def candidates(
    architectures: Sequence[Architecture],
    named: Sequence[Architecture] | None,
    *,
    inner: bool,
    repeats: Sequence[int] | None,
) -> Candidates:
    """The architectures with every cell, of those with the same outputs.

    The cells are all folds of every repeat that at least one architecture (of the named ones, if there are any) has
    wholly: a sweep that has just begun its second repeat is judged by its first.

    Args:
        architectures: Of one fold assignment.
        named: Members that the user named, which must be among the result; None: the user named none.
        inner: Whether the runs with an inner split are meant.
        repeats: Those to use; None: see above.

    Raises:
        InputError: No architecture is complete, or a named one is not, or has other outputs.
    """
    decisive = architectures if named is None else named
    folds = _folds(architectures)
    cells = _reference_cells(decisive, folds, inner=inner, repeats=repeats)
    tasks = _usual_tasks(decisive, cells, inner=inner)
    complete, notes, refused = [], [], []
    for architecture in architectures:
        problem = _problem(architecture, cells, tasks, inner=inner)
        if problem is None:
            complete.append(architecture)
        elif named is not None and architecture in named:
            refused.append(f"{architecture.label}: {problem}")
        else:
            notes.append(f"{architecture.label} is left out: {problem}")
    if refused:
        remedy = "Train what is missing, choose repeats=[...] that all of them have, or name others."
        raise InputListError("These cannot be compared with the others that were named", refused, remedy)
    return Candidates(tuple(complete), tuple(cells), (*notes, *_cell_notes(architectures, cells, inner=inner)))


def best_members(ranking: Sequence[str], named: Sequence[Architecture] | None, best: int) -> list[str]:
    """Labels of the members: the named ones, else the ``best`` first of the ranking (or as many as there are)."""
    if named is not None:
        return [architecture.label for architecture in named]
    expect_whole("best", best, 1)
    return list(ranking[:best])


def _folds(architectures: Sequence[Architecture]) -> int:
    """Of the assignment; a split file may have more than the configuration says."""
    return max(max(run.folds, run.cell[1] + 1) for a in architectures for run in a.runs.values())


def _reference_cells(
    architectures: Sequence[Architecture], folds: int, *, inner: bool, repeats: Sequence[int] | None
) -> list[Cell]:
    if repeats is not None and (not isinstance(repeats, list) or not all(isinstance(r, int) for r in repeats)):
        raise InputError(f"Expected repeats to be a list of whole numbers such as [0], or null, but got {repeats!r}.")
    finished = [architecture.cells(inner=inner) for architecture in architectures]
    begun = sorted({repeat for cells in finished for repeat, _ in cells})
    whole = [r for r in begun if any(all((r, fold) in cells for fold in range(folds)) for cells in finished)]
    wanted = sorted(set(whole if repeats is None else repeats)) or begun or [0]
    cells = [(repeat, fold) for repeat in wanted for fold in range(folds)]
    if not any(found.issuperset(cells) for found in finished):
        lines = [f"{a.label}: {_missing(found, cells)}" for a, found in zip(architectures, finished, strict=True)]
        repeat, fold = next(cell for cell in cells if cell not in finished[0])
        what = "Train"
        if others := sum(len(a.cells(inner=not inner)) for a in architectures):
            split = "without an inner split" if inner else "with an inner split"
            what = f"Give {_KIND[not inner]} for the {others} fold run(s) {split}, train"
        remedy = (
            f"{what} them with {_KIND[inner]} (such as: python -m liverattn.train ... {_KIND[inner]} "
            f"protocol.repeat={repeat} protocol.fold={fold}), or choose repeats=[...] that one of them has wholly."
        )
        raise InputListError("No architecture has all fold runs", lines, remedy)
    return cells


def _usual_tasks(architectures: Sequence[Architecture], cells: Sequence[Cell], *, inner: bool) -> tuple[Task, ...]:
    """The tasks that most architectures with all cells have; among equals, those with the most outputs."""
    complete = [a.tasks for a in architectures if a.cells(inner=inner).issuperset(cells)]
    return max(complete, key=lambda tasks: (complete.count(tasks), sum(len(task.outputs) for task in tasks)))


def _problem(architecture: Architecture, cells: Sequence[Cell], tasks: tuple[Task, ...], *, inner: bool) -> str | None:
    finished = architecture.cells(inner=inner)
    if not finished.issuperset(cells):
        return _missing(finished, cells)
    if architecture.tasks != tasks:
        described = "; ".join(f"{t.name} {t.weight:g} ({', '.join(t.outputs)})" for t in architecture.tasks)
        return f"its tasks are others: {described}"
    return None


def _missing(finished: set[Cell], cells: Sequence[Cell]) -> str:
    missing = [f"{repeat}/{fold}" for repeat, fold in cells if (repeat, fold) not in finished]
    return f"missing {', '.join(missing)} (repeat/fold)"


def _cell_notes(architectures: Sequence[Architecture], cells: Sequence[Cell], *, inner: bool) -> list[str]:
    used = sorted({repeat for repeat, _ in cells})
    planned = max(run.repeats for a in architectures for run in a.runs.values())
    if len(used) >= planned:
        return []
    return [f"{len(used)} of {planned} repeats: {', '.join(map(str, used))}."]
