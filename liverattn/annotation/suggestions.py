"""Boxes that a trained network would draw: a person's starting point, never a label by itself."""

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from liverattn.annotation.labels import Box, whole_boxes
from liverattn.data.images import read_grey
from liverattn.data.preprocessing import Preprocessing, Window
from liverattn.models.classifier import LesionClassifier

SMALLEST_PART = 0.25  # of a grid cell's area: less is the rim of a neighbor, not a find


class Suggester:
    """Boxes from the attention logits of one network.

    Args:
        network: With its weights.
        preprocessing: That it was trained with.
        clip: Rescaled intensities were limited to 255 in training.
        threshold: Of sigmoid(s), the probability that the attention loss trains.
        seen: image_ids that the network was trained on or selected by.
    """

    def __init__(
        self,
        network: LesionClassifier,
        preprocessing: Preprocessing,
        *,
        clip: bool,
        threshold: float,
        seen: Collection[str],
    ) -> None:
        self._network = network.eval()
        self._preprocessing, self._clip, self._threshold = preprocessing, clip, threshold
        self.seen = frozenset(seen)

    @torch.inference_mode()
    def boxes(self, path: Path) -> list[Box]:
        """Suggested boxes of an image file, in its pixels; none where the network sees nothing.

        Raises:
            ImageError: The image cannot be used.
        """
        image = read_grey(path)
        prepared = self._preprocessing.apply(image, np.zeros((0, 4)))
        pixels = prepared.image * np.float32(prepared.factor)
        if self._clip:
            pixels = np.minimum(pixels, 255)
        _, scores = self._network(torch.from_numpy(pixels)[None, None])
        found = boxes_of_map(torch.sigmoid(scores)[0, 0].numpy(), self._threshold, prepared.window)
        return whole_boxes(found.tolist(), (image.shape[1], image.shape[0]))


def boxes_of_map(attention: NDArray[np.float32], threshold: float, window: Window) -> NDArray[np.float64]:
    """Bounding boxes of the connected parts of a map above a threshold.

    The map is interpolated linearly between the centers of its cells, at 16 samples per cell and direction, so that a
    box does not have to end where a cell does.

    Args:
        attention: (h, w) in [0, 1].
        threshold: What exceeds it is part of a box.
        window: The part of the original image that the map covers (:class:`~liverattn.data.preprocessing.Window`).

    Returns:
        (N, 4) ``x0, y0, x1, y1`` in pixels of the original, possibly beyond its edges; the largest first.
    """
    samples = 16
    height, width = attention.shape[0] * samples, attention.shape[1] * samples
    fine = cv2.resize(attention, (width, height), interpolation=cv2.INTER_LINEAR)
    _, _, parts, _ = cv2.connectedComponentsWithStats((fine > threshold).astype(np.uint8))
    parts = parts[1:]  # the first is what lies outside of all parts
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= SMALLEST_PART * samples**2]
    parts = parts[np.argsort(-parts[:, cv2.CC_STAT_AREA], kind="stable")]
    x0, y0, x1, y1 = window
    edges = np.column_stack([parts[:, :2], parts[:, :2] + parts[:, 2:4]]).astype(np.float64)
    scale = np.array([(x1 - x0) / width, (y1 - y0) / height] * 2)
    return np.asarray(edges * scale + (x0, y0, x0, y0), dtype=np.float64)
