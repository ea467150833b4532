"""A case as training sees it, and a batch of them."""

from collections.abc import Sequence
from typing import TypedDict, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from liverattn.data.augmentation import Augmentation, Draw
from liverattn.data.cache import PreparedCases
from liverattn.data.targets import Reduction, boxes_to_mask, mask_to_grid

NO_BOXES = np.zeros((0, 4))


class Batch(TypedDict):
    """B cases; K outputs; h w grid; H W image.

    ``image`` (B, 1, H, W): uint8 from a loader, float32 on 0 to 255 after Eq. 1 on the device. ``factor`` (B,): 70 / m.
    ``labels`` (B, K) in [0, 1], 0 where unknown. ``label_weight`` (B, K): 1 known, 0 unknown, between after mixup.
    ``target`` (B, 1, h, w) in [0, 1]. ``target_weight`` (B,): 1 where boxes are known. ``row`` (B,): of the manifest.
    """

    image: Tensor
    factor: Tensor
    labels: Tensor
    label_weight: Tensor
    target: Tensor
    target_weight: Tensor
    row: Tensor


class CaseDataset(Dataset[dict[str, Tensor]]):
    """Prepared cases by (row, epoch).

    Args:
        cases: All prepared cases.
        labels: (n, K) float32, NaN where unknown.
        grid: (h, w) of the backbone's feature map.
        reduction: Of the mask to the grid.
        augmentation: None on a validation set.
        seed: Of the augmentation.
    """

    def __init__(
        self,
        cases: PreparedCases,
        labels: NDArray[np.float32],
        *,
        grid: tuple[int, int],
        reduction: Reduction = "area",
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.cases, self.grid, self.reduction, self.seed = cases, grid, reduction, seed
        self.labels, self.label_weight = np.nan_to_num(labels), (~np.isnan(labels)).astype(np.float32)
        self.augment = None if augmentation is None else augmentation.build(cases.size)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """A batch; each key is (row of the manifest, epoch)."""
        rows = np.array([row for row, _ in keys])
        # All draws before any pixels: mixed with them they take twice the time, out of cold caches.
        draws: Sequence[Draw | None] = self.draws(keys) or [None] * len(keys)
        images = np.empty((len(keys), 1, *self.cases.size), np.uint8)
        targets = np.zeros((len(keys), 1, *self.grid), np.float32)
        for place, (row, drawn) in enumerate(zip(rows, draws, strict=True)):
            images[place, 0], targets[place, 0] = self._case(row, drawn)
        arrays = {
            "image": images,
            "factor": self.cases.factors[rows],
            "labels": self.labels[rows],
            "label_weight": self.label_weight[rows],
            "target": targets,
            "target_weight": np.array([self.cases.boxes[row] is not None for row in rows], dtype=np.float32),
            "row": rows,
        }
        return cast(Batch, {name: torch.from_numpy(array) for name, array in arrays.items()})

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """One case of a batch."""
        return {name: values[0] for name, values in cast(dict[str, Tensor], self.__getitems__([key])).items()}

    def draws(self, keys: Sequence[tuple[int, int]]) -> list[Draw]:
        """What is done to each case of a batch; nothing: an empty list."""
        augment = self.augment
        return [] if augment is None else [augment.draw((self.seed, epoch, row)) for row, epoch in keys]

    def _case(self, row: int, drawn: Draw | None) -> tuple[NDArray[np.uint8], NDArray[np.float32] | float]:
        image, boxes = self.cases.image(row), self.cases.boxes[row]
        if drawn is not None:
            image = drawn.of_image(image)
        if boxes is None or len(boxes) == 0:  # as most
            return image, 0.0
        mask = boxes_to_mask(boxes, self.cases.size)
        return image, mask_to_grid(mask if drawn is None else drawn.of_mask(mask), self.grid, self.reduction)


def limit_threads(worker: int = 0) -> None:
    """Have OpenCV in this process use the thread that calls it."""
    cv2.setNumThreads(0)  # one case is too small for threads to pay, and the network needs the cores
