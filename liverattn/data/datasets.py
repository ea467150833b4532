"""A case as training sees it, and a batch of them."""

from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from liverattn.data.augmentation import Augmentation
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


class CaseDataset(Dataset[dict[str, Any]]):
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

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """One case; ``key`` is (row of the manifest, epoch)."""
        row, epoch = key
        boxes = self.cases.boxes[row]
        image = self.cases.image(row)
        mask = boxes_to_mask(NO_BOXES if boxes is None else boxes, self.cases.size)
        if self.augment is not None:
            image, mask = self.augment(image, mask, (self.seed, epoch, row))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image))[None],
            "factor": self.cases.factors[row],
            "labels": self.labels[row],
            "label_weight": self.label_weight[row],
            "target": mask_to_grid(mask, self.grid, self.reduction)[None],
            "target_weight": np.float32(boxes is not None),
            "row": row,
        }


def limit_threads(worker: int = 0) -> None:
    """Have OpenCV in this process use the thread that calls it."""
    cv2.setNumThreads(0)  # one case is too small for threads to pay, and the network needs the cores
