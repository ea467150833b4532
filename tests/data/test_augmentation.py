"""Augmentation: image and mask move together, and (seed, epoch, case) is the only source of randomness."""

import pickle
import random
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from liverattn.data.augmentation import Augmentation
from liverattn.errors import InputError

SIZE = (96, 138)
STILL = Augmentation(crop=1, aspect=0, translate=0, rotate=0, flip=0, probability=1)


def scene() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissue of 60 with a lesion of 250 under the mask."""
    image, mask = np.full(SIZE, 60, np.uint8), np.zeros(SIZE, np.uint8)
    mask[35:65, 40:80] = 1
    image[mask == 1] = 250
    return image, mask


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(),
        Augmentation(crop=0.4, aspect=0.3, rotate=30, probability=0.5),
        Augmentation(translate=0.9, rotate=180, probability=1),
    ],
)
def test_it_is_what_albumentations_composes(settings: Augmentation) -> None:
    import albumentations as A  # only now: liverattn switches its look at the package index off

    aspect = SIZE[1] / SIZE[0]
    compose = A.Compose(
        [
            A.RandomResizedCrop(
                size=SIZE,
                scale=(settings.crop, 1.0),
                ratio=(aspect * (1 - settings.aspect), aspect * (1 + settings.aspect)),
                mask_interpolation=cv2.INTER_NEAREST_EXACT,
            ),
            A.Affine(
                translate_percent=(-settings.translate, settings.translate),
                rotate=(-settings.rotate, settings.rotate),
                p=settings.probability,
            ),
            A.HorizontalFlip(p=settings.flip),
        ]
    )
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, SIZE, dtype=np.uint8)
    augment = settings.build(SIZE)
    for case in range(100):
        mask = np.zeros(SIZE, np.uint8)
        for y, x in generator.integers(0, SIZE, (2, 2)):  # two boxes, some of them at an edge
            mask[y : y + generator.integers(1, 60), x : x + generator.integers(1, 60)] = 1
        stream = random.Random(int(np.random.SeedSequence((3, 1, case)).generate_state(1)[0]))
        for step in compose.transforms:
            step.py_random = stream
        composed = compose(image=image, mask=mask)
        moved, moved_mask = augment(image, mask, (3, 1, case))
        np.testing.assert_array_equal(moved, composed["image"])
        np.testing.assert_array_equal(moved_mask, composed["mask"])


def test_crop_shift_and_flip_are_independent() -> None:
    from scipy.stats import pearsonr

    image, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    mask[24:72, 65:73] = 1  # a tall bar, and a small square to its right
    mask[44:52, 85:93] = 1
    augment = Augmentation(aspect=0, rotate=0).build(SIZE)
    sizes, shifts, flips = [], [], []
    for case in range(600):
        moved = augment(image, mask, (0, 0, case))[1]
        rows = moved.sum(axis=1) > 0
        columns = moved.sum(axis=0).nonzero()[0]
        tall = moved.sum(axis=0).argmax()
        flips.append(float(tall - columns[0] > columns[-1] - tall))  # the square lies to its left
        sizes.append(float(rows.sum()))
        shifts.append(float(rows.nonzero()[0].mean()))
    for first, second in [(sizes, flips), (shifts, flips), (sizes, shifts)]:
        assert abs(pearsonr(first, second).statistic) < 4 / np.sqrt(600)


@pytest.mark.parametrize("seed", range(25))
def test_image_and_mask_move_together(seed: int) -> None:
    image, mask = scene()
    moved, moved_mask = Augmentation().build(SIZE)(image, mask, (seed, 0, 0))
    assert moved.shape == moved_mask.shape == SIZE
    assert moved.dtype == moved_mask.dtype == np.uint8
    assert set(np.unique(moved_mask)) == {0, 1}
    bright, covered = moved > 155, moved_mask == 1
    assert (bright & covered).sum() / (bright | covered).sum() > 0.95  # they differ along the interpolated rim only
    assert not np.array_equal(moved, image)


def test_masks_are_not_shifted_against_images() -> None:
    image, mask = scene()
    augment = only(crop=0.5).build(SIZE)
    shifts = []
    for case in range(60):
        moved, moved_mask = augment(image, mask, (0, 0, case))
        shifts.append(np.mean((moved > 155).nonzero(), axis=1) - np.mean(moved_mask.nonzero(), axis=1))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.1


def test_the_stream_depends_on_seed_epoch_and_case_alone() -> None:
    image, mask = scene()
    first, second = Augmentation().build(SIZE), Augmentation().build(SIZE)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    np.random.seed(0)
    once = [first(image, mask, key) for key in keys]
    np.random.seed(1)
    again = [second(image, mask, key) for key in reversed(keys)][::-1]  # order and global state do not matter
    for (image_a, mask_a), (image_b, mask_b) in zip(once, again, strict=True):
        np.testing.assert_array_equal(image_a, image_b)
        np.testing.assert_array_equal(mask_a, mask_b)
    assert len({moved.tobytes() for moved, _ in once}) == len(keys)


def test_copies_for_workers_draw_the_same() -> None:
    image, mask = scene()
    augment = Augmentation().build(SIZE)
    expected = augment(image, mask, (3, 4, 5))[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(augment))(image, mask, (3, 4, 5))[0], expected)


@pytest.mark.parametrize("size", [(96, 138), (240, 345), (480, 690), (97, 101)])
def test_no_magnitude_is_the_identity(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    mask = (image > 200).astype(np.uint8)
    for seed in range(5):
        moved, moved_mask = STILL.build(size)(image, mask, (seed, 0, 0))
        np.testing.assert_array_equal(moved, image)
        np.testing.assert_array_equal(moved_mask, mask)


def only(**magnitudes: float) -> Augmentation:
    return Augmentation(
        **{"crop": 1, "aspect": 0, "translate": 0, "rotate": 0, "flip": 0, "probability": 1, **magnitudes}
    )


def test_a_flip_is_horizontal_and_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8)
    mask = (image > 200).astype(np.uint8)
    moved, moved_mask = only(flip=1).build(SIZE)(image, mask, (0, 0, 0))
    np.testing.assert_array_equal(moved, image[:, ::-1])
    np.testing.assert_array_equal(moved_mask, mask[:, ::-1])


def test_depth_is_never_turned_over() -> None:
    image, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    image[:48] = 200
    for case in range(40):
        moved, _ = Augmentation().build(SIZE)(image, mask, (0, 0, case))
        assert moved[10:30].mean() > moved[-30:-10].mean() + 50


def centers(augmentation: Augmentation, count: int = 200) -> NDArray[np.float64]:
    """(count, 2): x and y of a small lesion's center after augmentation, relative to its place before."""
    image, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    mask[44:52, 65:73] = 1
    augment = augmentation.build(SIZE)
    found = []
    for case in range(count):
        rows, columns = augment(image, mask, (0, 0, case))[1].nonzero()
        found.append((columns.mean() - 68.5, rows.mean() - 47.5))
    return np.array(found)


