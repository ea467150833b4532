"""Tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table


def number(value: float | None) -> str:
    """Three digits as the paper prints AUCs; a dash where undefined."""
    return "-" if value is None or value != value else f"{value:.3f}"


def _titled(title: str) -> Table:
    # rich breaks a title at the width of its table: no narrower than the title, then.
    return Table(title=title, title_justify="left", min_width=len(title))


def metrics_table(metrics: Mapping[str, Any], protocol: str) -> Table:
    """AUCs of one fold run under one protocol: each task and its outputs, from the task's own copy, and the score."""
    table = _titled(f"Held-out fold: area under the ROC curve (protocol={protocol})")
    table.add_column("task or output")
    table.add_column("AUC", justify="right")
    table.add_column("copy from epoch", justify="right")
    for task, auc in metrics["auc"].items():
        copy = metrics["copies"].get(task)
        table.add_row(
            f"[bold]{escape(task)}[/bold]", f"[bold]{number(auc)}[/bold]", str(copy["epoch"] + 1) if copy else "-"
        )
    for output in (name for name in metrics["outputs"] if name not in metrics["auc"]):
        table.add_row(f"  {escape(output)}", number(metrics["outputs"][output]), "")
    table.add_section()
    missing = [task for task, auc in metrics["auc"].items() if auc is None or auc != auc]
    note = f" (without {', '.join(missing)}: weights renormalized)" if missing else ""
    table.add_row(f"score (Eq. 4){note}", number(metrics["score"]), "")
    return table


def attention_table(metrics: Mapping[str, Any]) -> Table:
    """Attention quality of one fold run on held-out lesion images with known boxes."""
    attention = metrics["attention"]
    table = _titled(f"Attention on {attention['cases_with_boxes']:.0f} lesion images")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("chance", justify="right")
    table.add_row("maximum inside a box (pointing game)", number(attention["pointing"]), number(attention["chance"]))
    table.add_row("energy inside the boxes", number(attention["energy"]), number(attention["chance"]))
    table.add_row("average precision over cells", number(attention["average_precision"]), "")
    table.add_row("IoU at 0.5", number(attention["iou"]), "")
    return table


def counts_table(counts: Mapping[str, int]) -> Table:
    """Class counts in the form of Table 1."""
    total = sum(counts.values())
    table = _titled(f"{total} images (form of Table 1)")
    table.add_column("category")
    table.add_column("images", justify="right")
    for name, count in counts.items():
        table.add_row(escape(name), f"{count} ({100 * count / max(total, 1):.1f}%)")
    return table


def distribution_table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Quantiles of measured quantities, one row each."""
    table = _titled("Distributions")
    table.add_column("quantity")
    for name in next(iter(rows.values()), {}):
        table.add_column(name, justify="right")
    for quantity, values in rows.items():
        table.add_row(escape(quantity), *("-" if value != value else f"{value:.0f}" for value in values.values()))
    return table
