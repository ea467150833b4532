"""A sweep at a glance: what has become of each cell, what failed and why, means of what is finished."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from liverattn.commands import make
from liverattn.reporting.tables import number
from liverattn.runs import State
from liverattn.sweeps.record import Progress, Sweep

SYMBOLS: dict[State, tuple[str, str]] = {
    "finished": ("+", "green"),
    "running": (">", "cyan"),
    "interrupted": ("~", "yellow"),
    "failed": ("x", "red"),
    "missing": (".", "dim"),
}
NAMES = {"finished": "done"}


def matrix_table(sweep: Sweep, progress: Sequence[Progress]) -> Table:
    """One row per setting, one column per repeat and fold; an unfinished cell shows how many of its epochs are done."""
    places = sorted({cell.place for cell in sweep.cells})
    table = _narrow(f"Sweep {sweep.id}: {sweep.name}")
    for column in sweep.columns():
        table.add_column(column)
    for repeat, fold in places:
        table.add_column(f"{repeat}.{fold}", justify="center")
    for members in sweep.rows().values():
        cells = {sweep.cells[i].place: progress[i] for i in members}
        tags = sweep.cells[members[0]].tags
        shown = [_symbol(cells[place]) if place in cells else "" for place in places]
        table.add_row(*(escape(tags[name]) for name in sweep.columns()), *shown)
    return table


def _narrow(title: str) -> Table:
    # The 27 cells of Table 2 fit into 80 columns.
    return Table(
        title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0), min_width=len(title)
    )


def _symbol(item: Progress) -> str:
    symbol, color = SYMBOLS[item.state]
    share = f"{min(100 * item.share, 99):.0f}" if item.state in ("running", "interrupted") else ""
    return f"[{color}]{symbol}{share}[/{color}]"


def legend(progress: Sequence[Progress]) -> str:
    """What the symbols mean, each with its count."""
    states = [item.state for item in progress]
    counted = [
        f"[{color}]{symbol}[/{color}] {states.count(state)} {NAMES.get(state, state)}"
        for state, (symbol, color) in SYMBOLS.items()
        if state in states
    ]
    return "   ".join(["Columns: repeat.fold", *counted, "numbers: % of the epochs done"])


def first_line(error: str | None) -> str:
    """Of a message."""
    return ((error or "").strip() or "unknown error").splitlines()[0]


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 60 else f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def news(sweep: Sweep, position: int, progress: Sequence[Progress]) -> str:
    """One line on what has become of a cell just now."""
    item, cell = progress[position], sweep.cells[position]
    line = f"{time.strftime('%H:%M')} {NAMES.get(item.state, item.state)}: {sweep.cell_name(position)}"
    if item.state == "failed":
        return f"{line}: {first_line(item.error)}"
    if item.state != "finished":
        return line
    metrics = sweep.run(cell).read_metrics()["protocols"].get(cell.tags["protocol"], {})
    left = sweep.seconds_left(progress)
    done = sum(progress[i].state == "finished" for i in sweep.runs())
    rest = f", about {duration(left)} left" if left else ""
    return f"{line}: score {number(metrics.get('score'))}; {done} of {len(sweep.runs())}{rest}"


def print_sweep(sweep: Sweep, progress: Sequence[Progress], console: Console) -> None:
    """The matrix, time left, and each failed cell with the command that runs it again."""
    console.print(matrix_table(sweep, progress))
    console.print(legend(progress))
    left = sweep.seconds_left(progress)
    if any(item.state not in ("finished", "failed") for item in progress):
        how = f" with {sweep.jobs} at once" if sweep.jobs > 1 else ""
        print("Time left: " + ("not known before two epochs are done" if left is None else f"{duration(left)}{how}"))
    for position, item in enumerate(progress):
        if item.state == "failed":
            cell = sweep.cells[position]
            print(f"\nFailed: {sweep.cell_name(position)}: {first_line(item.error)}")
            trace = sweep.run(cell).path / "traceback.txt"
            print(*([f"  trace: {trace}"] if trace.exists() else []), f"  again: {cell.command}", sep="\n")


def next_command(sweep: Sweep) -> str:
    """What makes tables of the finished cells, under the protocol that they were trained for."""
    protocols = {cell.tags["protocol"] for cell in sweep.cells}
    only = protocols.pop() if len(protocols) == 1 else "paper"
    return make("ensemble", sweep.outputs, "" if only == "paper" else f"protocol={only}")


def summary(sweep: Sweep, progress: Sequence[Progress]) -> pd.DataFrame:
    """Mean and sample deviation over the finished cells of each row of the matrix.

    Returns:
        One row per row of the matrix, named ``architecture``: ``finished`` of how many ``cells``, then
        ``NAME`` and ``NAME_deviation`` for the score (Eq. 4) and each task's AUC; NaN where there are too few.
    """
    rows = []
    for label, members in sweep.rows().items():
        done = [sweep.cells[i] for i in members if progress[i].state == "finished"]
        numbers = [sweep.run(cell).read_metrics()["protocols"].get(cell.tags["protocol"], {}) for cell in done]
        tasks = dict.fromkeys(task for metrics in numbers for task in metrics.get("auc", {}))
        row: dict[str, Any] = {"architecture": label, "cells": len(members), "finished": len(done)}
        for name in ("score", *tasks):
            found = [metrics.get(name) if name == "score" else metrics.get("auc", {}).get(name) for metrics in numbers]
            values = np.array([value for value in found if value is not None], dtype=np.float64)
            row[name] = values.mean() if len(values) else np.nan
            row[f"{name}_deviation"] = values.std(ddof=1) if len(values) > 1 else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def summary_table(table: pd.DataFrame) -> Table:
    """:func:`summary` for the terminal: mean (deviation)."""
    shown = _narrow("Mean (deviation) over finished cells")
    shown.add_column("architecture")
    shown.add_column("finished", justify="right")
    names = [name.removesuffix("_deviation") for name in table if name.endswith("_deviation")]
    for name in names:
        shown.add_column(name, justify="right")
    for row in table.to_dict("records"):
        means = [f"{number(row[name])} ({number(row[f'{name}_deviation'])})" for name in names]
        shown.add_row(escape(row["architecture"]), f"{row['finished']} of {row['cells']}", *means)
    return shown
