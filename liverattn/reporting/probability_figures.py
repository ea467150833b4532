"""Figures on how far probabilities can be trusted: reliability and decision curves. Numbers in, files out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from liverattn.reporting.figures import RESEARCH_ONLY, panel_axes, save, save_notice


@dataclass(frozen=True)
class CalibrationPanel:
    """One panel of a reliability figure.

    Attributes:
        title: Of the panel.
        predicted: (N,) mean probability of each bin.
        observed: (N,) share of positive cases in each bin.
        low: (N,) lower limits of the shares.
        high: (N,) upper limits.
        brier: Brier's score.
    """

    title: str
    predicted: NDArray[np.floating]
    observed: NDArray[np.floating]
    low: NDArray[np.floating]
    high: NDArray[np.floating]
    brier: float


def calibration_figure(panels: Sequence[CalibrationPanel], path: Path) -> None:
    """Draw reliability curves side by side: what was predicted against what came true.

    Args:
        panels: Any number; without any, the picture says so.
        path: Of the PNG.
    """
    if not panels:
        return save_notice("Too few labeled images for a calibration curve.", path)
    figure = Figure(figsize=(3.6 * len(panels), 4), layout="constrained")
    for axes, panel in panel_axes(figure, panels):
        spread = [panel.observed - panel.low, panel.high - panel.observed]
        axes.errorbar(panel.predicted, panel.observed, spread, marker="o", markersize=4, capsize=2, linewidth=1.2)
        axes.set(title=f"{panel.title}: Brier {panel.brier:.3f}", xlabel="mean probability", ylabel="share positive")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    figure.supxlabel(f"Bins of equally many images, 95 % intervals. {RESEARCH_ONLY}.", fontsize="small")
    save(figure, path)


@dataclass(frozen=True)
class DecisionPanel:
    """One panel of a decision figure.

    Attributes:
        title: Of the panel.
        thresholds: (T,) probabilities from which somebody would act.
        curves: (T,) net benefit by name.
        everybody: (T,) net benefit of acting on every case.
    """

    title: str
    thresholds: NDArray[np.floating]
    curves: Mapping[str, NDArray[np.floating]]
    everybody: NDArray[np.floating]


def decision_figure(panels: Sequence[DecisionPanel], path: Path) -> None:
    """Draw decision curves side by side: what acting on a probability is worth beside acting on all and on none.

    Args:
        panels: Any number; without any, the picture says so.
        path: Of the PNG.
    """
    if not panels:
        return save_notice("No output to draw a decision curve of.", path)
    figure = Figure(figsize=(4.6 * len(panels), 4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.plot(panel.thresholds, panel.everybody, color="0.6", linestyle="--", label="act on all")
        axes.axhline(0, color="0.6", linewidth=1, label="act on none")
        known = {name: benefit for name, benefit in panel.curves.items() if not np.isnan(benefit).all()}
        for name, benefit in known.items():
            axes.plot(panel.thresholds, benefit, linewidth=1.5, label=name)
        best = max(float(np.nanmax(values)) for values in [panel.everybody, *known.values()])
        axes.set(title=panel.title, xlabel="threshold probability", ylabel="net benefit per case")
        axes.set(xlim=(0, 1), ylim=(-0.1 * best, 1.1 * best))
        axes.legend(fontsize="small")
    figure.supxlabel(RESEARCH_ONLY + ".", fontsize="small")
    save(figure, path)
