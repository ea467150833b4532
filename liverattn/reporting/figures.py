"""Figures: ROC curves (Fig. 5) and attention maps over images (Fig. 4). Numbers in, files out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from liverattn.files import replacing

Panel = TypeVar("Panel")
RESEARCH_ONLY = "Research use only"
PANEL_HEIGHT = 1.6  # of one image, inches


@dataclass(frozen=True)
class RocPanel:
    """One panel of Fig. 5.

    Attributes:
        title: Of the panel.
        curves: Truth (n,) of 0, 1, NaN and scores (n,) by name of the curve.
    """

    title: str
    curves: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]


def roc_figure(panels: Sequence[RocPanel], path: Path) -> None:
    """Draw ROC curves side by side; a curve with one class only is named as undefined in the legend.

    Args:
        panels: Any number; without any, the picture says so.
        path: Of the PNG.
    """
    figure = Figure(figsize=(4.6 * max(len(panels), 1), 5), layout="constrained")
    for axes, panel in panel_axes(figure, panels):
        for name, (truth, score) in panel.curves.items():
            _draw_curve(axes, name, truth, score)
        _finish_roc(axes, panel.title, "AUC (positive / negative cases)")
    _save_roc(figure, panels, "", path)


def panel_axes(figure: Figure, panels: Sequence[Panel]) -> Iterator[tuple[Axes, Panel]]:
    """Axes side by side, each with its panel and a gray diagonal."""
    if panels:
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
            yield axes, panel


def _save_roc(figure: Figure, panels: Sequence[object], legend: str, path: Path) -> None:
    if not panels:
        return save_notice("No ROC curve to show.", path)
    figure.supxlabel(f"{legend}{RESEARCH_ONLY}.", fontsize="small")
    save(figure, path)


def _draw_curve(axes: Axes, name: str, truth: NDArray[np.floating], score: NDArray[np.floating]) -> None:
    known = ~np.isnan(truth)
    truth, score = truth[known], score[known]
    positive = int((truth == 1).sum())
    if not 0 < positive < len(truth):
        axes.plot([], [], " ", label=f"{name}: undefined ({positive} of {len(truth)} positive)")
        return
    false_positive, true_positive, _ = roc_curve(truth, score)
    area = np.trapezoid(true_positive, false_positive)
    axes.plot(false_positive, true_positive, label=f"{name} {area:.3f} ({positive} / {len(truth) - positive})")


@dataclass(frozen=True)
class RocFoldsPanel:
    """One panel of Fig. 5 over several fold runs.

    Attributes:
        title: Of the panel.
        curves: By name of the curve: truth (n,) of 0, 1, NaN and scores (n,) of every fold run.
    """

    title: str
    curves: Mapping[str, Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]]


def roc_folds_figure(panels: Sequence[RocFoldsPanel], path: Path) -> None:
    """Draw Fig. 5 over all fold runs: a thin line for each, and their mean sensitivity at each specificity.

    The areas in the legends are means over the fold runs that define them, as in Tables 2 and 3.

    Args:
        panels: Any number; without any, the picture says so.
        path: Of the PNG.
    """
    figure = Figure(figsize=(4.6 * max(len(panels), 1), 5), layout="constrained")
    for axes, panel in panel_axes(figure, panels):
        for k, (name, folds) in enumerate(panel.curves.items()):
            _draw_folds(axes, name, folds, f"C{k}")
        _finish_roc(axes, panel.title, "mean AUC (deviation over fold runs)")
    _save_roc(figure, panels, "Thin: single fold runs. Thick: their mean. ", path)


def _draw_folds(
    axes: Axes, name: str, folds: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]], color: str
) -> None:
    grid = np.linspace(0, 1, 201)
    areas, curves = [], []
    for truth, score in folds:
        known = ~np.isnan(truth) & ~np.isnan(score)
        if not 0 < (truth[known] == 1).sum() < known.sum():
            continue
        false_positive, true_positive, _ = roc_curve(truth[known], score[known])
        axes.plot(false_positive, true_positive, color=color, linewidth=0.6, alpha=0.4)
        areas.append(np.trapezoid(true_positive, false_positive))
        curves.append(np.interp(grid, false_positive, true_positive))  # its upper end where a curve rises
    if not curves:
        axes.plot([], [], " ", label=f"{name}: undefined")
        return
    deviation = f"{np.std(areas, ddof=1):.3f}" if len(areas) > 1 else "-"
    fewer = "" if len(areas) == len(folds) else f", {len(areas)} of {len(folds)} fold runs"
    mean = np.concatenate([[0.0], np.mean(curves, axis=0)])
    label = f"{name} {np.mean(areas):.3f} ({deviation}{fewer})"
    axes.plot(np.concatenate([[0.0], grid]), mean, color=color, linewidth=2, label=label)


def _finish_roc(axes: Axes, title: str, legend: str) -> None:
    axes.set(title=title, xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right", fontsize="small", title=legend, title_fontsize="small")


@dataclass(frozen=True)
class AttentionPanel:
    """One image of an attention sheet.

    Attributes:
        image: (H, W) intensities, 0 to 255.
        lift: (h, w) attention map times its number of cells: 1 is what plain averaging gives everywhere.
        boxes: (N, 4) in pixels; None where unknown.
        caption: Above the image. No names of patients.
        group: Such as TP, FP, FN, TN: decides the color of the caption.
    """

    image: NDArray[np.number]
    lift: NDArray[np.floating]
    boxes: NDArray[np.float64] | None
    caption: str
    group: str


GROUP_COLORS = {"TP": "tab:green", "TN": "tab:green", "FP": "tab:red", "FN": "tab:red"}


def attention_figure(panels: Sequence[AttentionPanel], path: Path, columns: int = 4) -> None:
    """Draw images, each beside itself with its attention map superposed, on one color scale for the whole figure.

    The scale starts at 1, what plain averaging gives everywhere: an image that is attended to evenly stays gray.

    Args:
        panels: Any number; without any, the picture says so.
        path: Of the PNG.
        columns: Panels side by side; fewer if there are fewer panels.
    """
    if not panels:
        return save_notice("No case to show an attention map of.", path)
    height, width = panels[0].image.shape
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    largest = max(2.0, float(np.median([panel.lift.max() for panel in panels])))
    scale = ScalarMappable(Normalize(1, largest, clip=True), "plasma")
    figure = Figure(
        figsize=(columns * 2 * PANEL_HEIGHT * width / height + 0.9, rows * (PANEL_HEIGHT + 0.3) + 0.3),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04, wspace=0, hspace=0),
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, panel in zip(grid.ravel(), panels, strict=False):
        _draw_panel(axes, panel, scale)
    bar = figure.colorbar(scale, ax=grid.ravel().tolist(), aspect=12 * rows, pad=0.01, extend="max")
    bar.set_label("attention / plain average", fontsize="small")
    bar.ax.tick_params(labelsize="small")
    figure.supxlabel(f"Box: annotated lesion. {RESEARCH_ONLY}.", fontsize="small")
    save(figure, path)


def _draw_panel(axes: Axes, panel: AttentionPanel, scale: ScalarMappable) -> None:
    height, width = panel.image.shape
    lift = cv2.resize(panel.lift.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    color = scale.to_rgba(np.asarray(lift))
    share = np.clip((np.asarray(lift) - 1) / (scale.norm.vmax - 1), 0, 1)  # type: ignore[operator]
    color[..., 3] = 0.7 * np.sqrt(share)
    axes.imshow(np.hstack([panel.image, panel.image]), cmap="gray", vmin=0, vmax=255)
    axes.imshow(color, extent=(width - 0.5, 2 * width - 0.5, height - 0.5, -0.5))
    axes.set(xlim=(-0.5, 2 * width - 0.5), ylim=(height - 0.5, -0.5))
    for x0, y0, x1, y1 in [] if panel.boxes is None else panel.boxes:
        for left in (x0, x0 + width):
            place = (left - 0.5, y0 - 0.5)
            axes.add_patch(Rectangle(place, x1 - x0, y1 - y0, fill=False, edgecolor="cyan", linewidth=1))
    axes.axvline(width - 0.5, color="white", linewidth=1)
    color_of_group = GROUP_COLORS.get(panel.group, "black")
    axes.set_title(panel.caption, fontsize="medium", color=color_of_group, loc="left", pad=3)


def save_notice(text: str, path: Path) -> None:
    """A picture that says why there is none."""
    figure = Figure(figsize=(4.6, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
