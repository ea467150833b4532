"""The page: whole, offline, escaped; its pictures, pixel by pixel; and looked at in a browser where there is one."""

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import colormaps

from liverattn.reporting.failures import (
    WIDTH,
    FailedCase,
    FailedTask,
    FailureReport,
    superpose,
    write_failures,
)
from liverattn.reporting.results import Number, ResultTable, Row
from tests.reporting.test_check import BROWSER, text_of

CYAN, ORANGE = np.array([0, 255, 255]), np.array([255, 150, 50])


def failed(**changes: object) -> FailedCase:
    lift = np.zeros((3, 4))
    lift[1, 2] = 12
    case = FailedCase(
        image=np.full((240, 345), 90.0),
        lift=lift,
        boxes=np.array([[100.0, 100.0, 200.0, 160.0]]),
        vessels=None,
        name="case <1>",
        kind="false negative",
        said="lesion, called no lesion: P(lesion) = 0.10",
        attention="attention: maximum beside the lesion",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def report(*cases: FailedCase) -> FailureReport:
    table = ResultTable(
        "t", "Table & title", ["images", "rate"], [Row(["all", Number(0.5, {"low": 0.25}, 2)])], ["a note"]
    )
    confusions = ResultTable("c", "As they are called", ["true type", "called cyst"], [Row(["cyst", 3])])
    tasks = [FailedTask("lesion", "3 of 4 are wrong.", cases), FailedTask("type", "None.", [], confusions)]
    return FailureReport("run <7>", [("protocol", "last & no other")], tasks, [table])


def written(page: FailureReport, folder: Path) -> str:
    write_failures(page, folder / "sub" / "report.html")
    assert [path.name for path in (folder / "sub").iterdir()] == ["report.html"]
    return (folder / "sub" / "report.html").read_text(encoding="utf-8")


def pictures(page: str) -> list[np.ndarray]:
    """Red, green, blue."""
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in found]
    return [np.asarray(picture)[..., ::-1].astype(int) for picture in decoded if picture is not None]


def test_everything_is_on_the_page_in_order(tmp_path: Path) -> None:
    positive = failed(kind="false positive", said="no lesion, called lesion", name=None)
    said = text_of(written(report(failed(), positive), tmp_path))
    order = [
        "Failures: run <7>",
        "Research use only.",
        "protocol last & no other",
        "attention / plain average: 1 12.0 or more",
        "annotated lesion",
        "lesion 3 of 4 are wrong.",
        "false positive: 1 shown",
        "no lesion, called lesion",
        "false negative: 1 shown",
        "case <1>: lesion, called no lesion: P(lesion) = 0.10 attention: maximum beside the lesion",
        "type None.",
        "As they are called true type called cyst cyst 3",
        "Where the network looks",
        "Table & title images rate all 0.50 (0.25) a note",
    ]
    places = [said.index(words) for words in order]
    assert places == sorted(places)


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    page = written(report(failed()), tmp_path)
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert all(link.startswith("data:image/") for link in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "default-src 'none'" in page


def test_pictures_show_image_map_and_boxes(tmp_path: Path) -> None:
    case = failed(vessels=np.array([[10.0, 10.0, 60.0, 60.0]]))
    page = written(report(case), tmp_path)
    legend, plain, map_ = pictures(page)
    assert "vessel" in text_of(page) and "vessel" not in text_of(written(report(failed()), tmp_path))
    assert legend.shape[1] > 100 and plain.shape == map_.shape == (240, WIDTH, 3)
    assert np.abs(plain[200, 20] - 90).max() < 4  # gray far from everything, on both
    assert np.abs(map_[200, 20] - 90).max() < 4
    strongest = map_[120, round(2.5 / 4 * WIDTH)]  # the center of the cell with the maximum
    expected = 0.3 * 90 + 0.7 * 255 * np.array(colormaps["plasma"](1.0)[:3])
    assert np.abs(strongest - expected).max() < 12
    assert np.abs(plain[120, round(2.5 / 4 * WIDTH)] - 90).max() < 4
    for picture in (plain, map_):
        assert np.abs(picture[100, 130] - CYAN).mean() < 80  # JPEG blurs a line of one pixel
    assert np.abs(map_[10, 30] - ORANGE).mean() < 80 and np.abs(plain[10, 30] - 90).max() < 12


def test_small_and_large_images_get_one_width(tmp_path: Path) -> None:
    small, large = failed(image=np.full((64, 92), 300.0)), failed(image=np.zeros((480, 690)), boxes=None)
    shown = pictures(written(report(small, large), tmp_path))[1:]
    assert {picture.shape[1] for picture in shown} == {WIDTH}
    assert shown[0][200, 20].min() > 250  # brighter than 255 is white


def test_plain_averaging_stays_gray() -> None:
    gray = np.full((30, 40, 3), 77, np.uint8)
    np.testing.assert_array_equal(superpose(gray, np.ones((3, 4)), 5.0), gray)
    np.testing.assert_array_equal(superpose(gray, np.zeros((3, 4)), 5.0), gray)
    full = superpose(gray, np.full((3, 4), 5.0), 5.0)
    np.testing.assert_array_equal(full, superpose(gray, np.full((3, 4), 50.0), 5.0))  # the end of the scale
    assert (full != gray).any(axis=2).all()


def test_one_scale_for_the_whole_page(tmp_path: Path) -> None:
    lifts = [np.pad([[peak]], ((0, 2), (0, 3))) for peak in (4.0, 6.0, 40.0)]
    page = written(report(*(failed(lift=lift) for lift in lifts)), tmp_path)
    assert "1 6.0 or more" in text_of(page)


def test_without_failures(tmp_path: Path) -> None:
    page = text_of(written(report(), tmp_path))
    assert "3 of 4 are wrong. type" in page and "1 2.0 or more" in page and "shown" not in page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_it(tmp_path: Path) -> None:
    written(report(*[failed()] * 3), tmp_path)
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    picture = tmp_path / "page.png"
    subprocess.run(
        [*command, "--window-size=1320,1200", f"--screenshot={picture}", (tmp_path / "sub" / "report.html").as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    shot = np.asarray(cv2.imread(str(picture)))[..., ::-1].astype(int)
    assert ((shot - CYAN) ** 2).sum(axis=2).min() < 3000  # the boxes
    dark = (shot.max(axis=2) < 30).any(axis=0)
    assert dark[:640].any() and dark[700:1280].any()  # two cases side by side
