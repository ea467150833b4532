"""The verb, as a user runs it, and its report in a real browser."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from liverattn import predict
from liverattn.bundle.bundle import Bundle
from liverattn.configuration import config_folder
from liverattn.data.images import read_image
from liverattn.locks import locked
from liverattn.prediction.images import Case
from liverattn.prediction.results import Prediction
from liverattn.reporting.prediction import PredictionReport, ReportedImage, write_prediction_report
from tests.browser import needs_browser, opened_page
from tests.bundle.builders import architecture, write_small
from tests.conftest import Result, shell
from tests.prediction.conftest import picture

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    parts = (architecture("a"), architecture("b", height=80, width=115))
    return write_small(tmp_path_factory.mktemp("bundles") / "small", parts=parts)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve labeled pictures, one of them broken."""
    lines = ["image_id,path,lesion,malignant,boxes"]
    for number in range(12):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
        lesion = int(number % 3 > 0)
        boxes = '"[[30,30,90,80]]"' if lesion else ""
        lines.append(f"case-{number},{number}.png,{lesion},{number % 2 if lesion else ''},{boxes}")
    Image.fromarray(picture(10)).resize((40, 30)).save(tmp_path / "10.png")
    (tmp_path / "11.png").write_bytes(b"broken")
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "cases.csv"


def test_a_table_with_labels(command: Command, bundle: Bundle, table: Path, tmp_path: Path) -> None:
    arguments = (f"bundle={bundle.path}.zip", f"images={table}", f"paths.outputs={tmp_path / 'outputs'}")
    result = command(predict.main, *arguments)
    assert result.status == 0, result.err
    assert "Research use only" in result.out and "12, 1 with errors" in result.out
    assert "Error:   case-11: not an image in a known format" in result.out
    assert re.search(r"\nWarning: case-10: .*enlarged [\d.]+ times\n", result.out)
    (folder,) = (tmp_path / "outputs" / "predictions").iterdir()
    found = pd.read_csv(folder / "predictions.csv")
    assert found["truth_lesion"].tolist() == [float(k % 3 > 0) for k in range(12)]
    for name in ("report.html", "roc.png", "calibration.png", "aucs.md", "rates.csv", "attention/000000.png"):
        assert (folder / name).exists(), name
    assert "lesion" in (folder / "aucs.md").read_text()
    again = command(predict.main, *arguments)
    assert "Done:    11 of 12 images already" in again.out  # what failed is tried again
    other = command(predict.main, *arguments, "threshold=0.4")
    assert other.status == 0
    assert len(list((tmp_path / "outputs" / "predictions").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bundle=nowhere", "The bundle nowhere does not exist"),
        ("images=nowhere", "nowhere does not exist. Give an image"),
        (
            "operating_point=best",
            "Expected operating_point to be one of sensitivity_90, specificity_90, but got 'best'",
        ),
        ("precision=int8", "Expected precision to be float32 or bfloat16, but got int8"),
        ("names=no", "Expected names to be true or false, but got no"),
        ("overlays=maybe", "Expected overlays to be true or false, but got maybe"),
        ("maps=1", "Expected maps to be true or false, but got 1"),
        ("threshold=abc", "Expected threshold to be a number between 0 and 1, but got abc"),
        ("threshold=null", "Expected threshold to be a number between 0 and 1, but got null"),
        ("threshold=50", "Expected threshold to be a number between 0 and 1, but got 50"),
        ("pictures=abc", "Expected pictures to be a whole number of at least 0, but got abc"),
        ("pictures=-1", "Expected pictures to be a whole number of at least 0, but got -1"),
        ("bundle=7", "The bundle 7 does not exist"),
        ("bundle=null", "Expected bundle to be a path, but got null"),
        ("bundle=1.5", "Expected bundle to be a path, but got 1.5. A name that looks like a number: bundle=./NAME"),
        ("root=[5]", "Expected root to be a path, but got [5]"),
        ("images=[]", "images=[] names no image"),
        ("images=2024", "2024 does not exist. Give an image"),
        ("out=cases.csv/below", "cases.csv is a file. Give another out=..."),
        ("frames=last", "Expected frames to be first, middle or all, but got last"),
    ],
)
def test_what_a_user_can_get_wrong(
    command: Command, bundle: Bundle, table: Path, tmp_path: Path, change: str, message: str
) -> None:
    arguments = (f"bundle={bundle.path}", f"images={table}", f"paths.outputs={tmp_path / 'outputs'}")
    result = command(predict.main, *arguments, change.replace("cases.csv", str(table)))
    assert result.status == 1
    assert message in result.err and "Traceback" not in result.err


