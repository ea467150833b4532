"""Reliability and decision curves: what is drawn, and what there is too little for."""

from pathlib import Path

import cv2
import numpy as np

from liverattn.reporting.probability_figures import CalibrationPanel, DecisionPanel, calibration_figure, decision_figure

THRESHOLDS = np.linspace(0.01, 0.99, 99)


def pixels(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_one_panel_per_output(tmp_path: Path) -> None:
    bins = [np.array([0.1, 0.9]), np.array([0.0, 1.0]), np.array([0.0, 0.8]), np.array([0.2, 1.0])]
    for count in (1, 3):
        calibration_figure([CalibrationPanel(f"o{k}", *bins, 0.05) for k in range(count)], tmp_path / f"{count}.png")
        panels = [DecisionPanel("o", THRESHOLDS, {"a": THRESHOLDS * 0 + 0.2}, 0.5 - THRESHOLDS) for _ in range(count)]
        decision_figure(panels, tmp_path / f"d{count}.png")
    for name in ("", "d"):
        narrow, wide = (pixels(tmp_path / f"{name}{count}.png") for count in (1, 3))
        assert wide.shape[1] > 2.5 * narrow.shape[1] and wide.shape[0] == narrow.shape[0]
    assert not list(tmp_path.glob(".*"))


def test_a_curve_is_drawn_where_it_is_defined(tmp_path: Path) -> None:
    for name, benefit in (("without", np.full(99, np.nan)), ("with", np.full(99, 0.3))):
        decision_figure([DecisionPanel("o", THRESHOLDS, {"a": benefit}, 0.5 - THRESHOLDS)], tmp_path / f"{name}.png")
    assert (pixels(tmp_path / "with.png") != pixels(tmp_path / "without.png")).any()


def test_without_panels_the_picture_says_so(tmp_path: Path) -> None:
    for draw in (calibration_figure, decision_figure):
        draw([], tmp_path / "none.png")
        assert 0 < pixels(tmp_path / "none.png").shape[0] < 200
