import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy.special import expit

import liverattn
from liverattn.bundle.bundle import Bundle
from liverattn.data.preprocessing import Preprocessing
from liverattn.errors import InputError
from liverattn.prediction.predictor import Predictor
from tests.bundle.builders import architecture, network, write_small
from tests.prediction.conftest import picture


def probabilities(predictor: Predictor, images: object) -> np.ndarray:
    return np.array([list(one.probabilities.values()) for one in predictor.predict(images)])


def test_by_hand(tmp_path: Path) -> None:
    """One architecture, two fold runs, from the networks themselves."""
    bundle = write_small(tmp_path / "b", folds=2)
    (found,) = Predictor(bundle, device="cpu").predict(picture())
    prepared = Preprocessing(height=64, width=92).apply(picture(), np.zeros((0, 4)))
    image = torch.from_numpy(prepared.image * np.float32(prepared.factor))[None, None]
    logits, scores = {}, {}
    with torch.inference_mode():
        for fold in (0, 1):
            for number in (0, 1):
                logits[fold, number], scores[fold, number] = network(architecture(), 3 * fold + number)(image)
    lesion = [expit(logits[fold, 0][0, 0].item()) for fold in (0, 1)]
    malignancy = [expit(logits[fold, 1][0, 1].item()) for fold in (0, 1)]
    assert found.probabilities["lesion"] == pytest.approx(np.mean(lesion), abs=1e-6)
    assert found.probabilities["malignancy"] == pytest.approx(np.mean(malignancy), abs=1e-6)
    assert found.spread["lesion"] == pytest.approx(np.std(lesion), abs=1e-6)
    expected = torch.stack([torch.sigmoid(scores[fold, 0][0, 0]) for fold in (0, 1)]).mean(dim=0)
    np.testing.assert_allclose(found.maps[0].attention, expected.numpy(), atol=1e-6)
    assert found.maps[0].window == prepared.window
    assert found.kept == prepared.kept == (12, 12, 188, 138)


