"""What is done stays, and the same command goes on."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from safetensors.numpy import load_file

from liverattn.errors import InputError
from liverattn.prediction.images import Case, cases_of
from liverattn.prediction.job import JobOptions, PredictionJob, _shares
from liverattn.prediction.predictor import Predictor
from liverattn.prediction.results import Prediction
from liverattn.reporting.prediction import PredictionReport, ReportedImage, write_prediction_report
from tests.prediction.conftest import picture
from tests.prediction.test_predictor import write_dicom


def job(folder: Path, predictor: Predictor, images: object, **options: object) -> PredictionJob:
    cases, _ = cases_of(images)
    return PredictionJob(folder, predictor, cases, JobOptions(**options))  # type: ignore[arg-type]


def finished(folder: Path, predictor: Predictor, images: object, **options: object) -> pd.DataFrame:
    made = job(folder, predictor, images, **options)
    made.run()
    made.write_tables()
    return pd.read_parquet(folder / "predictions.parquet")


class Stopping(Predictor):
    """Interrupted after some images."""

    def __init__(self, predictor: Predictor, after: int) -> None:
        self.__dict__.update(predictor.__dict__)
        self.after = after

    def stream(self, cases: Sequence[Case]) -> Iterator[Prediction]:  # type: ignore[override]
        for number, one in enumerate(super().stream(cases)):
            if number == self.after:
                raise KeyboardInterrupt
            yield one


def test_tables_pictures_and_maps(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    table = finished(tmp_path / "out", predictor, folder, maps=True)
    csv = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["image_id"].tolist() == csv["image_id"].tolist() == [*(f"{k}.png" for k in range(6)), "more/6.png"]
    np.testing.assert_allclose(table["probability_lesion"], csv["probability_lesion"])
    direct = predictor.table(predictor.predict(folder))
    np.testing.assert_allclose(table["probability_lesion"], direct["probability_lesion"], atol=1e-6)
    assert table["decision_lesion"].tolist() == (table["probability_lesion"] >= 0.4).astype(int).tolist()
    assert json.loads(table["kept"][0]) == [12, 12, 188, 138]
    overlay = np.asarray(Image.open(tmp_path / "out" / table["overlay"][6]))
    assert overlay.shape == (150 + 26, 560, 3)
    (one,) = predictor.predict(folder / "0.png")
    raw = load_file(tmp_path / "out" / "maps" / "000000.safetensors")
    np.testing.assert_allclose(raw["attention_1"], one.maps[1].attention, atol=1e-6)
    assert tuple(raw["window_1"]) == one.maps[1].window and tuple(raw["size"]) == (200, 150)


def test_interrupted_at_any_image_it_goes_on(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole", predictor, folder)
    for after in (0, 1, 4, 6):
        out = tmp_path / f"out{after}"
        with pytest.raises(KeyboardInterrupt):
            job(out, Stopping(predictor, after), folder).run()
        again = job(out, predictor, folder)
        left = len(again.left)
        assert left <= 7
        advanced: list[int] = []
        again.run(advanced.append)
        assert sum(advanced) == left
        again.write_tables()
        pd.testing.assert_frame_equal(pd.read_parquet(out / "predictions.parquet"), whole, atol=1e-5)
        assert job(out, predictor, folder).left == []


def test_a_line_that_was_cut_off_is_done_again(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    whole = finished(tmp_path / "out", predictor, folder)
    journal = tmp_path / "out" / "rows.jsonl"
    for cut in (1, 40):
        journal.write_bytes(journal.read_bytes()[:-cut])
        assert [case.name for case in job(tmp_path / "out", predictor, folder).left] == ["more/6.png"]
        pd.testing.assert_frame_equal(finished(tmp_path / "out", predictor, folder), whole, atol=1e-5)


def test_a_changed_image_is_done_again_and_a_removed_one_is_gone(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    finished(tmp_path / "out", predictor, folder)
    Image.fromarray(picture(40, 160, 220)).save(folder / "2.png")
    (folder / "3.png").unlink()
    again = job(tmp_path / "out", predictor, folder)
    assert [case.name for case in again.left] == ["2.png"]
    table = finished(tmp_path / "out", predictor, folder)
    assert table["image_id"].tolist() == ["0.png", "1.png", "2.png", "4.png", "5.png", "more/6.png"]
    assert table["width"].tolist()[2] == 220


def test_pictures_stay_with_their_images_when_others_come_and_go(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    whole = finished(tmp_path / "out", predictor, folder)
    shown = {
        name: (tmp_path / "out" / file).read_bytes()
        for name, file in zip(whole["image_id"], whole["overlay"], strict=True)
    }
    for change in (
        lambda: Image.fromarray(picture(50)).save(folder / "00.png"),  # the first one from now on
        lambda: (folder / "1.png").rename(tmp_path / "1.png"),
        lambda: (tmp_path / "1.png").rename(folder / "1.png"),
    ):
        change()
        table = finished(tmp_path / "out", predictor, folder)
        assert table["image_id"].tolist() == sorted(table["image_id"]) and table["overlay"].is_unique
        for name, file in zip(table["image_id"], table["overlay"], strict=True):
            assert (tmp_path / "out" / file).read_bytes() == shown.setdefault(
                name, (tmp_path / "out" / file).read_bytes()
            )
        again = job(tmp_path / "out", predictor, folder)
        assert all(again.picture(row.number).name in row.values["overlay"] for row in again.rows())
        assert again.write_sheet() is not None
    assert len(set(shown.values())) == 8
    (folder / "2.png").write_text("no picture")
    (folder / "4.png").rename(folder / os.fsdecode(b"4\xe9.png"))  # which no table can hold
    before = whole["overlay"][2]
    assert finished(tmp_path / "out", predictor, folder)["overlay"].isna().tolist() == 3 * [False] + [True] + 4 * [
        False
    ]
    assert not (tmp_path / "out" / before).exists() and not (tmp_path / "out" / "pictures" / "000002.jpg").exists()


def test_what_failed_is_tried_again_and_so_is_another_frame(predictor: Predictor, tmp_path: Path) -> None:
    write_dicom(tmp_path / "loop.dcm", np.stack([picture(seed) for seed in range(3)]), frames=3)
    (tmp_path / "t.csv").write_text("image_id,path\na,loop.dcm\nb,gone.dcm\n")
    found = {}
    for frames in ("first", "middle", "all"):
        cases, _ = cases_of(tmp_path / "t.csv", frames=frames)
        made = PredictionJob(tmp_path / "out", predictor, cases, JobOptions())
        assert [case.name for case in made.left] == (["a#0", "a#1", "a#2", "b"] if frames == "all" else ["a", "b"])
        made.run()
        found[frames] = [row.values["probability_lesion"] for row in made.rows()]
        assert made.counts()["with errors"] == 1
    assert found["first"][0] == pytest.approx(found["all"][0], abs=1e-6)
    assert found["middle"][0] == pytest.approx(found["all"][1], abs=1e-6)
    assert found["all"][0] != pytest.approx(found["all"][1], abs=1e-6)


def test_boxes_are_in_pixels_of_the_file_and_drawn_in_its_ultrasound_region(
    predictor: Predictor, tmp_path: Path
) -> None:
    inside = picture(1)
    whole = np.zeros((260, 330), np.uint8)
    whole[70:220, 90:290] = inside
    write_dicom(tmp_path / "a.dcm", whole)
    header, region = dcmread(tmp_path / "a.dcm"), Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 90, 70
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 289, 219
    header.SequenceOfUltrasoundRegions = [region]
    header.save_as(tmp_path / "a.dcm")
    Image.fromarray(inside).save(tmp_path / "b.png")
    (tmp_path / "t.csv").write_text(
        'image_id,path,boxes\na,a.dcm,"[[120, 110, 190, 160]]"\nb,b.png,"[[30, 40, 100, 90]]"\n'
    )
    table = finished(tmp_path / "out", predictor, tmp_path / "t.csv", threshold=0.3)
    assert table["region"][0] == "[90, 70, 290, 220]" and pd.isna(table["region"][1])
    a, b = (np.array(json.loads(cell)) for cell in table["boxes"])
    assert len(a) and (a - b == [90, 70, 90, 70]).all()
    a, b = (np.array(json.loads(cell)) for cell in table["kept"])
    assert (a - b == [90, 70, 90, 70]).all()
    assert table["known_boxes"][0] == "[[120.0, 110.0, 190.0, 160.0]]"
    a, b = ((tmp_path / "out" / file).read_bytes() for file in table["overlay"])
    assert a == b
    content = PredictionReport(title="t", outputs=["lesion"], point="p", thresholds={}, counts={})
    made = job(tmp_path / "out", predictor, tmp_path / "t.csv", threshold=0.3)
    images = [ReportedImage(row.number, row.values) for row in made.rows()]
    write_prediction_report(content, images, tmp_path / "report.html")
    assert '"origin": [90, 70]' in (tmp_path / "report.html").read_text()


def test_errors_stay_in_the_table_and_empty_columns_have_their_types(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no picture")
    made = job(tmp_path / "out", predictor, tmp_path / "in")
    made.run()
    made.write_tables()
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["error"].tolist() == ["not an image in a known format"]
    assert table["probability_lesion"].dtype == np.float64 and table["probability_lesion"].isna().all()
    assert made.counts() == {"images": 1, "with errors": 1, "with warnings": 0}
    assert not (tmp_path / "out" / "attention").exists()


def test_parts_of_a_table_fit_together(
    predictor: Predictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0.png").write_text("no picture")
    whole = finished(tmp_path / "whole", predictor, folder)
    monkeypatch.setattr("liverattn.prediction.job.CHUNK", 1)
    pd.testing.assert_frame_equal(finished(tmp_path / "parts", predictor, folder), whole, atol=1e-5)
    assert len((tmp_path / "parts" / "predictions.csv").read_text().splitlines()) == 8


def test_another_bundle_or_option_is_refused(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    job(tmp_path / "out", predictor, folder)
    for content in ("{", "null", "[]"):
        known = tmp_path / content / "job.json"
        known.parent.mkdir()
        known.write_text(content)
        with pytest.raises(InputError, match=r"job.json is damaged \(.*\). Give another out=..., or remove"):
            job(known.parent, predictor, folder)
    with pytest.raises(InputError, match=r"holds predictions with another threshold. Give another out="):
        job(tmp_path / "out", predictor, folder, threshold=0.4)
    with pytest.raises(InputError, match="operating_point to be one of sensitivity_90, specificity_90, but got 'best'"):
        job(tmp_path / "other", predictor, folder, operating_point="best")
    with pytest.raises(InputError, match="Two images have the same name"):
        PredictionJob(tmp_path / "x", predictor, [Case("a"), Case("a")], JobOptions())


def test_boxes_on_the_sheet_are_shares_of_the_ultrasound_region() -> None:
    row = {"boxes": "[[110, 210, 150, 300]]", "known_boxes": None, "region": "[100, 200, 300, 600]"}
    row |= {"width": 200, "height": 400}
    np.testing.assert_allclose(_shares(row, "boxes"), [[0.05, 0.025, 0.25, 0.25]])
    np.testing.assert_allclose(_shares({**row, "region": None}, "boxes"), [[0.55, 0.525, 0.75, 0.75]])
    assert _shares(row, "known_boxes").shape == (0, 4)
