"""Image files to one 8-bit grey channel (SPEC: converted, never truncated)."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from liverattn.errors import InputError

SMALLEST = 16  # pixels: below this neither the border crop nor the intensity region means anything
LARGEST = 80_000_000  # pixels: a header of a few bytes can claim any size
BIT_DEPTHS = (8, 10, 12, 14, 16)
ORIENTATION = 0x0112  # of EXIF
END_OF_JPEG = b"\xff\xd9"
STRIDE, COLORFUL, COLORED_SHARE = 4, 40, 0.02  # a sample of pixels; between channels, of 255; marks are smaller
LUMA = np.array([0.114, 0.587, 0.299])  # ITU-R 601: of blue, green and red


UNREADABLE: dict[type[BaseException], str] = {
    FileNotFoundError: "the file does not exist",
    IsADirectoryError: "is a folder, not an image",
    PermissionError: "the file may not be read (permission denied)",
}


class ImageError(InputError):
    """One image cannot be used; the message leaves naming it to the caller, who knows row and case."""


def file_bytes(path: Path) -> bytes:
    """What an image file holds.

    Raises:
        ImageError: Absent, a folder, or not to be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(UNREADABLE.get(type(error), f"cannot be read ({error.strerror})")) from None


def _open(file: Path | io.BytesIO) -> Image.Image:
    try:
        image = Image.open(file)
    except tuple(UNREADABLE) as error:
        raise ImageError(UNREADABLE[type(error)]) from None
    except UnidentifiedImageError:
        empty = not (file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes)
        raise ImageError("the file is empty (0 bytes)" if empty else "not an image in a known format") from None
    except Exception as error:  # Pillow lets nearly any kind through where a header is damaged
        raise ImageError(f"cannot be opened as an image ({error})") from None
    if image.format == "EPS":  # a program, whatever the file is called: Pillow has Ghostscript run it
        image.close()
        raise ImageError("is PostScript, which is not read: save it as PNG")
    return image


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone.

    Raises:
        ImageError: Absent, empty or not an image, smaller than 16x16 pixels, or of more than :data:`LARGEST`.
    """
    with _open(path) as image:
        return _checked_size(image)


def orientation(path: Path) -> int:
    """How viewers turn an image, by its EXIF tag: 1 is upright; from the header alone.

    Raises:
        ImageError: Absent, empty or not an image.
    """
    with _open(path) as image:
        try:
            found = Image.Image.getexif(image).get(ORIENTATION, 1)  # that of PNG files would decode the pixels
        except Exception:  # damaged: viewers pass it over, too
            return 1
    return found if found in range(1, 9) else 1


def _checked_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise ImageError(f"is only {width}x{height} pixels; at least {SMALLEST}x{SMALLEST} are needed")
    if width * height > LARGEST:
        raise ImageError(f"claims {width}x{height} pixels, which cannot be an ultrasound image")
    return width, height


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Decode a file to grey, without the remarks of :func:`read_image`, which take a fifth of the time."""
    return decode_grey(file_bytes(path))


def decode_grey(encoded: bytes) -> NDArray[np.uint8]:
    """:func:`read_grey` of a file's bytes."""
    return _decode(encoded, remarked=False)[0]


def read_image(path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode a file to grey, and say what about it is not like an ultrasound still.

    Color is converted by luma (ITU-R 601), transparency is laid over black. More than 8 bits are divided so that the
    smallest depth of 8, 10, 12, 14 or 16 bits that holds the largest value fills 0 to 255: Eq. 1 is invariant to this
    factor, and nothing is cut off. Floating-point images are divided so that their largest value becomes 255.

    Returns:
        (H, W) uint8, and remarks: more frames than one, a turn in the EXIF data, colors.

    Raises:
        ImageError: As :func:`image_size`, or truncated, or black all over.
    """
    return _decode(file_bytes(path), remarked=True)


def _decode(encoded: bytes, *, remarked: bool) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    with _open(io.BytesIO(encoded)) as image:
        _checked_size(image)
        try:
            is_deep = _has_deep_color(image)  # seen in the header only
            color = _whole_color_jpeg(image, encoded)
            remarks = tuple(_remarks(image, color)) if remarked else ()
            if color is not None:
                grey = np.asarray(cv2.cvtColor(color, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
            else:
                grey = to_8_bit(_deep_color(encoded)) if is_deep else _to_grey(image)
        except Exception as error:  # as above, where the pixels are
            raise ImageError(f"the image data are damaged ({error})") from None
    if grey.max() == 0:
        raise ImageError("is black all over")
    return grey, remarks


def _whole_color_jpeg(image: Image.Image, encoded: bytes) -> NDArray[np.uint8] | None:
    """Blue, green and red, the values that Pillow decodes, and a fifth faster.

    None: left to Pillow, be it another kind of image or a file that does not end as a whole one does, of which OpenCV
    would return what is there.
    """
    if image.format != "JPEG" or image.mode != "RGB" or not encoded.endswith(END_OF_JPEG):
        return None
    color = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if color is None or color.shape[1::-1] != image.size else np.asarray(color, dtype=np.uint8)


def _remarks(image: Image.Image, color: NDArray[np.uint8] | None) -> Iterator[str]:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        yield f"holds {frames} frames: the first is used"
        image.seek(0)
    if image.getexif().get(ORIENTATION, 1) != 1:
        yield "is turned by its EXIF data, which are passed over"
    if image.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
        if color is None:
            size = (image.width // STRIDE, image.height // STRIDE)
            color = np.asarray(image.resize(size, Image.Resampling.NEAREST).convert("RGB"))
        else:
            color = color[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        bands = np.moveaxis(color, 2, 0)
        spread = np.maximum.reduce(list(bands)) - np.minimum.reduce(list(bands))
        colored = float((spread > COLORFUL).mean())
        if colored > COLORED_SHARE:
            yield f"{100 * colored:.0f} % of its pixels are colored: networks see grey only"


def _to_grey(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return to_8_bit(np.asarray(image))
    if "A" in image.getbands() or "transparency" in image.info:
        color = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), color).convert("RGB")
    return np.array(image.convert("L"))


def _has_deep_color(image: Image.Image) -> bool:
    # Pillow has no mode for it and keeps the upper 8 of 16 bits, which leaves next to nothing of 12-bit content.
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile.args) for tile in tiles)


def _deep_color(encoded: bytes) -> NDArray[np.int32]:
    pixels = np.asarray(
        cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.float64
    )  # blue, green, red, opacity
    opacity = pixels[..., 3] / (2**16 - 1) if pixels.shape[2] == 4 else 1.0
    return np.asarray(np.rint(pixels[..., :3] @ LUMA * opacity), dtype=np.int32)


def to_8_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of any depth to 0 to 255, as :func:`read_grey` says; negative and undefined ones become 0."""
    is_float = np.issubdtype(values.dtype, np.floating)
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0).clip(min=0)
    depth = next((bits for bits in BIT_DEPTHS if numbers.max() < 2**bits), None)
    largest = max(numbers.max(), 1e-12) if is_float or depth is None else 2**depth - 1
    return np.asarray(np.rint(numbers * (255 / largest)), dtype=np.uint8)