def test_alone_in_a_batch_and_in_any_order(predictor: Predictor) -> None:
    images = [picture(seed, 120 + 7 * seed, 180 + 11 * seed) for seed in range(8)]
    together = probabilities(predictor, images)
    alone = np.concatenate([probabilities(predictor, image) for image in images])
    backwards = probabilities(predictor, images[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 1e-3  # they are different images


def write_dicom(path: Path, pixels: np.ndarray, frames: int = 1) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPInstanceUID, file.SOPClassUID = meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID
    file.Modality, file.PatientID, file.BurnedInAnnotation = "US", "DOE^JANE", "NO"
    file.Rows, file.Columns = pixels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.NumberOfFrames = 7, frames
    file.PixelData = pixels.tobytes()
    file.save_as(path, enforce_file_format=True)


def test_png_array_and_dicom_of_the_same_pixels(predictor: Predictor, tmp_path: Path) -> None:
    pixels = picture(3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_dicom(tmp_path / "a.dcm", pixels)
    Image.fromarray(np.dstack([pixels] * 3)).save(tmp_path / "color.png")
    expected = probabilities(predictor, pixels)
    for name in ("a.png", "a.dcm", "color.png"):
        np.testing.assert_allclose(probabilities(predictor, tmp_path / name), expected, atol=1e-5)
    np.testing.assert_allclose(probabilities(predictor, np.dstack([pixels] * 3)), expected, atol=1e-5)


def test_frames_of_a_loop(predictor: Predictor, tmp_path: Path) -> None:
    loop = np.stack([picture(seed) for seed in range(3)])
    write_dicom(tmp_path / "loop.dcm", loop, frames=3)
    each = probabilities(predictor, list(loop))
    found = predictor.predict(tmp_path / "loop.dcm", frames="all")
    assert [one.case.name for one in found] == ["loop.dcm#0", "loop.dcm#1", "loop.dcm#2"]
    np.testing.assert_allclose([list(one.probabilities.values()) for one in found], each, atol=1e-5)
    np.testing.assert_allclose(probabilities(predictor, tmp_path / "loop.dcm"), each[1:2], atol=1e-5)
    with pytest.raises(InputError, match="Expected frames to be first, middle or all, but got last"):
        predictor.predict(tmp_path / "loop.dcm", frames="last")  # type: ignore[arg-type]


def test_a_known_box_changes_nothing(predictor: Predictor, tmp_path: Path) -> None:
    """In training a box can hold the border crop open; an image without a box has to give the same numbers."""
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text('image_id,path,lesion,boxes\nx,a.png,1,"[[0,0,40,40]]"\n')
    (found,) = predictor.predict(tmp_path / "t.csv")
    np.testing.assert_allclose(list(found.probabilities.values()), probabilities(predictor, tmp_path / "a.png")[0])
    assert found.case.truth == {"lesion": 1.0}
    np.testing.assert_array_equal(found.case.boxes, [[0, 0, 40, 40]])


def test_a_broken_image_is_a_row(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "b.png").read_bytes()[:500])
    (tmp_path / "c.jpg").write_text("")
    found = predictor.predict(tmp_path)
    assert [one.error is None for one in found] == [False, True, False]
    assert found[2].error == "the file is empty (0 bytes)"
    table = predictor.table(found)
    assert table["probability_lesion"].notna().tolist() == [False, True, False]
    assert table["boxes"].notna().tolist() == [False, True, False]
    with pytest.raises(ValueError, match="it has no attention map"):
        found[0].attention()


def test_a_network_that_two_tasks_share_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(write_small(tmp_path / "b", shared=True), device="cpu")
    calls = []
    run = predictor._run
    monkeypatch.setattr(predictor, "_run", lambda *arguments: calls.append(1) or run(*arguments))
    predictor.predict(picture())
    assert len(calls) == 1


def test_decisions_and_spread(predictor: Predictor, tmp_path: Path) -> None:
    (found,) = predictor.predict(picture())
    lesion = found.probabilities["lesion"]
    assert found.decisions(predictor.contents, "sensitivity_90")["lesion"] == (lesion >= 0.4)
    assert found.decisions(predictor.contents, "specificity_95") == {}
    single = Predictor(write_small(tmp_path / "b"), device="cpu")
    assert single.predict(picture())[0].spread == {}


@pytest.mark.parametrize(
    ("image", "warning"),
    [
        (np.full((150, 200), 12, np.uint8), "m = 12 lies outside 20 to 150"),
        (np.full((24, 30), 90, np.uint8), "only 34x24 pixels after cropping and padding, enlarged 2.7 times"),
    ],
)
def test_warnings_of_the_preparation(predictor: Predictor, image: np.ndarray, warning: str) -> None:
    (found,) = predictor.predict(image)
    assert len(found.warnings) == 1 and warning in found.warnings[0]


def test_a_black_top_is_said(predictor: Predictor) -> None:
    dark = np.full((200, 200), 9, np.uint8)
    (found,) = predictor.predict(dark)
    assert found.median is None
    assert found.warnings == ("its top region is black: intensities were not rescaled",)


def test_memory_does_not_grow_with_the_number_of_images(predictor: Predictor) -> None:
    """At most three batches are decoded ahead of what has been taken."""
    opened = []

    class Counting:
        def __iter__(self) -> "Counting":
            return self

        def __next__(self) -> object:
            from liverattn.prediction.images import Case

            opened.append(1)
            if len(opened) > 60:
                raise StopIteration
            return Case(str(len(opened)), pixels=picture(0))

    stream = predictor.stream(Counting())  # type: ignore[arg-type]
    for _ in range(5):
        next(stream)
    assert len(opened) <= 5 + 4 * predictor.batch_size
    stream.close()


def test_load_needs_no_training_stack(bundle: Bundle, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    code = (
        "import sys\n"
        "for name in ('hydra', 'omegaconf', 'pytorch_lightning', 'mlflow', 'albumentations', 'nicegui'):\n"
        "    sys.modules[name] = None\n"
        "import liverattn\n"
        f"print(liverattn.load({str(bundle.path)!r}).predict({str(tmp_path)!r})[0].probabilities)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "lesion" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "Expected precision to be float32 or bfloat16, but got int8"),
        ({"batch_size": 0}, "Expected batch_size to be a whole number of at least 1, but got 0"),
        ({"device": "tpu"}, "Expected device to be auto, cpu or cuda, but got tpu"),
    ],
)
def test_options_that_cannot_be(bundle: Bundle, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        liverattn.load(bundle.path, **options)
