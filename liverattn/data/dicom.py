"""Ultrasound DICOM files to grey frames, reading nothing of a person but what groups images by patient."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels

from liverattn.data.images import LUMA, SMALLEST, UNREADABLE, ImageError, to_8_bit
from liverattn.data.preprocessing import Window

FrameChoice = Literal["first", "middle", "all"]
LARGEST_FRAME = 100_000_000  # values: a damaged header can claim any size
MOST_FRAMES = 100_000
TISSUE = 1  # Region Spatial Format "2D" (PS3.3, C.8.5.5.1.1)
TAGS = [
    "SOPInstanceUID",
    "PatientID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsStored",
    "PhotometricInterpretation",
    "BurnedInAnnotation",
    "SequenceOfUltrasoundRegions",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
]


@dataclass(frozen=True)
class UltrasoundFile:
    """The header of one file.

    Attributes:
        path: The file.
        instance: Its unique number (SOP Instance UID).
        patient: Patient ID, as it is; None where blank. It identifies a person: to be hashed before it is written.
        frames: How many it holds.
        window: What the ultrasound regions leave of a frame, ``x0, y0, x1, y1`` in pixels; None: all.
        scaled: The regions are of another size than the frames, so that they could not be used.
        burnt_in: Whether pixels may show who it is: said so, or not denied where nothing was cut off.
    """

    path: Path
    instance: str
    patient: str | None
    frames: int
    window: Window | None
    scaled: bool
    burnt_in: bool
    header: Dataset

    def chosen(self, choice: FrameChoice) -> list[int]:
        """Frames, counted from 0."""
        return {"first": [0], "middle": [self.frames // 2], "all": list(range(self.frames))}[choice]


def read_header(path: Path) -> UltrasoundFile | None:
    """Read a file's header.

    Returns:
        None if it is no ultrasound image (another modality, a report, an index).

    Raises:
        ImageError: Damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks on values that nothing here depends on
            header = dcmread(path, specific_tags=TAGS)
            if header.get("Modality") != "US" or "Rows" not in header:
                return None
            return _described(path, header)
    except ImageError:
        raise
    except PermissionError as error:
        raise ImageError(UNREADABLE[type(error)]) from None
    except Exception as error:  # pydicom lets any kind through where a file is damaged
        raise ImageError(f"is damaged ({_short(error)})") from None


def _described(path: Path, header: Dataset) -> UltrasoundFile:
    width, height, frames = int(header.Columns), int(header.Rows), int(header.get("NumberOfFrames") or 1)
    if min(width, height) < SMALLEST or width * height * int(header.get("SamplesPerPixel") or 1) > LARGEST_FRAME:
        raise ImageError(f"has frames of {width}x{height} pixels, which cannot be an ultrasound image")
    if not 1 <= frames <= MOST_FRAMES:
        raise ImageError(f"claims {frames} frames")
    window, scaled = _region(header.get("SequenceOfUltrasoundRegions") or [], width, height)
    denied = str(header.get("BurnedInAnnotation", "")).upper()
    return UltrasoundFile(
        path=path,
        instance=str(header.SOPInstanceUID),
        patient=str(header.get("PatientID") or "").strip() or None,
        frames=frames,
        window=window,
        scaled=scaled,
        burnt_in=denied == "YES" or (denied != "NO" and window is None),
        header=header,
    )


def _region(regions: Sequence[Dataset], width: int, height: int) -> tuple[Window | None, bool]:
    """The largest two-dimensional region, and whether regions had to be left aside.

    Images are at times cut below, and scaled down, after they were made. A region that leaves the image on one side is
    cut with it; one that leaves it on two sides is of another scale, and cropping by it would cut the image itself.
    """
    flat = [region for region in regions if region.get("RegionSpatialFormat") == TISSUE]
    edges = [
        (
            int(region.RegionLocationMinX0),
            int(region.RegionLocationMinY0),
            int(region.RegionLocationMaxX1),
            int(region.RegionLocationMaxY1),
        )
        for region in flat
    ]
    if not edges:
        return None, False
    x0, y0, x1, y1 = max(edges, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    if x1 > width and y1 > height:
        return None, True
    # The last row and column belong to the region; some devices count one more.
    window = (max(x0, 0), max(y0, 0), min(x1 + 1, width), min(y1 + 1, height))
    large = window[2] - window[0] >= SMALLEST and window[3] - window[1] >= SMALLEST
    return (window, False) if large else (None, True)


def grey_frames(file: UltrasoundFile, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Decode frames, one at a time, cut to the ultrasound region.

    Color by luma (ITU-R 601), palettes looked up, MONOCHROME1 inverted, deep values as
    :func:`liverattn.data.images.to_8_bit` has it.

    Args:
        file: Its header.
        indices: Of the frames, from 0.

    Yields:
        (H, W) uint8.

    Raises:
        ImageError: Damaged, or compressed in a way that no decoder here knows.
    """
    if not indices:
        return  # to pydicom an empty list means all of them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for pixels in iter_pixels(file.path, indices=list(indices)):
                x0, y0, x1, y1 = file.window or (0, 0, pixels.shape[1], pixels.shape[0])
                yield _grey(pixels[y0:y1, x0:x1], file.header)
    except ImageError:
        raise
    except Exception as error:  # as above; decoders have errors of their own
        raise ImageError(f"cannot be decoded ({_short(error)})") from None


def _grey(pixels: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    interpretation = str(header.PhotometricInterpretation)
    if interpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
    if pixels.ndim == 3:
        pixels = np.rint(pixels[..., 2::-1] @ LUMA).astype(np.int64)
    if interpretation == "MONOCHROME1":
        pixels = 2 ** int(header.BitsStored) - 1 - pixels.astype(np.int64)
    return to_8_bit(pixels)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
