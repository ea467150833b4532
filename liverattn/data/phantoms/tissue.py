"""The plane of section as maps of echogenicity, attenuation and specular reflection."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from liverattn.data.phantoms.probe import Probe

Float = NDArray[np.float32]
Region = tuple[slice, slice]

ROWS = 448
"""Rows of the maps, whatever the depth: about a third of a millimeter each."""


@dataclass
class Tissue:
    """Maps (H, W) of one plane of section in Cartesian coordinates, every pixel ``pixel`` mm wide.

    ``echo`` is the backscatter in dB relative to normal liver, ``loss`` the attenuation over both ways in dB/mm
    relative to normal liver (negative in fluids, hence the enhancement behind them), ``gleam`` the amplitude of
    specular reflection relative to normal liver.
    """

    probe: Probe
    pixel: float = field(init=False)
    x: Float = field(init=False)
    z: Float = field(init=False)
    depth: Float = field(init=False)
    lateral: Float = field(init=False)
    echo: Float = field(init=False)
    loss: Float = field(init=False)
    gleam: Float = field(init=False)

    def __post_init__(self) -> None:
        """Lay out the coordinates."""
        self.pixel = self.probe.height / (ROWS - 1)
        columns = 2 * int(self.probe.half_width / self.pixel) + 3
        across = (np.arange(columns, dtype=np.float32) - columns // 2) * np.float32(self.pixel)
        down = np.arange(ROWS, dtype=np.float32) * np.float32(self.pixel)
        self.x, self.z = np.meshgrid(across, down)
        self.depth, self.lateral = self.probe.locate(self.x, self.z)
        self.echo, self.loss, self.gleam = (np.zeros_like(self.x) for _ in range(3))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the maps."""
        return self.x.shape[0], self.x.shape[1]

    def to_pixels(self, points: Float) -> Float:
        """Map points (N, 2) of x, z in mm to columns and rows of the maps."""
        return np.asarray(points / self.pixel + np.array([self.shape[1] // 2, 0]), np.float32)

    def index(self, span: tuple[float, float, float, float]) -> tuple[int, int]:
        """Give the row and column of the middle of a span x0, z0, x1, z1 in mm."""
        row = round((span[1] + span[3]) / 2 / self.pixel)
        column = round((span[0] + span[2]) / 2 / self.pixel) + self.shape[1] // 2
        return min(row, self.shape[0] - 1), min(max(column, 0), self.shape[1] - 1)

    def stamp(self, points: Float, softness: float) -> tuple[Region, Float]:
        """Fill a polygon (N, 2) in mm: its region and a mask in [0, 1] whose edge is ``softness`` mm wide."""
        corners = self.to_pixels(points)
        blur = max(softness / self.pixel, 0.4)
        pad = int(3 * blur) + 3
        low = np.clip(np.floor(corners.min(axis=0)).astype(int) - pad, 0, None)
        high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + pad, 0, [self.shape[1], self.shape[0]])
        if (high <= low).any():
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(mask, [np.round((corners - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(mask.astype(np.float32) / np.float32(255), (0, 0), blur)
        return (slice(low[1], high[1]), slice(low[0], high[0])), np.asarray(soft, np.float32)

    def blend(self, region: Region, mask: Float, echo: Float | float, loss: float) -> None:
        """Replace the tissue under a mask."""
        self.echo[region] += mask * (echo - self.echo[region])
        self.loss[region] += mask * (loss - self.loss[region])

    def sample(self, values: Float, x: Float, z: Float) -> Float:
        """Read a map at points in mm."""
        column = x / np.float32(self.pixel) + np.float32(self.shape[1] // 2)
        row = z / np.float32(self.pixel)
        return np.asarray(cv2.remap(values, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
