"""What :mod:`liverattn.data.preprocessing` does to a grey image, as tensor operations that can be exported.

Shapes: B images of one size, H W image, h w network's input. Along one side: P pixels, C cells of the input, edges of a
window (B, 2) in float64, so that whole numbers are exact and quotients are those of Python.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liverattn.data.preprocessing import BLACK, BORDER_FRACTION, TARGET_INTENSITY, TOP_FRACTION, Preprocessing

TAPS = 6  # pixels per cell that are added up in OpenCV's order: as many as there are where sides shrink up to 5 times
RIM = 1e-3  # of a pixel: OpenCV leaves out less
UNIT = 2048  # it interpolates with whole weights that add up to this


class Preparation(nn.Module):
    """Crop, intensity factor and resize of :class:`~liverattn.data.preprocessing.Preprocessing`.

    Cutting the window out, padding and resizing it are one product ``down @ image @ across``: the matrices say how much
    of each pixel lies in each row and column of the result, so that no size depends on what an image shows. Levels
    differ from OpenCV's by one where a mean of pixels lies within rounding of a half.

    Args:
        steps: What is done.
    """

    def __init__(self, steps: Preprocessing) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prepare images.

        Args:
            image: (B, H, W) uint8.

        Returns:
            (B, h, w) float32 in whole grey levels; (B,) float32, 70 / m of Eq. 1; (B, 4) float64
            ``x0, y0, x1, y1``, the window of the original that is shown.
        """
        kept = border_windows(image) if self.steps.crop else _whole(image).expand(image.shape[0], 4)
        window = self._window(kept)
        shown = resized(image, window, kept, self.steps.height, self.steps.width)
        return shown, self._factor(image, kept).float(), window

    def _window(self, kept: Tensor) -> Tensor:
        """:func:`~liverattn.data.preprocessing.aspect_window` of what is kept."""
        if self.steps.aspect == "stretch":
            return kept
        aspect = _exact(self.steps.width / self.steps.height)
        width, height = kept[:, 2] - kept[:, 0], kept[:, 3] - kept[:, 1]
        too_wide = width > aspect * height
        keeps_width = too_wide if self.steps.aspect == "pad" else ~too_wide
        new_width = torch.where(keeps_width, width, torch.round(height * aspect).clamp(min=1))
        new_height = torch.where(keeps_width, torch.round(width / aspect).clamp(min=1), height)
        left = kept[:, 0] + torch.floor((width - new_width) / 2)
        return torch.stack([left, kept[:, 1], left + new_width, kept[:, 1] + new_height], dim=1)

    def _factor(self, image: Tensor, kept: Tensor) -> Tensor:
        """(B,) float64: :func:`~liverattn.data.preprocessing.intensity_factor` of what is kept."""
        if self.steps.intensity == "off":
            return kept.new_ones(kept.shape[0])
        rows, share = kept[:, 1::2], TOP_FRACTION
        if self.steps.intensity == "top":
            top = torch.ceil(_exact(TOP_FRACTION) * (rows[:, 1] - rows[:, 0])).clamp(min=1)
            rows, share = torch.stack([rows[:, 0], rows[:, 0] + top], dim=1), 1.0
        region = _inside(rows, image.shape[1])[:, :, None] & _inside(kept[:, ::2], image.shape[2])[:, None]
        return intensity_factors(torch.where(region, image, 0), share)


def border_windows(image: Tensor) -> Tensor:
    """:func:`~liverattn.data.preprocessing.border_window` of (B, H, W) uint8, without boxes: (B, 4) float64."""
    bright = image > BLACK
    columns, rows = _bright_range(bright, dim=1), _bright_range(bright, dim=2)
    found = torch.stack([columns[:, 0], rows[:, 0], columns[:, 1], rows[:, 1]], dim=1)
    is_black = (columns[:, :1] >= columns[:, 1:]) | (rows[:, :1] >= rows[:, 1:])
    return torch.where(is_black, _whole(image), found.double())


def _bright_range(bright: Tensor, dim: int) -> Tensor:
    """(B, 2): the first, and one beyond the last, of the lines whose pixels along ``dim`` are no border."""
    is_tissue = bright.float().sum(dim).double() / bright.shape[dim] > _exact(BORDER_FRACTION)
    lines = is_tissue.shape[1]
    place = torch.arange(lines, device=bright.device)
    return torch.stack([torch.where(is_tissue, place, lines).amin(1), torch.where(is_tissue, place + 1, 0).amax(1)], 1)


def intensity_factors(image: Tensor, share: float) -> Tensor:
    """70 / m of Eq. 1, where m is the median of the brightest part of the pixels that are not black.

    Args:
        image: (B, H, W) uint8.
        share: Of those pixels, the brightest; 1.0: all.

    Returns:
        (B,) float64; 1.0 where all is black.
    """
    values = image.long().flatten(1)
    counts = torch.zeros(values.shape[0], 256, dtype=torch.long, device=image.device)
    below = counts.scatter_add(1, values, torch.ones_like(values))[:, BLACK + 1 :].cumsum(1)
    total = below[:, -1:]
    used = torch.ceil(_exact(share) * total.double()).long()
    # Of an even number the median is the mean of the middle two; their places in ascending order, from 0.
    middle = total - used + torch.div(torch.cat([used - 1, used], dim=1), 2, rounding_mode="floor")
    median = (BLACK + 1 + (below[:, :, None] <= middle[:, None]).sum(1)).double().mean(1)
    return torch.where(total[:, 0] > 0, _exact(TARGET_INTENSITY) / median, 1.0)


