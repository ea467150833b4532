"""Prepared cases that stay on one device, and augmentation there: nothing is read, warped or copied during an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from liverattn.cuda_graphs import Replayed
from liverattn.data.augmentation import Draw
from liverattn.data.datasets import NO_BOXES, Batch, CaseDataset
from liverattn.data.targets import boxes_to_mask, reducing


class DrawnCases(Dataset[dict[str, Tensor]]):
    """What is to be done to cases of a :class:`CaseDataset`, by (row, epoch): the draws of its augmentation, no pixels.

    Args:
        cases: Whose augmentation draws, from the same streams as in :class:`CaseDataset`.
    """

    def __init__(self, cases: CaseDataset) -> None:
        self.cases = cases

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch; each key is (row of the manifest, epoch)."""
        arrays = {"row": np.array([row for row, _ in keys])}
        if draws := self.cases.draws(keys):
            arrays["geometry"] = np.stack([geometry(drawn, self.cases.cases.size[1]) for drawn in draws])
            curves = [drawn.curve for drawn in draws if drawn.curve is not None]  # of all, or of none
            arrays |= {"curve": np.stack(curves)} if curves else {}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def geometry(drawn: Draw, width: int) -> NDArray[np.float32]:
    """The ten numbers of a transform: x0, y0, width and height of the crop, and the inverse (2, 3) of all after it.

    The inverse takes a pixel of the result to the one of the resized crop that it shows.

    Args:
        drawn: The transform.
        width: Of the images, pixels.
    """
    x0, y0, x1, y1 = drawn.crop
    inverse = np.eye(3) if drawn.matrix is None else np.linalg.inv(np.vstack([drawn.matrix, (0, 0, 1)]))
    if drawn.flipped:
        inverse = inverse @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    return np.array([x0, y0, x1 - x0, y1 - y0, *inverse[:2].ravel()], dtype=np.float32)


class ResidentCases:
    """All prepared cases on one device, 2 H W bytes each, and their batches.

    Args:
        dataset: The cases; its augmentation is drawn by :class:`DrawnCases`.
        device: Where they stay.
        captured: Augment through CUDA graphs.
    """

    def __init__(self, dataset: CaseDataset, device: torch.device, *, captured: bool = False) -> None:
        cases, (rows, columns) = dataset.cases, dataset.grid
        masks = [boxes_to_mask(NO_BOXES if boxes is None else boxes, cases.size) for boxes in cases.boxes]
        known = np.array([boxes is not None for boxes in cases.boxes], dtype=np.float32)

        def placed(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.images = placed(np.stack([cases.image(row) for row in range(len(cases))]))
        self.masks = placed(np.stack(masks))
        self.of_a_case = {
            "factor": placed(cases.factors),
            "labels": placed(dataset.labels),
            "label_weight": placed(dataset.label_weight),
            "target_weight": placed(known),
        }
        height, width = cases.size
        self.down = placed(reducing(height, rows, dataset.reduction))
        self.across = placed(reducing(width, columns, dataset.reduction))
        self.touched = dataset.reduction == "any"
        self.replayed = Replayed(self._batch) if captured else None

    def batch(self, drawn: Mapping[str, Tensor]) -> Batch:
        """The batch of what :class:`DrawnCases` drew; ``image`` holds whole numbers of 0 to 255 in float32.

        Captured, it holds until the next one.
        """
        captured = self.replayed if "geometry" in drawn else None
        make = captured if captured is not None and captured.fits(drawn) else self._batch
        return cast(Batch, {**make(drawn), "row": drawn["row"]})

    def _batch(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        row = drawn["row"]
        image, mask = self.images[row], self.masks[row]
        image, mask = warped(image, mask, drawn["geometry"]) if "geometry" in drawn else (image.float(), mask.float())
        if "curve" in drawn:
            image = drawn["curve"].gather(1, image.long().flatten(1)).view(image.shape).float()
        known = {name: values[row] for name, values in self.of_a_case.items()}
        return {"image": image[:, None], "target": self._to_grid(mask)[:, None], **known}

    def _to_grid(self, masks: Tensor) -> Tensor:
        """:func:`~liverattn.data.targets.mask_to_grid` of (B, H, W) float32, as (B, h, w)."""
        fractions = (self.down @ masks @ self.across.T).clamp(max=1)
        return (fractions > 0).float() if self.touched else fractions


def warped(images: Tensor, masks: Tensor, transforms: Tensor) -> tuple[Tensor, Tensor]:
    """Crop, resize, shift, rotate and flip, in the two steps of :class:`~liverattn.data.augmentation.Augmenter`.

    Images are interpolated linearly and rounded after each step, masks take the nearest pixel; what comes into view
    from outside is 0. OpenCV works with fixed-point weights and positions, so that its pixels differ by rounding.

    Args:
        images: (B, H, W) uint8.
        masks: (B, H, W) uint8, 0 and 1.
        transforms: (B, 10), see :func:`geometry`.

    Returns:
        Both as (B, H, W) float32, whole numbers.
    """
    cases, height, width = images.shape
    device = images.device
    x0, y0, crop_width, crop_height = (number[:, None] for number in transforms[:, :4].unbind(1))
    across, down = torch.arange(width, device=device), torch.arange(height, device=device)

    def enlarged(centers: Tensor, start: Tensor, length: Tensor) -> Tensor:
        inside = ((centers + 0.5) * (length / len(centers)) - 0.5).clamp(min=0)
        return start + torch.minimum(inside, length - 1)

    x, y = enlarged(across, x0, crop_width), enlarged(down, y0, crop_height)
    cropped = _positions(x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width))
    pixels = torch.stack([across.expand(height, -1), down[:, None].expand(-1, width), torch.ones_like(images[0])])
    moved = transforms[:, 4:].view(cases, 2, 3) @ pixels.view(3, -1).float()
    x, y = moved.view(cases, 2, height, width).unbind(1)
    steps = (cropped, _positions(x, y))
    image, mask = images[:, None].float(), masks[:, None].float()
    for positions in steps:
        image = F.grid_sample(image, positions, "bilinear", align_corners=True).round()
        mask = F.grid_sample(mask, positions, "nearest", align_corners=True)
    return image[:, 0], mask[:, 0]


def _positions(x: Tensor, y: Tensor) -> Tensor:
    """(B, H, W) pixels, numbered from 0 at their centers, in the -1 to 1 of ``grid_sample``."""
    height, width = x.shape[1:]
    return torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
