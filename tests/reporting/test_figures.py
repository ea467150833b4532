"""Figures: files, panels, legends, and the color where the attention is."""

from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib.axes
import matplotlib.figure
import numpy as np
import pytest
from matplotlib.colorbar import Colorbar
from numpy.typing import NDArray

from liverattn.reporting.figures import (
    RESEARCH_ONLY,
    AttentionPanel,
    RocFoldsPanel,
    RocPanel,
    attention_figure,
    roc_figure,
    roc_folds_figure,
)

Float = NDArray[np.float64]
SIZE = (48, 69)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """Every figure that was saved."""
    figures: list[matplotlib.figure.Figure] = []
    save: Callable[..., None] = matplotlib.figure.Figure.savefig

    def keep(figure: matplotlib.figure.Figure, *arguments: object, **options: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return figures


def panel(lift: Float | None = None, **changes: object) -> AttentionPanel:
    """A gray image with attention on cell (1, 3) of a 4 x 6 grid."""
    if lift is None:
        lift = np.full((4, 6), 0.2)
        lift[1, 3] = 24 - 23 * 0.2
    given = {"boxes": None, "caption": "TP  P(lesion) = 0.91", "group": "TP", **changes}
    return AttentionPanel(image=np.full(SIZE, 100.0), lift=lift, **given)  # type: ignore[arg-type]


def read(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) RGB."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert pixels is not None
    return np.asarray(pixels, dtype=np.uint8)


def colorfulness(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """0 for gray."""
    wide = pixels.astype(np.int64)
    return np.asarray(wide.max(axis=2) - wide.min(axis=2))


def image_axes(figure: matplotlib.figure.Figure) -> list[matplotlib.axes.Axes]:
    return [axes for axes in figure.axes if axes.images]


def halves(axes: matplotlib.axes.Axes, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The plain image and the one with attention, cut out of the file, without their edges."""
    place = axes.get_position()
    height, width = pixels.shape[:2]
    left, right = round(place.x0 * width), round(place.x1 * width)
    top, bottom = round((1 - place.y1) * height), round((1 - place.y0) * height)
    inside = pixels[top + 2 : bottom - 2, left + 2 : right - 2]
    middle = inside.shape[1] // 2
    return inside[:, : middle - 2], inside[:, middle + 2 :]


def test_attention_is_colored_where_it_is(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    attention_figure([panel()], tmp_path / "attention.png")
    pixels = read(tmp_path / "attention.png")
    (axes,) = image_axes(drawn[0])
    plain, overlaid = halves(axes, pixels)
    assert colorfulness(plain).max() == 0
    assert set(np.unique(plain)) == {100}  # intensities 0 to 255 as they are
    color = colorfulness(overlaid)
    rows, columns = np.nonzero(color > 60)
    # The center of cell (1, 3) of 4 x 6.
    assert rows.mean() / len(color) == pytest.approx(1.5 / 4, abs=0.03)
    assert columns.mean() / color.shape[1] == pytest.approx(3.5 / 6, abs=0.03)
    assert color[:, : color.shape[1] // 3].max() == 0  # below the plain average the image shows through
    assert color[len(color) * 3 // 4 :].max() == 0


def test_even_attention_leaves_the_image_gray(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    attention_figure([panel(np.ones((4, 6)))], tmp_path / "attention.png")
    for part in halves(image_axes(drawn[0])[0], read(tmp_path / "attention.png")):
        assert set(np.unique(part)) == {100}


def test_one_color_scale_for_all_and_its_legend(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    weak = np.ones((4, 6))
    weak[2, 2] = 3
    attention_figure([panel(), panel(), panel(weak)], tmp_path / "attention.png")
    pixels = read(tmp_path / "attention.png")
    bright = [colorfulness(halves(axes, pixels)[1]).max() for axes in image_axes(drawn[0])]
    assert bright[0] == bright[1] > bright[2] > 0
    (bar,) = [axes for axes in drawn[0].axes if not axes.images or axes.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == "attention / plain average"
    colorbar = bar._colorbar  # type: ignore[attr-defined]
    assert isinstance(colorbar, Colorbar)
    assert (colorbar.vmin, colorbar.vmax) == (1, pytest.approx(24 - 23 * 0.2))


def test_boxes_are_drawn_on_both_images_in_place(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    boxes = np.array([[10.0, 12, 40, 36]])
    attention_figure([panel(np.ones((4, 6)), boxes=boxes)], tmp_path / "attention.png")
    for part in halves(image_axes(drawn[0])[0], read(tmp_path / "attention.png")):
        rows, columns = np.nonzero(colorfulness(part) > 80)
        found = np.array([columns.min(), rows.min(), columns.max(), rows.max()], dtype=float)
        found *= [SIZE[1] / part.shape[1], SIZE[0] / part.shape[0]] * 2
        np.testing.assert_allclose(found, boxes[0], atol=1.2)
        inside = part[len(part) // 2, part.shape[1] // 3]
        assert inside.tolist() == [100] * 3  # an outline, not a filled box


def test_captions_take_the_color_of_their_group(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    groups = ["TP", "FN", "FP", "TN", "other"]
    attention_figure([panel(group=group, caption=group) for group in groups], tmp_path / "attention.png", columns=2)
    titles = [axes.title if axes.get_title() else axes._left_title for axes in image_axes(drawn[0])]  # type: ignore[attr-defined]
    assert [title.get_text() for title in titles] == groups
    assert [title.get_color() for title in titles] == ["tab:green", "tab:red", "tab:red", "tab:green", "black"]
    assert RESEARCH_ONLY in drawn[0].get_supxlabel()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 4, 2), (11, 4, 3)])
def test_sheets_are_as_large_as_their_panels_need(
    count: int, columns: int, rows: int, tmp_path: Path, drawn: list[matplotlib.figure.Figure]
) -> None:
    attention_figure([panel()] * count, tmp_path / "attention.png")
    height, width = read(tmp_path / "attention.png").shape[:2]
    assert len(image_axes(drawn[0])) == count
    boxes = [axes.get_position() for axes in image_axes(drawn[0])]
    places = {(round(box.x0, 3), round(box.y0, 3)) for box in boxes}
    assert len(places) == count
    assert width > height
    assert (len({x for x, _ in places}), len({y for _, y in places})) == (columns, rows)
    assert sum(box.width * box.height for box in boxes) > 0.5 * count / (rows * columns)  # the rest is captions


@pytest.mark.parametrize("draw", [attention_figure, roc_figure, roc_folds_figure])
def test_nothing_to_show_is_said_in_the_picture(
    draw: Callable[..., None], tmp_path: Path, drawn: list[matplotlib.figure.Figure]
) -> None:
    draw([], tmp_path / "empty.png")
    assert read(tmp_path / "empty.png").std() > 0
    assert [text.get_text()[:2] for text in drawn[0].texts] == ["No"]


def roc_panels() -> list[RocPanel]:
    truth = np.array([1.0, 0, 1, 0, np.nan])
    score = np.array([0.8, 0.1, 0.4, 0.4, 0.9])
    return [
        RocPanel("lesion", {"lesion": (truth, score)}),
        RocPanel("type", {"cyst": (truth, -score), "hcc": (np.array([0.0, 0, np.nan]), np.zeros(3))}),
    ]


def test_roc_curves_by_hand(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    roc_figure(roc_panels(), tmp_path / "roc.png")
    pixels = read(tmp_path / "roc.png")
    assert pixels.shape[1] > 1.6 * pixels.shape[0]  # side by side
    assert pixels.shape[0] > 400
    lesion, types = drawn[0].axes
    assert [axes.get_title() for axes in (lesion, types)] == ["lesion", "type"]
    assert (lesion.get_xlabel(), lesion.get_ylabel()) == ("1 - specificity", "sensitivity")
    diagonal, curve = lesion.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]  # type: ignore[union-attr]
    # The unknown case takes no part: .8 (+), then .4 (+ and -), then .1 (-).
    assert curve.get_xydata().tolist() == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]  # type: ignore[union-attr]


def test_legends_give_areas_and_counts_and_name_what_is_undefined(
    tmp_path: Path, drawn: list[matplotlib.figure.Figure]
) -> None:
    roc_figure(roc_panels(), tmp_path / "roc.png")
    legends = [axes.get_legend() for axes in drawn[0].axes]
    texts = [[text.get_text() for text in legend.get_texts()] for legend in legends if legend is not None]
    assert texts == [
        ["lesion 0.875 (2 / 2)"],
        ["cyst 0.125 (2 / 2)", "hcc: undefined (0 of 2 positive)"],
    ]
    assert legends[0] is not None
    assert legends[0].get_title().get_text() == "AUC (positive / negative cases)"


def test_a_figure_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="did not match"):
        roc_figure([RocPanel("lesion", {"lesion": (np.array([0.0, 1]), np.zeros(3))})], tmp_path / "roc.png")
    assert list(tmp_path.iterdir()) == []


def fold(truth: list[float], score: list[float]) -> tuple[Float, Float]:
    return np.array(truth), np.array(score)


def test_folds_and_their_mean_by_hand(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    perfect, half = fold([1, 0, 1, 0], [0.9, 0.1, 0.8, 0.2]), fold([1, 0, 1, 0, np.nan], [0.9, 0.7, 0.2, 0.1, 0.5])
    undefined = fold([0, 0, 0], [0.1, 0.2, 0.3])
    curves = {"lesion": [perfect, half, undefined], "hcc": [undefined, undefined], "cyst": [half]}
    roc_folds_figure([RocFoldsPanel("mixed", curves)], tmp_path / "figure5.png")
    assert read(tmp_path / "figure5.png").shape[0] > 400
    (axes,) = drawn[0].axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("mixed", "1 - specificity", "sensitivity")
    legend = axes.get_legend()
    assert legend is not None
    # Areas 1 and 3/4: .9 (+), .7 (-), .2 (+), .1 (-).
    assert [text.get_text() for text in legend.get_texts()] == [
        f"lesion 0.875 ({np.std([1, 0.75], ddof=1):.3f}, 2 of 3 fold runs)",
        "hcc: undefined",
        "cyst 0.750 (-)",
    ]
    _, first, second, mean, *_ = axes.lines
    assert first.get_linewidth() == second.get_linewidth() < mean.get_linewidth()
    assert first.get_color() == second.get_color() == mean.get_color() != axes.lines[-1].get_color()
    x, y = np.asarray(mean.get_xdata()), np.asarray(mean.get_ydata())
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    # Up to a false positive rate of 1/2 one fold is at 1, the other at 1/2.
    assert y[1:][x[1:] < 0.5] == pytest.approx(0.75) and y[x >= 0.5] == pytest.approx(1)
    assert (np.diff(y) >= 0).all()


def test_cases_without_a_score_take_no_part_in_a_fold(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    unscored = fold([1, 0, 1], [np.nan, np.nan, np.nan])
    roc_folds_figure([RocFoldsPanel("a", {"a": [unscored, fold([0, 1], [0.1, 0.2])]})], tmp_path / "a.png")
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a 1.000 (-, 1 of 2 fold runs)"]