def resized(image: Tensor, window: Tensor, kept: Tensor, height: int, width: int) -> Tensor:
    """:func:`~liverattn.data.preprocessing.resize` of windows.

    Args:
        image: (B, H, W) uint8.
        window: (B, 4) what is shown; it may reach beyond the image.
        kept: (B, 4) outside of this, zeros are taken.
        height: h.
        width: w.

    Returns:
        (B, h, w) float32 in whole grey levels.
    """
    size = window[:, 2:] - window[:, :2]
    shrinks = (size[:, :1] >= width) & (size[:, 1:] >= height)
    across = _Side(window[:, ::2], kept[:, ::2], shrinks, width)
    down = _Side(window[:, 1::2], kept[:, 1::2], shrinks, height)
    grey = image.float()
    lines = grey @ across.rest(image.shape[2]).transpose(1, 2)
    for place, weight in across.taps(image.shape[2]):
        lines = lines + grey.gather(2, place[:, None].expand(-1, image.shape[1], -1)) * weight[:, None]
    mean = down.rest(image.shape[1]) @ lines
    between = torch.zeros((), dtype=torch.float64, device=image.device)
    for number, (place, weight) in enumerate(down.taps(image.shape[1])):
        line = lines.gather(1, place[:, :, None].expand(-1, -1, width))
        mean = mean + line * weight[:, :, None]
        if number < 2:  # in whole numbers, with the last bits cut off where OpenCV cuts them off
            between = between + torch.floor(weight[:, :, None].double() * torch.floor(line / 16) / 2**16)
    is_half = ((size[:, :1] == 2 * width) & (size[:, 1:] == 2 * height))[:, :, None]
    mean = torch.where(is_half, torch.floor(mean + 0.5), torch.round(mean))  # OpenCV has a routine for halves
    return torch.where(shrinks[:, :, None], mean, torch.floor((between + 2) / 4).float())


class _Side:
    """Which pixels along one side make up each cell, in OpenCV's order and precision.

    Args:
        window: (B, 2) first and last edge, pixels.
        kept: (B, 2) nothing is taken of what lies outside.
        shrinks: (B, 1) means over the areas of cells, else linear interpolation between pixels.
        cells: C.
    """

    def __init__(self, window: Tensor, kept: Tensor, shrinks: Tensor, cells: int) -> None:
        self._first, self._kept, self._shrinks = window[:, :1, None], kept, shrinks[:, :, None]
        self._length = (window[:, 1:] - window[:, :1])[:, :, None]
        self._size = 1 / (_exact(cells) / self._length)
        self._cell = torch.arange(cells, device=window.device).double()[:, None]
        self._start = self._cell * self._size  # (B, C, 1) from the window's edge

    def taps(self, pixels: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first pixels of each cell, one after the other: (B, C) int64 within the image, and weights float32."""
        number = torch.arange(TAPS, device=self._cell.device)
        center = ((self._cell + 0.5) * self._size - 0.5).float()
        before = torch.floor(center)
        pixel = torch.floor(self._start) + number
        near = torch.minimum((before.double() + number).clamp(min=0), self._length - 1)
        place = torch.where(self._shrinks, pixel, near) + self._first
        share = center - before
        linear = F.pad(torch.round(torch.cat([1 - share, share], dim=2) * UNIT), (0, TAPS - 2))
        weight = torch.where(self._shrinks, self._covered(pixel).float(), linear)
        is_kept = (place >= self._kept[:, :1, None]) & (place < self._kept[:, 1:, None])
        places = place.clamp(min=0).long().clamp(max=pixels - 1).unbind(2)
        yield from zip(places, (weight * is_kept).unbind(2), strict=True)

    def rest(self, pixels: int) -> Tensor:
        """(B, C, P) float32: the weights of all pixels but the first ones of each cell."""
        pixel = torch.arange(pixels, device=self._cell.device) - self._first
        is_rest = (pixel >= torch.floor(self._start) + TAPS) & self._shrinks & _inside(self._kept, pixels)[:, None]
        return torch.where(is_rest, self._covered(pixel), 0).float()

    def _covered(self, pixel: Tensor) -> Tensor:
        """The share of each cell that pixels cover."""
        overlap = torch.minimum(self._start + self._size, pixel + 1) - torch.maximum(self._start, pixel)
        cell = torch.minimum(self._size, self._length - self._start)
        return torch.where(overlap > _exact(RIM), overlap, 0) / cell


def _whole(image: Tensor) -> Tensor:
    """(1, 4) float64: the window of all of (B, H, W)."""
    return torch.tensor([[0, 0, image.shape[2], image.shape[1]]], dtype=torch.float64, device=image.device)


def _inside(window: Tensor, pixels: int) -> Tensor:
    """(B, P): whether a pixel lies between the edges (B, 2) of a window."""
    pixel = torch.arange(pixels, device=window.device)
    return (pixel >= window[:, :1]) & (pixel < window[:, 1:])


def _exact(number: float) -> Tensor:
    """A number as a tensor in float64.

    ONNX export rounds those of Python to float32, and a share of exactly 2 % is a border. PyTorch multiplies a number
    by the reciprocal of the tensor that divides it, which rounds twice.
    """
    return torch.tensor(number, dtype=torch.float64)
