"""Cases on one device: the same batches as from a loader, up to the rounding of OpenCV's fixed-point arithmetic."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from liverattn.data.augmentation import Augmentation
from liverattn.data.datamodule import LesionDataModule
from liverattn.data.datasets import CaseDataset
from liverattn.data.images import read_grey
from liverattn.data.resident import DrawnCases, ResidentCases, geometry, warped
from liverattn.data.targets import REDUCTIONS, Reduction
from tests.conftest import Result
from tests.data.conftest import Prepared
from tests.trained import trained_weights

GRID = (4, 6)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
STRONG = Augmentation(crop=0.4, aspect=0.3, translate=0.3, rotate=90, gamma=0.5, gain=0.2)


@pytest.fixture
def prepared(prepare: Callable[..., Prepared]) -> Prepared:
    return prepare(12, height=64, width=92)


def module(prepared: Prepared, *, resident: bool, **options: Any) -> LesionDataModule:
    shared: dict[str, Any] = {"grid": GRID, "seed": 3, **options}
    augmentation = shared.pop("augmentation", Augmentation())
    return LesionDataModule(
        train=CaseDataset(*prepared, augmentation=augmentation, **shared),
        validation=CaseDataset(*prepared, **shared),
        train_rows=np.arange(8),
        validation_rows=np.arange(8, 12),
        batch_size=4,
        num_workers=0,
        clip=True,
        seed=3,
        resident=resident,
    )


def batches(data: LesionDataModule, part: str) -> list[dict[str, Tensor]]:
    loader = data.train_dataloader() if part == "train" else data.val_dataloader()
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("augmentation", [Augmentation(), STRONG], ids=["usual", "strong"])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_batch_is_that_of_a_loader(
    part: str, augmentation: Augmentation, reduction: Reduction, prepared: Prepared
) -> None:
    options = {"augmentation": augmentation, "reduction": reduction}
    loaded, resident = (batches(module(prepared, resident=kept, **options), part) for kept in (False, True))
    assert len(loaded) == len(resident) == (2 if part == "train" else 1)
    for expected, batch in zip(loaded, resident, strict=True):
        assert batch.keys() == expected.keys()
        for name in ("row", "factor", "labels", "label_weight", "target_weight"):
            torch.testing.assert_close(batch[name], expected[name], rtol=0, atol=0)
        assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
            name: (value.shape, value.dtype) for name, value in expected.items()
        }
        # What is next to an edge of a cell may touch it or not; else a pixel's share of a cell.
        moved = (batch["target"] - expected["target"]).abs()
        assert (moved > 0.02).float().mean() <= (0 if part == "validation" else 0.02)
        steps = (batch["image"] - expected["image"]).abs() / expected["factor"].view(-1, 1, 1, 1)
        assert steps.mean() < (1e-5 if part == "validation" else 0.3)


def test_real_images_are_augmented_as_albumentations_does() -> None:
    if "LIVERATTN_AUL" not in os.environ:
        pytest.skip("LIVERATTN_AUL does not name the real images")
    paths = sorted(Path(os.environ["LIVERATTN_AUL"]).glob("*/image/*.jpg"))[::20]
    size = (240, 345)
    augment = Augmentation().build(size)
    images = [cv2.resize(read_grey(path), size[::-1], interpolation=cv2.INTER_AREA) for path in paths]
    masks = np.zeros((len(images), *size), np.uint8)
    masks[:, 60:150, 100:230] = 1
    seeds = [(0, 1, case) for case in range(len(images))]
    expected = [augment(image, mask, seed) for image, mask, seed in zip(images, masks, seeds, strict=True)]
    drawn = np.stack([geometry(augment.draw(seed), size[1]) for seed in seeds])
    moved, marked = warped(torch.from_numpy(np.stack(images)), torch.from_numpy(masks), torch.from_numpy(drawn))
    levels = np.abs(moved.numpy() - [image for image, _ in expected])
    assert levels.mean() < 0.15
    assert np.quantile(levels, 0.999) <= 1
    assert levels.max() <= 6
    still = np.abs(np.stack(images).astype(float) - [image for image, _ in expected]).mean()
    assert still > 50 * levels.mean()  # the transforms are not small
    assert (marked.numpy() != [mask for _, mask in expected]).mean() < 1e-4


def test_draws_depend_on_seed_epoch_and_case_only(prepared: Prepared) -> None:
    dataset = CaseDataset(*prepared, grid=GRID, augmentation=STRONG, seed=3)
    together = DrawnCases(dataset).__getitems__([(6, 2), (5, 3), (5, 2)])
    alone = DrawnCases(dataset).__getitems__([(5, 2)])
    for name in ("geometry", "curve"):
        assert torch.equal(together[name][2], alone[name][0])
        assert not torch.equal(together[name][1], alone[name][0])
        assert not torch.equal(together[name][0], alone[name][0])


def test_what_is_not_moved_is_the_prepared_image(prepared: Prepared) -> None:
    still = Augmentation(crop=1, aspect=0, translate=0, rotate=0, flip=0, probability=1)
    dataset = CaseDataset(*prepared, grid=GRID, augmentation=still)
    resident = ResidentCases(dataset, torch.device("cpu"))
    drawn = DrawnCases(dataset).__getitems__([(row, 0) for row in range(12)])
    images = np.stack([prepared[0].image(row) for row in range(12)])
    np.testing.assert_array_equal(resident.batch(drawn)["image"][:, 0], images)


@pytest.mark.parametrize("trainer", ["cpu", pytest.param("gpu", marks=needs_gpu)])
def test_a_training_goes_as_with_loaded_cases(trainer: str, command: Callable[..., Result], tiny: list[str]) -> None:
    settings = [f"trainer={trainer}" if option == "trainer=cpu" else option for option in tiny]
    slow = ("trainer.precision=32-true", "trainer.max_epochs=1", "optim.head_rate=0.01")  # so that rounding stays small
    untrained = trained_weights(command, settings, "untrained", *slow, "optim.trunk_rate=0", "optim.head_rate=0")
    kept = trained_weights(command, settings, "kept", "trainer.data_on_device=true", *slow)
    loaded = trained_weights(command, settings, "loaded", "trainer.data_on_device=false", *slow)
    for name in ("trunk.body.conv1.weight", "head.weight"):
        moved, apart = (loaded[name] - untrained[name]).norm(), (kept[name] - loaded[name]).norm()
        assert apart < 0.25 * moved, name