def test_corrected_labels_count(command: Command, bundle: Bundle, table: Path, tmp_path: Path) -> None:
    arguments = (f"bundle={bundle.path}", f"images={table}", f"out={tmp_path / 'out'}")
    assert command(predict.main, *arguments).status == 0
    before = (tmp_path / "out" / "aucs.csv").read_text()
    text = table.read_text()
    table.write_text(
        text.replace("case-0,0.png,0,,", "case-0,0.png,1,1,").replace("[[30,30,90,80]]", "[[31,30,90,80]]", 1)
    )
    result = command(predict.main, *arguments)
    assert "Done:    10 of 12 images already" in result.out  # without the broken one and that with another box
    found = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert found["truth_lesion"][0] == found["truth_malignancy"][0] == 1
    assert found["known_boxes"][1] == "[[31.0, 30.0, 90.0, 80.0]]"
    assert (tmp_path / "out" / "aucs.csv").read_text() != before
    table.write_text("image_id,path,malignant\ncase-1,1.png,1\n")
    result = command(predict.main, *arguments)
    assert "no output has both a positive and a negative image: no AUC" in result.out
    assert not (tmp_path / "out" / "aucs.csv").exists() and not (tmp_path / "out" / "roc.png").exists()


def test_two_processes_do_not_write_one_folder(command: Command, bundle: Bundle, table: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    arguments = (f"bundle={bundle.path}", f"images={table}", f"out={tmp_path / 'out'}")
    with locked(tmp_path / "out" / ".lock"):
        result = command(predict.main, *arguments)
    assert result.status == 1 and f"Another process works on {tmp_path / 'out'}" in result.err
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    assert command(predict.main, *arguments).status == 0


def test_a_folder_that_may_not_be_written_to(
    command: Command, bundle: Bundle, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liverattn.files.os.access", lambda path, mode: False)
    result = command(predict.main, f"bundle={bundle.path}", f"images={table}", f"out={table.parent / 'out'}")
    assert result.status == 1 and "out cannot be used: it may not be written to. Give another out=" in result.err


def test_nothing_is_written_into_the_bundle(
    command: Command, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_small(tmp_path / "b").path
    before = sorted(path.rglob("*"))
    monkeypatch.chdir(path)
    for out in (path, path / "more" / "out", "."):
        result = command(predict.main, f"bundle={path}", f"images={table}", f"out={out}")
        assert result.status == 1 and f"out={out} lies in the bundle {path}" in result.err
    assert sorted(path.rglob("*")) == before


def test_names_of_digits_alone(
    command: Command, bundle: Bundle, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "2024").mkdir()
    (tmp_path / "0.png").rename(tmp_path / "2024" / "0.png")
    (tmp_path / "7").symlink_to(bundle.path)
    monkeypatch.chdir(tmp_path)
    result = command(predict.main, "bundle=7", "images=[2024]", "out=5")
    assert result.status == 0, result.err
    assert (tmp_path / "5" / "predictions.csv").exists()


def test_an_altered_bundle_is_refused(command: Command, table: Path, tmp_path: Path) -> None:
    target = write_small(tmp_path / "b").path
    content = bytearray((target / "bundle.json").read_bytes())
    content[100] ^= 1
    (target / "bundle.json").write_bytes(content)
    result = command(predict.main, f"bundle={target}", f"images={table}", f"paths.outputs={tmp_path / 'outputs'}")
    assert result.status == 1 and "bundle.json was changed" in result.err


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_it_does(bundle: Bundle, tmp_path: Path) -> None:
    for number in range(200):
        Image.fromarray(picture(number, 300, 400)).save(tmp_path / f"{number}.png", compress_level=1)
    arguments = (f"bundle={bundle.path}", f"images={tmp_path}", f"out={tmp_path / 'out'}", "batch_size=2")
    process = shell("liverattn.predict", *arguments)
    journal, deadline = tmp_path / "out" / "rows.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size > 1000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "The same command goes on from here" in errors, errors
    done = len(journal.read_bytes().splitlines())
    assert 0 < done < 200
    process = shell("liverattn.predict", *arguments)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "of 200 images already" in output
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 200


def test_the_shipped_configuration_composes() -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("predict", ["bundle=b", "images=i"])
        other = compose("predict", ["bundle=b", "images=i", "threshold=0.4"])
    assert (cfg.operating_point, cfg.threshold, cfg.precision, cfg.frames) == (
        "sensitivity_90",
        0.5,
        "float32",
        "middle",
    )
    assert cfg.out.startswith("outputs/predictions/") and cfg.out != other.out


def reported(number: int, folder: Path) -> ReportedImage:
    """Rows with everything that could break a page."""
    values = {
        "image_id": f"case-{number}" if number % 7 else f"</script><b>{number}</b>&\"'",
        "error": "is damaged" if number % 50 == 49 else None,
        "warnings": "m = 12 lies outside" if number % 10 == 3 else None,
        "boxes": "[[10, 20, 60, 70]]",
        "known_boxes": None,
        "width": 200,
        "height": 150,
        "kept": "[12, 12, 188, 138]",
        "region": None if number else "[0, 0, 200, 150]",
        "median": 61.0,
        "overlay": None,
    }
    for k, output in enumerate(("lesion", "malignancy")):
        probability = ((number * (k + 37)) % 1000) / 1000
        values |= {f"probability_{output}": probability, f"spread_{output}": 0.02, f"truth_{output}": number % 2}
        values |= {f"decision_{output}": int(probability > 0.5)}
    return ReportedImage(number, values, folder / "one")


@needs_browser
@pytest.mark.slow
def test_the_report_in_a_browser_with_a_thousand_images(tmp_path: Path) -> None:
    from liverattn.reporting.overlay import Overlay, write_thumbnail

    attention = np.zeros((150, 200), np.float32)
    attention[20:70, 10:60] = 1
    write_thumbnail(Overlay(picture(0), attention, None, np.zeros((0, 4))), tmp_path / "one", 360)
    content = PredictionReport(
        title="<i>small</i>", outputs=("lesion", "malignancy"), point="sensitivity_90",
        thresholds={"lesion": 0.4}, counts={"images": 1000},
    )  # fmt: skip
    page_file = tmp_path / "report.html"
    write_prediction_report(content, (reported(number, tmp_path) for number in range(1000)), page_file)
    with opened_page(page_file) as (page, problems):
        assert page.locator("h1").inner_text() == "Predictions: <i>small</i>"
        assert page.locator("#table tbody tr").count() == 50
        first = page.locator("#table tbody tr td:nth-child(3)").first
        assert first.inner_text() == "</script><b>0</b>&\"'"
        page.locator("#table th", has_text="malignancy").click()
        column = "#table tbody tr td:nth-child(5) span"
        values = [float(text.split()[0]) for text in page.locator(column).all_inner_texts()]
        assert values == sorted(values, reverse=True) and values[0] > 0.95
        page.locator("#table th", has_text="malignancy").click()
        values = [float(text.split()[0]) for text in page.locator(column).all_inner_texts()]
        assert values == sorted(values) and values[0] < 0.05
        page.locator("#search").fill("case-99")
        assert page.locator("#page").inner_text() == "1 to 10 of 10"
        page.locator("#show").select_option("errors")
        assert page.locator("#page").inner_text() == "1 to 2 of 2"
        page.locator("#search").fill("")
        page.locator("#show").select_option("all")
        page.locator("#next").click()
        assert page.locator("#page").inner_text() == "51 to 100 of 1000"
        page.locator("#table tbody tr").first.click()
        picture_box, box = page.locator("#large .picture").bounding_box(), page.locator("#large b").bounding_box()
        assert picture_box is not None and box is not None
        scale = picture_box["width"] / 200
        assert abs(box["x"] - picture_box["x"] - 10 * scale) < 2 and abs(box["height"] - 50 * scale) < 2
        assert page.locator("#large .map").evaluate("image => image.naturalWidth") == 96
        name = page.locator("#facts dd").first.inner_text()
        page.keyboard.press("ArrowRight")
        assert page.locator("#facts dd").first.inner_text() != name
        page.keyboard.press("Escape")
        page.locator("#opacity").fill("30")
        opacity = page.locator("#table .map").first.evaluate("image => getComputedStyle(image).opacity")
        assert float(opacity) == pytest.approx(0.3)
        page.locator("#boxes").uncheck()
        assert page.locator("#table b").count() == 0
        assert problems == []


def test_names_can_be_left_out(tmp_path: Path) -> None:
    content = PredictionReport(
        title="t", outputs=("lesion", "malignancy"), point="p", thresholds={}, counts={}, show_names=False
    )
    write_prediction_report(content, [reported(3, tmp_path)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "case-3" not in text and "image 3" in text


def test_the_public_api_is_lazy_and_documented() -> None:
    import liverattn

    assert liverattn.load.__doc__ is not None
    assert read_image.__doc__ is not None
    assert {"probabilities", "spread", "maps", "warnings", "error"} <= set(Prediction.__dataclass_fields__)
    assert Case("a").truth == {}