def test_translations_reach_their_limit_and_no_further() -> None:
    shifts = np.abs(centers(only(translate=0.1))).max(axis=0)
    assert (shifts <= np.array([13.8, 9.6]) + 0.6).all()
    assert (shifts >= 0.8 * np.array([13.8, 9.6])).all()


def test_rotations_turn_about_the_center() -> None:
    assert np.abs(centers(only(rotate=20), 40)).max() <= 1.0
    image, bar = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    bar[46:50, 29:109] = 1
    angles = []
    for case in range(100):
        rows, columns = only(rotate=20).build(SIZE)(image, bar, (0, 0, case))[1].nonzero()
        angles.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert 16 < np.abs(angles).max() <= 20.5
    assert min(angles) < -10 < 10 < max(angles)


def test_crops_keep_at_least_their_share() -> None:
    image, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    mask[40:60, 60:80] = 1
    image[mask == 1] = 255
    sizes = [only(crop=0.5).build(SIZE)(image, mask, (0, 0, case))[1].sum() / 400 for case in range(150)]
    whole = [size for size in sizes if size > 0.9]  # others were cut by the crop
    assert 1.6 < max(whole) <= 2.2
    assert min(whole) < 1.2


def test_gamma_bends_and_gain_multiplies_up_to_their_limits() -> None:
    ramp, mask = np.tile(np.arange(SIZE[1], dtype=np.uint8), (SIZE[0], 1)), scene()[1]

    def shown(level: int, **magnitudes: float) -> NDArray[np.float64]:
        moved = [only(**magnitudes).build(SIZE)(ramp, mask, (0, 0, case)) for case in range(200)]
        assert all((np.diff(image[0].astype(int)) >= 0).all() and not image[:, 0].any() for image, _ in moved)
        assert all(np.array_equal(moved_mask, mask) for _, moved_mask in moved)
        return np.array([image[0, level] for image, _ in moved], dtype=np.float64)

    exponents = np.log(np.log(shown(90, gamma=0.4) / 255) / np.log(90 / 255))
    assert np.abs(exponents).max() < 0.42 and exponents.min() < -0.36 and exponents.max() > 0.36
    assert abs(exponents.mean()) < 0.06
    factors = np.log(shown(100, gain=0.2) / 100)
    assert np.abs(factors).max() < 0.21 and factors.min() < -0.18 and factors.max() > 0.18
    bright = np.full(SIZE, 250, np.uint8)
    assert {only(gain=0.2).build(SIZE)(bright, mask, (0, 0, case))[0].max() for case in range(40)} >= {255}


def test_intensities_leave_geometry_as_it_was() -> None:
    image, mask = scene()
    geometry, both = Augmentation().build(SIZE), Augmentation(gamma=0.35, gain=0.15).build(SIZE)
    different = 0
    for case in range(20):
        (plain, plain_mask), (bent, bent_mask) = (augment(image, mask, (0, 0, case)) for augment in (geometry, both))
        np.testing.assert_array_equal(plain_mask, bent_mask)
        levels = np.unique(np.stack([plain.ravel(), bent.ravel()]), axis=1)
        assert levels.shape[1] == len(np.unique(plain))  # one curve for all pixels
        different += not np.array_equal(plain, bent)
    assert different >= 19


@pytest.mark.parametrize(
    "magnitudes",
    [
        {"crop": 0},
        {"crop": 1.1},
        {"aspect": 1},
        {"translate": -0.1},
        {"rotate": 200},
        {"flip": 2},
        {"probability": -1},
        {"gamma": -0.1},
        {"gain": 1.5},
        {"gain": "x"},
    ],
)
def test_magnitudes_without_a_meaning_are_refused(magnitudes: dict[str, Any]) -> None:
    ((name, value),) = magnitudes.items()
    with pytest.raises(InputError, match=rf"data.augmentation.*{name}.* but got (.*{name}=)?{value}"):
        Augmentation(**magnitudes)


def test_nothing_goes_out_to_the_network() -> None:
    program = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise SystemExit('the network was used')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import numpy as np\n"
        "from liverattn.data.augmentation import Augmentation\n"
        "image = np.full((64, 92), 9, np.uint8)\n"
        "Augmentation().build((64, 92))(image, image // 9, (0, 0, 0))\n"
        "import os, albumentations\n"
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
