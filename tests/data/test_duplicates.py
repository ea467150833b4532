"""Near-duplicates: frames of one scene are found under what people do to images; the shared fan alone is not enough."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from liverattn.data import duplicates
from liverattn.data.cache import prepare_cases
from liverattn.data.duplicates import DuplicatePair, find_duplicates, merge_patients, near_duplicates, texture
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import Preprocessing
from liverattn.data.sources.aul import AulSource
from liverattn.data.splits import make_folds

REAL = os.environ.get("LIVERATTN_AUL")
Image = NDArray[np.uint8]


@dataclass
class Frames:
    """What the search needs of prepared cases."""

    images: list[Image]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int) -> Image:
        return self.images[row]


def scene(seed: int) -> Image:
    """(240, 345): speckle of several scales within the same fan for all scenes."""
    random = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(random.normal(size=(240, 345)), (0, 0), s) * s for s in (2, 6, 15)]
    fan = np.zeros((240, 345), np.uint8)
    cv2.ellipse(fan, (172, -40), (270, 270), 0, 45, 135, 255, -1)
    return np.where(fan > 0, np.clip(90 + 60 * sum(layers), 15, 255), 0).astype(np.uint8)


def darker(image: Image) -> Image:
    return (255 * (image / 255) ** 1.5).astype(np.uint8)


def smaller(image: Image) -> Image:
    _, encoded = cv2.imencode(".jpg", cv2.resize(image, (172, 120), interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), (345, 240)), dtype=np.uint8)


def marked(image: Image) -> Image:
    image = image.copy()
    cv2.line(image, (120, 90), (220, 160), 255, 2)
    cv2.putText(image, "4.2 cm", (120, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    return image


def moved(image: Image) -> Image:
    motion = np.array([[1.06, 0.02, -18], [-0.02, 1.06, 9]], np.float32)
    return np.asarray(cv2.warpAffine(image, motion, (345, 240)), dtype=np.uint8)


def mirrored(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def found(images: list[Image]) -> list[DuplicatePair]:
    return find_duplicates(Frames(images))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [np.copy, darker, smaller, marked, moved, mirrored])
def test_a_changed_copy_is_found_among_images_of_the_same_shape(change: Callable[[Image], Image]) -> None:
    scenes = [scene(seed) for seed in range(6)]
    (pair,) = found([*scenes, change(scenes[2])])
    assert (pair.first, pair.second, pair.mirrored) == (2, 6, change is mirrored)
    assert 0.5 < pair.similarity <= 1.0001


def test_identical_images_have_similarity_one_and_come_first() -> None:
    first, second = scene(0), scene(1)
    pairs = found([first, marked(second), first, second])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2), (1, 3)]
    assert pairs[0].similarity == pytest.approx(1, abs=1e-3) and pairs[1].similarity < 0.99


def test_every_pair_of_a_scene_is_found_once_and_the_search_repeats_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    base = scene(3)
    images = [base, scene(4), darker(base), marked(base)]
    pairs = found(images)
    assert sorted((pair.first, pair.second) for pair in pairs) == [(0, 2), (0, 3), (2, 3)]
    assert found(images) == pairs
    monkeypatch.setattr(duplicates, "COMPARED", 1)  # blocks bound the memory and change nothing
    assert found(images) == pairs


@pytest.mark.parametrize(
    "images",
    [[scene(0)], [np.zeros((240, 345), np.uint8)] * 3, [np.full((64, 92), gray, np.uint8) for gray in (99, 130)]],
)
def test_images_without_any_texture_resemble_nothing(images: list[Image]) -> None:
    assert found(images) == []


def test_texture_is_what_brightness_leaves_and_is_zero_outside_the_fan() -> None:
    image = scene(5)
    plain, bright = texture(image), texture(np.clip(image * 1.4, 0, 255).astype(np.uint8))
    assert plain.shape == (96, 138) and plain.dtype == np.float32 and np.abs(plain).max() <= 3
    assert np.corrcoef(plain.ravel(), bright.ravel())[0, 1] > 0.95
    black = cv2.erode((cv2.resize(image, (138, 96)) == 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert (plain[black] == 0).all() and black.any()


def test_pairs_are_kept_on_disk_and_looked_for_again_when_images_change_or_the_file_is_damaged(
    cases: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = cases(4)
    cv2.imwrite(str(tmp_path / "3.png"), cv2.imread(str(tmp_path / "0.png")))
    calls: list[int] = []

    def counting(prepared: Frames) -> list[DuplicatePair]:
        calls.append(len(prepared))
        return find_duplicates(prepared)  # type: ignore[arg-type]

    monkeypatch.setattr(duplicates, "find_duplicates", counting)
    pairs = near_duplicates(manifest, tmp_path / "cache")
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 3)]
    assert near_duplicates(manifest, tmp_path / "cache") == pairs and calls == [4]
    (kept,) = (tmp_path / "cache" / "duplicates").iterdir()
    kept.write_text("[{")
    assert near_duplicates(manifest, tmp_path / "cache") == pairs and calls == [4, 4]
    cv2.imwrite(str(tmp_path / "3.png"), scene(0))
    assert near_duplicates(manifest, tmp_path / "cache") == [] and len(calls) == 3


def pairs_of(*rows: tuple[int, int]) -> list[DuplicatePair]:
    return [DuplicatePair(first, second, 0.9, False) for first, second in rows]


def test_chains_of_duplicates_become_one_patient_with_the_name_of_the_first(cases: Callable[..., Manifest]) -> None:
    manifest = cases(6)
    manifest.table["patient_id"] = ["p", "q", "r", "q", "s", "t"]
    merged = merge_patients(manifest, pairs_of((3, 4), (4, 2)))
    assert merged.table["patient_id"].tolist() == ["p", "q", "q", "q", "q", "t"]
    assert merged.notes == ("Near-duplicates are kept together: 5 patients became 3 groups.",)
    assert manifest.table["patient_id"].tolist() == ["p", "q", "r", "q", "s", "t"]
    assert merge_patients(manifest, []).table["patient_id"].equals(manifest.table["patient_id"])


def test_merged_patients_never_straddle_a_split_and_change_the_fingerprint(
    cases: Callable[..., Manifest], tmp_path: Path
) -> None:
    manifest = cases(18)
    merged = merge_patients(manifest, pairs_of((0, 3), (3, 15), (1, 2)))
    for row in make_folds(merged, repeats=5, folds=3, seed=0).assignment:
        assert row[0] == row[3] == row[15] and row[1] == row[2]
    steps = Preprocessing(height=32, width=46)
    before, after = (prepare_cases(m, steps, tmp_path / "cache") for m in (manifest, merged))
    assert before.fingerprint != after.fingerprint and before.files == after.files


@pytest.mark.skipif(REAL is None, reason="LIVERATTN_AUL is not set: no real images")
def test_pairs_of_real_images_are_found(tmp_path: Path) -> None:
    manifest = AulSource(root=str(REAL)).manifest()
    names = ["benign-19", "benign-29", "malignant-269", "malignant-376"]
    few = manifest.table[manifest.table["image_id"].isin(names) | (manifest.table.index % 8 == 0)]
    part = Manifest(few.reset_index(drop=True), manifest.root)
    ids = part.table["image_id"]
    pairs = [{ids[pair.first], ids[pair.second]} for pair in near_duplicates(part, tmp_path)]
    assert set(names[:2]) in pairs and set(names[2:]) in pairs
    assert len(pairs) < 8
