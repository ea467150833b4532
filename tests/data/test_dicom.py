"""Real ultrasound files that pydicom ships, and small ones made here."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, examples
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    generate_uid,
)

from liverattn.data.dicom import grey_frames, read_header
from liverattn.data.exclusion import exclude_option, leaving_out
from liverattn.data.images import ImageError, read_grey
from liverattn.data.manifest import Manifest
from liverattn.data.sources.dicom import DicomSource
from liverattn.errors import InputError, InputListError, UnlabeledError

EXAMPLES = ("rgb_color", "palette_color", "ybr_color")
Saver = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Saver:
    """Writes a DICOM file: ``save("a.dcm", pixels, PatientID="7", ...)``."""

    def saving(name: str, pixels: np.ndarray, **values: object) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, generate_uid(entropy_srcs=[name])
        dataset.Modality, dataset.PatientID = "US", "0815"
        dataset.PatientName, dataset.PatientBirthDate, dataset.BurnedInAnnotation = "Doe^Jane", "19700101", "NO"
        color = pixels.shape[-1] == 3
        bits = 8 * pixels.dtype.itemsize
        interpretation = values.pop("interpretation", "RGB" if color else "MONOCHROME2")
        dataset.set_pixel_data(pixels, str(interpretation), int(str(values.pop("stored", bits))))
        for key, value in values.items():
            setattr(dataset, key, value)
        path = tmp_path / "dicom" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return saving


def noise(*shape: int, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(1, high, shape).astype(dtype)


def region(x0: int, y0: int, x1: int, y1: int, kind: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = kind, 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item


def frames(path: Path, *indices: int) -> list[np.ndarray]:
    header = read_header(path)
    assert header is not None
    return list(grey_frames(header, indices or [0]))


def source(tmp_path: Path, **options: object) -> DicomSource:
    return DicomSource(root=str(tmp_path / "dicom"), folder=str(tmp_path / "out"), **options)  # type: ignore[arg-type]


def labeled(
    tmp_path: Path, *rows: str, header: str = "file,lesion,malignant,type,boxes", **options: object
) -> Manifest:
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows]))
    return source(tmp_path, labels=str(tmp_path / "labels.csv"), **options).manifest()


def test_real_color_frame() -> None:
    (grey,) = frames(examples.get_path("rgb_color"))
    expected = np.array(Image.fromarray(pixel_array(examples.get_path("rgb_color"))).convert("L"), dtype=int)
    assert grey.shape == (240, 320)
    assert np.abs(grey - expected).max() <= 1  # Pillow rounds down


def test_real_palette_frame_is_cut_to_its_region() -> None:
    (grey,) = frames(examples.get_path("palette_color"))
    assert grey.shape == (290, 680)  # of 350x800; the region begins at (120, 60) and reaches beyond the lower edge
    index = pixel_array(examples.get_path("palette_color"))[60:, 120:]
    data = examples.palette_color
    red, green, blue = (
        np.frombuffer(getattr(data, f"{color}PaletteColorLookupTableData"), "<u2")[index]
        for color in ("Red", "Green", "Blue")
    )
    np.testing.assert_allclose(grey, (0.299 * red + 0.587 * green + 0.114 * blue) * 255 / 65535, atol=0.51)


def test_real_loop_has_thirty_jpeg_frames_and_regions_of_another_size() -> None:
    header = read_header(Path(examples.get_path("ybr_color")))
    assert header is not None
    assert (header.frames, header.window, header.scaled, header.burnt_in) == (30, None, True, True)
    assert [header.chosen("first"), header.chosen("middle"), len(header.chosen("all"))] == [[0], [15], 30]
    first, last = frames(Path(examples.get_path("ybr_color")), 0, 29)
    color = pixel_array(examples.get_path("ybr_color"), index=29)
    assert np.abs(last - np.array(Image.fromarray(color).convert("L"), dtype=int)).max() <= 1
    assert first.shape == (240, 320)
    assert (first != last).any()


def test_all_three_import_and_stay_private(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    for name in EXAMPLES:
        dataset = dcmread(examples.get_path(name))
        dataset.PatientName = "Doe^Jane"
        dataset.save_as(tmp_path / "dicom" / f"{name}.dcm")
    rows = ["rgb_color.dcm,0,,,", 'palette_color.dcm,1,0,cyst,"[[450, 285, 510, 310]]"', "ybr_color.dcm,0,,,"]
    manifest = labeled(tmp_path, *rows, frames="all")
    assert len(manifest) == 32
    assert manifest.table["patient_id"].nunique() == 3
    (box,) = [boxes for boxes in manifest.table["boxes"] if len(boxes)]
    np.testing.assert_array_equal(box, [[330, 225, 390, 250]])
    assert set(manifest.notes) == {
        "3 DICOM file(s) were converted",
        "1 DICOM file(s) were cut to their ultrasound region",
        "1 DICOM file(s) have ultrasound regions of another size, and were left whole",
    }
    assert manifest.warnings[0].startswith("2 DICOM file(s) may show the patient's identity in their pixels")
    identifiers = [b"Doe", b"13US1", b"11-05-25-142825", b"rgb_color", *(examples.rgb_color.SOPInstanceUID.encode(),)]
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or not any(word in path.read_bytes() for word in identifiers)
        assert "color" not in path.name
    assert stat.S_IMODE(os.stat(tmp_path / "out" / "key").st_mode) == 0o600


def test_names_need_the_key(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(32, 40))
    first = labeled(tmp_path, "a.dcm,0,,,").table
    assert labeled(tmp_path, "a.dcm,0,,,").table["image_id"].tolist() == first["image_id"].tolist()
    (tmp_path / "out" / "key").unlink()
    other = labeled(tmp_path, "a.dcm,0,,,").table
    assert other["image_id"].tolist() != first["image_id"].tolist()
    assert other["patient_id"].tolist() != first["patient_id"].tolist()


def test_files_of_one_patient_are_grouped(save: Saver, tmp_path: Path) -> None:
    for name, patient in {"a.dcm": "1", "b": "1", "c.dcm": "2", "d.dcm": "", "e.dcm": " "}.items():
        save(name, noise(32, 40), PatientID=patient)
    manifest = labeled(tmp_path, *(f"{name},0,,," for name in ("a.dcm", "b", "c.dcm", "d.dcm", "e.dcm")))
    patients = manifest.table["patient_id"].tolist()
    assert patients[0] == patients[1]
    assert len(set(patients)) == 4
    assert "2 DICOM file(s) have no patient number: each stands for a patient" in manifest.notes


def test_depths_and_interpretations(save: Saver) -> None:
    deep = noise(32, 40, high=4096, dtype=np.uint16)
    deep[0, 0] = 4095
    (grey,) = frames(save("deep.dcm", deep, stored=12))
    np.testing.assert_array_equal(grey, np.rint(deep * (255 / 4095)))
    shallow = noise(32, 40)
    (inverted,) = frames(save("inverted.dcm", shallow, interpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted, 255 - shallow)


@pytest.mark.parametrize(
    ("regions", "window"),
    [
        ([region(4, 2, 35, 29)], (4, 2, 36, 30)),
        ([region(4, 2, 40, 32)], (4, 2, 40, 32)),  # counts one row and column too many
        ([region(0, 0, 16, 16), region(4, 2, 35, 29), region(0, 0, 39, 31, kind=3)], (4, 2, 36, 30)),
        ([region(5, 2, 90, 29)], (5, 2, 40, 30)),  # cut at one side with the image
        ([region(4, 2, 70, 60)], None),  # of another scale
        ([region(4, 2, 9, 9)], None),
        ([region(4, 2, 35, 29, kind=2)], None),
        ([], None),
    ],
)
def test_ultrasound_regions(save: Saver, regions: list[Dataset], window: tuple[int, ...] | None) -> None:
    pixels = noise(32, 40)
    path = save("a.dcm", pixels, SequenceOfUltrasoundRegions=regions)
    header = read_header(path)
    assert header is not None
    assert header.window == window
    x0, y0, x1, y1 = window or (0, 0, 40, 32)
    np.testing.assert_array_equal(frames(path)[0], pixels[y0:y1, x0:x1])


@pytest.mark.parametrize(
    ("said", "cut", "expected"), [("YES", True, True), ("NO", False, False), ("", False, True), ("", True, False)]
)
def test_burnt_in_identity(save: Saver, said: str, cut: bool, expected: bool) -> None:
    regions = [region(4, 2, 35, 29)] if cut else []
    header = read_header(save("a.dcm", noise(32, 40), BurnedInAnnotation=said, SequenceOfUltrasoundRegions=regions))
    assert header is not None
    assert header.burnt_in == expected


def test_compressed_files_decode(tmp_path: Path, save: Saver) -> None:
    dataset = dcmread(save("a.dcm", noise(32, 40)))
    plain = dataset.pixel_array.copy()
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    np.testing.assert_array_equal(frames(tmp_path / "rle.dcm")[0], plain)
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000):
        assert get_decoder(syntax).is_available, syntax.name
    assert get_decoder(JPEG2000Lossless).is_available


def test_without_labels_a_table_awaits_them(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(3, 32, 40), NumberOfFrames=3)
    with pytest.raises(UnlabeledError) as caught:
        source(tmp_path).manifest()
    assert "of 1 nobody has said whether they show a lesion" in str(caught.value)
    (table,) = (tmp_path / "out").rglob("cases.csv")
    assert f"liverattn.annotate data.manifest={table}" in str(caught.value)
    cases = pd.read_csv(table, dtype=object)
    assert cases[["lesion", "malignant", "type", "boxes", "site"]].isna().all(axis=None)
    cases.assign(lesion="1", type="cyst", site="Ward 3").to_csv(table, index=False)
    for _ in range(2):  # what a person filled in stays
        manifest = source(tmp_path).manifest()
        assert manifest.table.loc[0, ["lesion", "malignant", "type", "site"]].tolist() == [1, 0, "cyst", "Ward 3"]
    assert read_grey(manifest.root / manifest.table.at[0, "path"]).shape == (32, 40)


def test_what_a_person_filled_in_outlives_the_absence_of_its_file(save: Saver, tmp_path: Path) -> None:
    files = [save(name, noise(32, 40)) for name in ("a.dcm", "b.dcm")]
    with pytest.raises(UnlabeledError):
        source(tmp_path).manifest()
    (table,) = (tmp_path / "out").rglob("cases.csv")
    cells = pd.read_csv(table, dtype=object)
    cells.assign(lesion=["1", "0"], boxes=["[[1, 2, 9, 9]]", ""], reader=["Ann", "Bo"]).to_csv(table, index=False)
    manifest = source(tmp_path).manifest()
    assert f"{table}: column(s) not used: reader" in manifest.warnings
    names = manifest.table["image_id"].tolist()
    absent = table.with_name("absent.csv")

    files[0].rename(tmp_path / "a.dcm")
    for _ in range(2):
        left = source(tmp_path).manifest()
        assert left.table["image_id"].tolist() == names[1:] == pd.read_csv(table)["image_id"].tolist()
        assert f"1 row(s) of files that are not there now are kept in {absent}" in left.notes
    (tmp_path / "a.dcm").rename(files[0])
    back = source(tmp_path).manifest()
    assert back.table["image_id"].tolist() == names and not absent.exists()
    assert back.table["lesion"].tolist() == [1, 0] and back.table.at[0, "boxes"].tolist() == [[1, 2, 9, 9]]
    assert pd.read_csv(table)["reader"].tolist() == ["Ann", "Bo"]

    cells.drop(columns="image_id").to_csv(table, index=False)
    with pytest.raises(InputError, match="has no column image_id"):
        source(tmp_path).manifest()


def test_rows_of_one_file_are_joined(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(32, 40))
    save("b.dcm", noise(32, 40))
    rows = ['a.dcm,1,0,cyst,"[[1, 2, 9, 9]]"', "b.dcm,0,,,", ' a.dcm , 1 ,0,cyst,"[[20, 2, 30, 9]]"']
    manifest = labeled(tmp_path, *rows)
    boxes = manifest.table.set_index("lesion").at[1, "boxes"]
    assert boxes.tolist() == [[1, 2, 9, 9], [20, 2, 30, 9]]
    with pytest.raises(InputListError) as caught:
        labeled(tmp_path, "a.dcm,1,,cyst,", "b.dcm,0,,,", "b.dcm,1,,,", "a.dcm,1,,,")
    assert caught.value.problems == (
        "row(s) 2, 5 (file 'a.dcm'): rows of one file differ in type: blank, 'cyst'",
        "row(s) 3, 4 (file 'b.dcm'): rows of one file differ in lesion: '0', '1'",
    )


def test_boxes_of_a_file_are_not_those_of_all_its_frames(save: Saver, tmp_path: Path) -> None:
    save("loop.dcm", noise(3, 32, 40), NumberOfFrames=3)
    save("still.dcm", noise(32, 40))
    rows = ['loop.dcm,1,,,"[[1, 2, 9, 9]]"', 'still.dcm,1,,,"[[1, 2, 9, 9]]"']
    with pytest.raises(InputListError, match=r"each of these the same:\n  - loop.dcm: 3 frames\nTake data\.frames="):
        labeled(tmp_path, *rows, frames="all")
    assert len(labeled(tmp_path, *rows)) == 2
    rows[0] = "loop.dcm,1,,,"
    manifest = labeled(tmp_path, *rows, frames="all")
    drawn = pd.read_csv(manifest.root / "cases.csv", dtype=object)
    drawn.loc[drawn["boxes"].isna(), "boxes"] = [f"[[{k}, 2, 9, 9]]" for k in range(3)]
    drawn.to_csv(manifest.root / "cases.csv", index=False)
    boxes = labeled(tmp_path, *rows, frames="all").table["boxes"]
    assert sorted(one.tolist() for one in boxes) == [[[0, 2, 9, 9]], [[1, 2, 9, 9]], [[1, 2, 9, 9]], [[2, 2, 9, 9]]]


def test_labels_without_boxes_keep_those_that_a_person_drew(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(32, 40))
    labeled(tmp_path, "a.dcm,1", header="file,lesion")
    (table,) = (tmp_path / "out").rglob("cases.csv")
    pd.read_csv(table, dtype=object).assign(boxes="[[1, 2, 9, 9]]").to_csv(table, index=False)
    for _ in range(2):
        manifest = labeled(tmp_path, "a.dcm,1,cyst", header="file,lesion,type")
        assert manifest.table.at[0, "boxes"].tolist() == [[1, 2, 9, 9]]
    assert labeled(tmp_path, "a.dcm,1,,cyst,").table.at[0, "boxes"] is None


def test_boxes_outside_the_region_are_told_as_they_were_written(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(32, 40), SequenceOfUltrasoundRegions=[region(4, 2, 35, 29)])
    save("b.dcm", noise(32, 40))
    with pytest.raises(InputListError) as caught:
        labeled(tmp_path, 'a.dcm,1,,,"[[3, 5, 20, 20]]"', 'b.dcm,1,,,"[[0, 0, 41, 9]]"')
    assert caught.value.problems == (
        "row(s) 2 (file 'a.dcm'): box [3.0, 5.0, 20.0, 20.0] reaches outside [4, 2, 36, 30], "
        "the part of the frame that is used",
        "row(s) 3 (file 'b.dcm'): box [0.0, 0.0, 41.0, 9.0] reaches outside [0, 0, 40, 32], "
        "the part of the frame that is used",
    )


def test_columns_of_the_labels_that_are_not_used_are_mentioned(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(32, 40))
    manifest = labeled(tmp_path, "a.dcm,0,Z", header="file,lesion,patient_id")
    assert f"{tmp_path / 'labels.csv'}: column(s) not used: patient_id" in manifest.warnings


def test_damaged_files_are_all_named_and_the_others_converted(save: Saver, tmp_path: Path) -> None:
    good = save("good.dcm", noise(32, 40))
    (good.parent / "cut.dcm").write_bytes(good.read_bytes()[:-50])
    (good.parent / "text.dcm").write_text("x")
    (good.parent / "report.dcm").write_bytes(save("report.dcm", noise(32, 40), Modality="SR").read_bytes())
    save("small.dcm", noise(8, 8))
    save("frames.dcm", noise(32, 40), NumberOfFrames=10**8)
    (good.parent / "notes.txt").write_text("no DICOM")
    with leaving_out([]), pytest.raises(InputListError) as caught:
        source(tmp_path).manifest()
    assert exclude_option(["cut.dcm", "frames.dcm", "small.dcm", "text.dcm"]) in caught.value.remedy
    with leaving_out(["cut.dcm", "frames.dcm", "small.dcm", "text.dcm"]):
        table = labeled(tmp_path, "good.dcm,0,,,", "cut.dcm,1,,,").table
        assert (
            table["lesion"].tolist() == [0] and "cut.dcm" not in next((tmp_path / "out").rglob("cases.csv")).read_text()
        )
        with pytest.raises(UnlabeledError, match=r"1 image\(s\) are in .*of 1 nobody"):
            next((tmp_path / "out").rglob("cases.csv")).unlink()
            source(tmp_path).manifest()
    every = ["good.dcm", "cut.dcm", "frames.dcm", "small.dcm", "text.dcm", "report.dcm"]
    with leaving_out(every), pytest.raises(InputError, match="leaves no case"):
        source(tmp_path).manifest()
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "cut.dcm",
        "frames.dcm",
        "small.dcm",
        "text.dcm",
    ]
    assert "cannot be decoded" in caught.value.problems[0]
    assert "claims 100000000 frames" in caught.value.problems[1]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1
    (good.parent / "copy.dcm").write_bytes(good.read_bytes())
    for name in ("cut", "frames", "small", "text"):
        (good.parent / f"{name}.dcm").unlink()
    with pytest.raises(InputListError, match=r"copy\.dcm: another file has the same SOP Instance UID"):
        source(tmp_path).manifest()
    (good.parent / "copy.dcm").unlink()
    assert "1 DICOM file(s) are no ultrasound images and were passed over" in labeled(tmp_path, "good.dcm,0,,,").notes


def test_labels_that_do_not_fit(save: Saver, tmp_path: Path) -> None:
    save("a.dcm", noise(32, 40))
    with pytest.raises(InputListError, match="names files that are not among the DICOM files"):
        labeled(tmp_path, "a.dcm,0,,,", "b.dcm,0,,,")
    with pytest.raises(InputError, match="needs the columns file and lesion"):
        labeled(tmp_path, "a.dcm,0", header="name,lesion")
    with pytest.raises(InputError, match=r"row\(s\) 2 \(file 'a.dcm'\): boxes box .* is empty or inverted"):
        labeled(tmp_path, 'a.dcm,1,,,"[[5, 5, 1, 9]]"')
    with pytest.raises(InputError, match=r"data\.frames to be first, middle or all, but got last"):
        source(tmp_path, frames="last").manifest()
    with pytest.raises(InputError, match="does not exist"):
        DicomSource(root=str(tmp_path / "none"), folder=str(tmp_path)).manifest()
    (tmp_path / "dicom" / "a.dcm").unlink()
    (tmp_path / "dicom" / "a.txt").write_text("x")
    with pytest.raises(InputError, match="No DICOM file among the 1 files"):
        source(tmp_path).manifest()


def test_headers_that_cannot_be_true(save: Saver) -> None:
    path = save("a.dcm", noise(32, 40))
    dataset = dcmread(path)
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(path)
    with pytest.raises(ImageError, match="65535x65535 pixels, which cannot be an ultrasound image"):
        read_header(path)
