"""Boxes that a trained network would draw: a person's starting point, never a label by itself."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from liverattn.annotation.labels import Box, whole_boxes
from liverattn.data.images import read_grey
from liverattn.data.preprocessing import Preprocessing
from liverattn.data.targets import boxes_of_map
from liverattn.models.classifier import LesionClassifier


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
