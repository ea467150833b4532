"""Any image file to 8-bit gray: converted by hand here, never truncated; damaged files say what is wrong."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from liverattn.data.images import ORIENTATION, ImageError, image_size, read_grey, read_image

GRADIENT = np.linspace(0, 255, 20 * 32).round().astype(np.uint8).reshape(20, 32)
RED, GREEN, BLUE = 76, 150, 29  # luma of the pure colors


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def flat(color: Any, mode: str) -> Image.Image:
    return Image.new(mode, (32, 20), color)


def test_eight_bit_gray_is_left_alone(tmp_path: Path) -> None:
    grey = read_grey(saved(tmp_path / "x.png", Image.fromarray(GRADIENT)))
    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey, GRADIENT)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (255, 0, 0), RED),
        ("RGB", (0, 255, 0), GREEN),
        ("RGB", (0, 0, 255), BLUE),
        ("RGBA", (200, 200, 200, 255), 200),
        ("RGBA", (200, 200, 200, 51), 40),  # a fifth of it over black
        ("LA", (100, 128), 50),
        ("1", 1, 255),
        ("CMYK", (0, 0, 0, 55), 200),
        ("P", 7, 7),  # Pillow's default palette begins with grays
    ],
)
def test_modes_convert_to_these_values(tmp_path: Path, mode: str, color: Any, expected: int) -> None:
    kind = "tif" if mode == "CMYK" else "png"
    image = flat(color, mode)
    if mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    grey = read_grey(saved(tmp_path / f"x.{kind}", image))
    assert grey.shape == (20, 32)
    assert np.abs(grey.astype(int) - expected).max() <= 1
    assert (grey == grey[0, 0]).all()


def test_transparent_palette_entries_are_black(tmp_path: Path) -> None:
    image = Image.fromarray((GRADIENT > 127).astype(np.uint8)).convert("P")
    image.putpalette([200, 200, 200, 90, 90, 90])
    grey = read_grey(saved(tmp_path / "x.png", image, transparency=0))
    np.testing.assert_array_equal(grey, np.where(GRADIENT > 127, 90, 0))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_deep_gray_fills_the_smallest_depth_that_holds_it(tmp_path: Path, bits: int, kind: str) -> None:
    largest = 2**bits - 1
    deep = np.linspace(0, largest, GRADIENT.size).astype(np.uint16).reshape(GRADIENT.shape)
    grey = read_grey(saved(tmp_path / f"x.{kind}", Image.fromarray(deep)))
    np.testing.assert_array_equal(grey, np.rint(deep * (255 / largest)))
    assert (grey.min(), grey.max(), grey.dtype) == (0, 255, np.uint8)
    assert len(np.unique(grey)) == 256


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_deep_color_keeps_its_lower_bits(tmp_path: Path, kind: str) -> None:
    deep = np.linspace(0, 4095, GRADIENT.size).astype(np.uint16).reshape(GRADIENT.shape)
    cv2.imwrite(str(tmp_path / f"x.{kind}"), np.stack([deep] * 3, axis=-1))  # 12 bits of 16, as scanners export
    grey = read_grey(tmp_path / f"x.{kind}")
    np.testing.assert_array_equal(grey, np.rint(deep * (255 / 4095)))


def test_deep_color_is_weighed_and_its_transparency_is_black(tmp_path: Path) -> None:
    deep = np.zeros((20, 32, 4), np.uint16)  # blue, green, red, opacity
    deep[..., 2], deep[..., 3] = 65535, 65535
    deep[:10, :, 3] = 65535 // 2
    cv2.imwrite(str(tmp_path / "x.png"), deep)
    grey = read_grey(tmp_path / "x.png")
    assert (grey[0, 0], grey[19, 31]) == (RED // 2, RED)


def test_floating_point_and_signed_images(tmp_path: Path) -> None:
    values = np.full((20, 32), 0.25, np.float32)
    values[0, :4] = [0.5, -3, np.nan, np.inf]
    grey = read_grey(saved(tmp_path / "float.tif", Image.fromarray(values)))
    assert grey[0, :5].tolist() == [255, 0, 0, 0, 128]
    whole = np.full((20, 32), 2046, np.int32)
    whole[0, 0], whole[0, 1] = -5, 4095
    grey = read_grey(saved(tmp_path / "int.tif", Image.fromarray(whole)))
    assert grey[0, :3].tolist() == [0, 255, 127]


TURNED = Image.Exif()
TURNED[ORIENTATION] = 6


def encoded(form: str, mode: str = "L", **options: Any) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(1, 255, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(noise if mode == "RGB" else noise[..., 0]).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 30}, {"subsampling": 0}, {"progressive": True}, {"exif": TURNED}],
)
@pytest.mark.parametrize("behind", [b"", b"\0\0behind the end"])
def test_color_jpegs_are_what_pillow_decodes(tmp_path: Path, options: dict[str, Any], behind: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded("JPEG", "RGB", **options) + behind)
    with Image.open(path) as image:
        luma = np.asarray(image.convert("L"), dtype=int)
    assert np.abs(read_grey(path) - luma).max() <= (0 if behind else 1)  # OpenCV and Pillow round luma differently
    assert np.array_equal(read_grey(path), read_image(path)[0])


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "L"), ("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "RGB"), ("GIF", "L"), ("BMP", "L")]
)
def test_truncated_files_are_refused_at_any_length(tmp_path: Path, form: str, mode: str) -> None:
    whole, path = encoded(form, mode), tmp_path / "x"
    path.write_bytes(whole)
    assert read_grey(path).shape == (40, 50)
    for length in range(0, len(whole) * 9 // 10, len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError, match=r"0 bytes|known format|cannot be opened|data are damaged"):
            read_grey(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("form", "mode"), [("PNG", "L"), ("JPEG", "L"), ("JPEG", "RGB"), ("TIFF", "L")])
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path, form: str, mode: str) -> None:
    rng, whole, path = np.random.default_rng(1), encoded(form, mode), tmp_path / "x"
    outcomes: set[str] = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 300), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            outcomes.add(str(read_grey(path).ndim))
        except ImageError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"2", "refused"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "^the file does not exist$"),
        (b"", r"^the file is empty \(0 bytes\)$"),
        (b"MZ this is a program", "^not an image in a known format$"),
        (np.full((1, 1), 9, np.uint8), "^is only 1x1 pixels; at least 16x16 are needed$"),
        (np.full((400, 15), 9, np.uint8), "^is only 15x400 pixels"),
        (np.zeros((40, 50), np.uint8), "^is black all over$"),
        (np.zeros((40, 50), np.uint16), "^is black all over$"),
    ],
)
def test_messages(tmp_path: Path, content: bytes | NDArray[Any] | None, message: str) -> None:
    path = tmp_path / "x.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        Image.fromarray(content).save(path)
    with pytest.raises(ImageError, match=message):
        read_grey(path)


def test_folders_are_not_images(tmp_path: Path) -> None:
    for function in (image_size, read_grey):
        with pytest.raises(ImageError, match=r"^is a folder, not an image$"):
            function(tmp_path)


def test_size_is_width_then_height(tmp_path: Path) -> None:
    assert image_size(saved(tmp_path / "x.png", Image.fromarray(GRADIENT))) == (32, 20)


def test_sizes_that_no_image_has_are_refused_by_the_header(tmp_path: Path) -> None:
    Image.new("1", (8001, 10_000)).save(tmp_path / "bomb.png")
    for read in (image_size, read_grey):
        with pytest.raises(ImageError, match="claims 8001x10000 pixels, which cannot be an ultrasound image"):
            read(tmp_path / "bomb.png")


def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **options: Any) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    Image.new("L", (64, 64), 100).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    for read in (image_size, read_grey, read_image):
        with pytest.raises(ImageError, match="is PostScript, which is not read: save it as PNG"):
            read(tmp_path / "a.png")
