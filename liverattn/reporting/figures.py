"""Figures: ROC curves (Fig. 5) and attention maps over images (Fig. 4). Numbers in, files out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from liverattn.files import replacing

RESEARCH_ONLY = "Research use only"


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
    """Draw ROC curves side by side; a curve with one class only is named as undefined in the legend."""
    figure = Figure(figsize=(4.6 * len(panels), 4.6), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for name, (truth, score) in panel.curves.items():
            _draw_curve(axes, name, truth, score)
        axes.set(title=panel.title, xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.legend(loc="lower right", fontsize="small")
    _save(figure, path)


def _draw_curve(axes: Axes, name: str, truth: NDArray[np.floating], score: NDArray[np.floating]) -> None:
    known = ~np.isnan(truth)
    truth, score = truth[known], score[known]
    positive = int((truth == 1).sum())
    if not 0 < positive < len(truth):
        axes.plot([], [], " ", label=f"{name}: undefined ({positive} of {len(truth)} positive)")
        return
    false_positive, true_positive, _ = roc_curve(truth, score)
    area = np.trapezoid(true_positive, false_positive)
    axes.plot(false_positive, true_positive, label=f"{name} {area:.3f} (n = {positive}/{len(truth) - positive})")


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
    """Draw images, each beside itself with its attention map superposed, on one color scale for the whole figure."""
    height, width = panels[0].image.shape
    rows = -(-len(panels) // columns)
    largest = max(2.0, float(np.quantile(np.stack([panel.lift.max() for panel in panels]), 0.8)))
    scale = ScalarMappable(Normalize(0, largest), "inferno")
    cell = 2.2
    figure = Figure(figsize=(2 * columns * cell * width / height, rows * (cell + 0.25) + 0.5), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        _draw_panel(grid[row, 2 * column], grid[row, 2 * column + 1], panel, scale)
    bar = figure.colorbar(scale, ax=grid.ravel().tolist(), shrink=0.6, pad=0.01, extend="max")
    bar.set_label("attention (1 = plain average)")
    figure.supxlabel(f"Boxes: radiologist or generator. {RESEARCH_ONLY}.", fontsize="x-small")
    _save(figure, path)


def _draw_panel(plain: Axes, overlaid: Axes, panel: AttentionPanel, scale: ScalarMappable) -> None:
    height, width = panel.image.shape
    lift = cv2.resize(panel.lift.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    color = scale.to_rgba(np.asarray(lift))
    # Where attention is below the plain average the image shows through untouched.
    color[..., 3] = 0.65 * np.clip(np.asarray(lift) / scale.norm.vmax, 0, 1) ** 0.5 if scale.norm.vmax else 0
    for axes in (plain, overlaid):
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=255)
        for x0, y0, x1, y1 in [] if panel.boxes is None else panel.boxes:
            axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="cyan", linewidth=1))
    overlaid.imshow(color)
    plain.set_title(panel.caption, fontsize="x-small", color=GROUP_COLORS.get(panel.group, "black"), loc="left")


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
