"""The report: whole, offline, escaped, and looked at in a browser where there is one."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from liverattn.reporting.check import WIDEST, CheckedImage, CheckedPair, CheckReport, write_check

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def picture(caption: str = "case0", width: int = 690) -> CheckedImage:
    boxes = np.array([[100.0, 100.0, 300.0, 200.0]])
    return CheckedImage(np.full((480, width), 90.4), boxes, caption)


def full() -> CheckReport:
    return CheckReport(
        title="hospital",
        warnings=["one <b>warning</b>"],
        notes=["42 & more"],
        counts={"none": 3, "cyst": 1},
        distributions={"m": np.array([10.0, 20.0, 40.0]), "m afterwards": np.full(3, 70.0), "one": np.array([1.0])},
        shortcuts=[("lesion", 30, 40, 0.8123, 0.8345, True), ("hcc", 2, 9, float("nan"), float("nan"), False)],
        pairs=[CheckedPair(picture("first"), picture("second"), 0.876, ["labels differ", "mirrored"])],
        pair_count=7,
        images=[picture("last: cyst")],
        image_count=4,
    )


def written(report: CheckReport, folder: Path) -> str:
    write_check(report, folder / "sub" / "check.html")
    assert [path.name for path in (folder / "sub").iterdir()] == ["check.html"]
    return (folder / "sub" / "check.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """Visible words, single spaces."""
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    return " ".join(" ".join(words).split())


def test_everything_is_on_the_page_in_order(tmp_path: Path) -> None:
    said = text_of(written(full(), tmp_path))
    order = [
        "Data check: hospital",
        "Research use only.",
        "1 warning(s)",
        "one <b>warning</b>",  # as text: escaped
        "42 & more",
        "4 images (form of Table 1)",
        "none 3 75.0 cyst 1 25.0",
        "m 10 12 20 36 40",
        "lesion 30 / 40 0.81 0.83 hcc 2 / 9 not computed: too few patients",
        "Near-duplicates (7 pairs)",
        "The first 1; all of them are in duplicates.csv.",
        "similarity 0.88, labels differ , mirrored first second",
        "1 of 4, as the network gets them",
        "last: cyst",
    ]
    places = [said.index(words) for words in order]
    assert places == sorted(places)


def test_errors_come_first_and_all_of_them(tmp_path: Path) -> None:
    errors = [f"row {row}: wrong" for row in range(2, 402)]
    page = written(CheckReport(title="x", heading="400 problems.", errors=errors, remedy="Correct them."), tmp_path)
    said = text_of(page)
    assert "These data cannot be used yet. 400 problems. Correct them. Errors (400)" in said
    assert all(error in said for error in errors) and page.count("<li>") == 400
    assert "Research use only." in said and "Near-duplicates" not in said and "No errors" not in said


def test_nothing_to_say(tmp_path: Path) -> None:
    said = text_of(written(CheckReport(title="x", pairs=[]), tmp_path))
    assert "No errors, no warnings." in said and "Near-duplicates (0 pairs) None found." in said
    assert "Near-duplicates" not in text_of(written(CheckReport(title="x"), tmp_path / "unaudited"))


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = written(full(), tmp_path)
    assert not re.search(r"<script|<link|@import|url\(|javascript:|\son\w+=", page)
    assert all(source.startswith("data:image/") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")
    hostile = CheckReport(title='"><script>alert(1)</script>', images=[picture('"><img src=x onerror=alert(1)>')])
    assert "<script" not in written(hostile, tmp_path / "hostile") and "<img src=x" not in written(
        hostile, tmp_path / "h"
    )


def decoded(page: str) -> list[np.ndarray]:
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(s), np.uint8), cv2.IMREAD_COLOR) for s in sources]


def test_pictures_are_small_show_boxes_and_do_not_wrap_around(tmp_path: Path) -> None:
    bright = CheckedImage(np.full((240, 345), 400.0), None, "bright")
    large, plain = decoded(written(CheckReport(title="x", images=[picture(), bright]), tmp_path))
    assert large.shape == (240, WIDEST, 3)
    assert large[10, 10] == pytest.approx([90, 90, 90], abs=3)
    edge = large[50, 60:140].astype(int)  # the box's upper edge at half size
    assert (edge[:, 0] - edge[:, 2] > 60).mean() > 0.9 and abs(int(large[75, 100, 0]) - int(large[75, 100, 2])) < 20
    assert plain.min() > 250


def test_sixty_pairs_and_sixty_images_stay_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 345))  # the worst that JPEG can meet
    shown = CheckedImage(noise, None, "case")
    report = CheckReport(title="x", pairs=[CheckedPair(shown, shown, 0.9)] * 60, pair_count=60, images=[shown] * 60)
    assert len(written(report, tmp_path)) < 20e6


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")
def test_a_browser_shows_it(tmp_path: Path) -> None:
    written(full(), tmp_path)
    picture_path = tmp_path / "page.png"
    subprocess.run(
        [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1200",
         f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture_path}",
         (tmp_path / "sub" / "check.html").as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    page = cv2.imread(str(picture_path))
    cyan = (page[..., 0].astype(int) - page[..., 2] > 80) & (page[..., 1] > 120)
    assert cyan.sum() > 150  # the boxes
    dark = (page.max(axis=2) < 30).mean()
    assert 0.01 < dark < 0.5  # the pair's panel
