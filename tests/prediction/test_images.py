"""What `images` may name, and what each odd file gives."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pydicom import examples

from liverattn.data.images import read_image
from liverattn.errors import InputError
from liverattn.prediction.images import Case, cases_of
from liverattn.prediction.predictor import Predictor
from tests.prediction.conftest import picture


def names(images: object, **options: object) -> list[str]:
    return [case.name for case in cases_of(images, **options)[0]]  # type: ignore[arg-type]


def test_boxes_of_a_table_are_not_those_of_several_frames(tmp_path: Path) -> None:
    shutil.copy(examples.get_path("rgb_color"), tmp_path / "still.dcm")
    shutil.copy(examples.get_path("ybr_color"), tmp_path / "loop.dcm")
    rows = [f'{name},{name}.dcm,1,"[[1,2,30,40]]"' for name in ("still", "loop")]
    (tmp_path / "t.csv").write_text("\n".join(["image_id,path,lesion,boxes", *rows]))
    for frames, count in {"all": 30, "middle": 1}.items():
        cases, notes = cases_of(tmp_path / "t.csv", frames=frames)  # type: ignore[arg-type]
        assert [case.boxes is None for case in cases] == [False, *[count > 1] * count]
        assert [note.partition(":")[0] for note in notes] == ["loop"] * (count > 1)


def test_a_folder_in_natural_order_with_what_was_passed_over(folder: Path) -> None:
    for name in ("10.png", ".hidden.png"):
        (folder / name).write_bytes((folder / "1.png").read_bytes())
    (folder / "notes.txt").write_text("x")
    (folder / "LICENSE").write_text("x")
    cases, notes = cases_of(folder)
    assert [case.name for case in cases] == [*(f"{k}.png" for k in range(6)), "10.png", "more/6.png"]
    assert notes == ["2 file(s) are no images and were passed over: 1 .txt, 1 no suffix"]


def test_results_among_the_images_are_no_images(folder: Path) -> None:
    before = names(folder)
    (folder / "out" / "attention").mkdir(parents=True)
    (folder / "out" / "rows.jsonl").touch()
    (folder / "out" / "attention" / "000000.png").write_bytes((folder / "1.png").read_bytes())
    assert names(folder) == before


def test_files_sequences_and_arrays(folder: Path) -> None:
    assert names(folder / "1.png") == ["1.png"]
    assert names([folder / "1.png", picture(), str(folder / "2.png")]) == ["1.png", "array 1", "2.png"]
    (folder / "more" / "1.png").write_bytes((folder / "1.png").read_bytes())
    assert names([folder / "1.png", folder / "more" / "1.png"]) == [
        str(folder / "1.png"), str(folder / "more" / "1.png")
    ]  # fmt: skip


def test_a_table_with_and_without_labels(folder: Path) -> None:
    (folder / "t.csv").write_text("image_id,path\na,1.png\nb,gone.png\n")
    cases, _ = cases_of(folder / "t.csv")
    assert [(case.name, case.truth, case.boxes) for case in cases] == [("a", {}, None), ("b", {}, None)]
    (folder / "t.csv").write_text(
        'image_id,path,patient_id,lesion,malignant,type,boxes\na,1.png,p,1,,hcc,"[[1,2,30,40]]"\nb,2.png,q,0,,,\nc,3.png,,,,,\n'
    )
    a, b, c = cases_of(folder / "t.csv")[0]
    assert a.truth == {"lesion": 1, "malignancy": 1, "angioma": 0, "hcc": 1, "fnh": 0, "cyst": 0, "metastasis": 0}
    assert a.boxes is not None and a.boxes.tolist() == [[1, 2, 30, 40]] and a.patient == "p"
    assert b.truth["lesion"] == 0 and b.boxes is None
    assert c.truth == {} and c.patient == "c"
    assert names(folder / "t.csv", root=folder / "more") == ["a", "b", "c"]


def test_what_is_known_of_a_lesion_says_that_there_is_one(folder: Path) -> None:
    (folder / "t.csv").write_text(
        'image_id,path,malignant,boxes,age\na,1.png,0,,\nb,2.png,,"[[1,2,3,4]]",7\nc,3.png,,,\n'
    )
    (a, b, c), notes = cases_of(folder / "t.csv")
    assert (a.truth, b.truth, c.truth) == ({"lesion": 1, "malignancy": 0}, {"lesion": 1}, {})
    assert b.boxes is not None and b.boxes.tolist() == [[1, 2, 3, 4]] and c.boxes is None
    assert notes == [f"{folder / 't.csv'}: column(s) not used: age"]


def test_a_table_says_which_columns_it_lacks(folder: Path) -> None:
    (folder / "t.csv").write_text("path,type\n1.png,hcc\n")
    with pytest.raises(
        InputError, match=r"lacks the column\(s\) image_id. Found: path, type. Required: image_id, path;"
    ):
        cases_of(folder / "t.csv")


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "C:\\\\x.png"])
def test_paths_of_a_table_stay_inside(folder: Path, path: str) -> None:
    (folder / "t.csv").write_text(f"image_id,path\na,{path}\n")
    with pytest.raises(InputError, match="inside the root"):
        cases_of(folder / "t.csv")


def test_links_of_a_table_stay_inside(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "t.csv").write_text("image_id,path\na,link.png\n")
    with pytest.raises(InputError, match="leads outside the root through a link"):
        cases_of(folder / "t.csv")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "does not exist. Give an image"),
        (lambda folder: 3, "Expected images to be paths or arrays, but got int"),
        (lambda folder: torch.zeros(20, 20), "but got Tensor. Give an image as a file or as an array of NumPy"),
        (lambda folder: torch.tensor(1.0), "but got Tensor"),
        (lambda folder: [torch.zeros(3, 20, 20)], "but got Tensor"),
    ],
)
def test_what_is_no_image(folder: Path, make: Callable[[Path], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cases_of(make(folder))


def grey(pixels: np.ndarray) -> np.ndarray:
    return Case("array", pixels=pixels).read()[0]


def test_colored_arrays_of_any_type_are_one_picture() -> None:
    plain = picture().astype(np.float64) / picture().max()
    color = np.dstack([plain] * 3)
    np.testing.assert_array_equal(grey(color), np.rint(plain * 255))
    np.testing.assert_array_equal(grey(color.astype(np.float32)), grey(plain))
    np.testing.assert_array_equal(grey(np.dstack([picture()] * 3).astype(np.uint16)), picture())
    np.testing.assert_array_equal(grey(picture() > 100), np.where(picture() > 100, 255, 0))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((30, 30), np.uint8), "is black all over"),
        (np.full((30, 30, 3), np.nan), "is black all over"),
        (np.ones((15, 40)), "is only 40x15 pixels; at least 16x16 are needed"),
        (np.ones((30, 30), complex), "has values of the type complex128; expected numbers"),
        (np.full((30, 30), "a"), "has values of the type <U1; expected numbers"),
    ],
)
def test_arrays_that_a_file_could_not_be_either(predictor: Predictor, pixels: np.ndarray, message: str) -> None:
    (found,) = predictor.predict(pixels)
    assert found.error == message


def test_a_name_that_is_no_text_and_a_folder_that_may_not_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "1.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    scan = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refused)
    cases, _ = cases_of(folder)
    by_name = {case.name: case for case in cases}
    by_name["caf\\xe9.png"].read()
    assert by_name["more"].problem == "is a folder that may not be read: what it holds is missing"
    with pytest.raises(InputError, match=r"more cannot be read \(permission denied\)"):
        cases_of(folder / "more")


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="No image among the 1 files"):
        cases_of(tmp_path)


# Images that no pipeline likes, and what each gives.


def text_only(path: Path) -> None:
    image = Image.new("L", (640, 480))
    ImageDraw.Draw(image).text((200, 220), "NO SIGNAL", fill=255)
    image.save(path / "text.png")


def doppler(path: Path) -> None:
    image = np.dstack([picture()] * 3)
    image[60:110, 80:150] = (220, 30, 20)
    Image.fromarray(image).save(path / "doppler.png")


def photo(path: Path) -> None:
    y, x = np.mgrid[0:300, 0:400]
    Image.fromarray(np.dstack([x * 255 // 400, y * 255 // 300, 255 - x * 255 // 400]).astype(np.uint8)).save(
        path / "photo.jpg"
    )


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(path / "rotated.jpg", exif=exif)


def large(path: Path) -> None:
    Image.fromarray(picture().repeat(40, axis=0).repeat(40, axis=1)).save(path / "large.png", compress_level=1)


def deep(path: Path) -> None:
    Image.fromarray(picture().astype(np.uint16) * 257).save(path / "deep.png")


def animated(path: Path) -> None:
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    frames[0].save(path / "animated.gif", save_all=True, append_images=frames[1:])


def cmyk(path: Path) -> None:
    Image.fromarray(picture()).convert("CMYK").save(path / "cmyk.jpg", quality=95)


def empty_dicom(path: Path) -> None:
    (path / "empty.dcm").write_bytes(b"")


def broken_dicom(path: Path) -> None:
    (path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nothing that follows")


def vector(path: Path) -> None:
    (path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")


@pytest.mark.parametrize(
    ("make", "warnings", "error"),
    [
        (text_only, ["its top region is black"], None),
        (doppler, ["of its pixels are colored: networks see grey only"], None),
        (photo, ["of its pixels are colored"], None),
        (rotated, ["is turned by its EXIF data, which are passed over"], None),
        (large, [], None),
        (deep, [], None),
        (animated, ["holds 3 frames: the first is used"], None),
        (cmyk, [], None),
        (empty_dicom, [], "the file is empty (0 bytes)"),
        (broken_dicom, [], "is a DICOM file, but no ultrasound image"),
        (vector, [], ".svg files are not read: save it as PNG"),
    ],
)
def test_images_that_no_pipeline_likes(
    predictor: Predictor, tmp_path: Path, make: Callable[[Path], None], warnings: list[str], error: str | None
) -> None:
    make(tmp_path)
    (found,) = predictor.predict(tmp_path)
    if error is not None:
        assert found.error is not None and error in found.error
        assert not found.probabilities
        return
    assert found.error is None
    assert len(found.warnings) == len(warnings)
    assert all(part in one for part, one in zip(warnings, found.warnings, strict=True)), found.warnings
    assert all(0 <= value <= 1 for value in found.probabilities.values())
    assert found.attention((30, 40)).shape == (30, 40)


def test_deep_large_and_animated_ones_give_what_the_plain_image_gives(predictor: Predictor, tmp_path: Path) -> None:
    expected = list(predictor.predict(picture())[0].probabilities.values())
    for make, tolerance in ((deep, 1e-5), (animated, 1e-5), (cmyk, 0.02), (rotated, 0.02)):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder)
        found = predictor.predict(folder)[0].probabilities
        np.testing.assert_allclose(list(found.values()), expected, atol=tolerance, err_msg=make.__name__)


def test_marks_are_no_color(tmp_path: Path) -> None:
    image = np.dstack([picture()] * 3)
    image[5:15, 5:15] = (255, 255, 0)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[1] == ()


def test_names_tell_a_terminal_nothing(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 90).save(tmp_path / "a\x1b]0;owned\x07\n.png")
    (case,), _ = cases_of(tmp_path)
    assert case.name == r"a\x1b]0;owned\x07\x0a.png"
    assert case.read()[0].shape == (30, 40)
