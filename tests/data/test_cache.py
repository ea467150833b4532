"""Prepared images: content-addressed, restartable, shared between processes, and honest about what is broken."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from liverattn.data import cache
from liverattn.data.cache import PreparedCases, prepare_cases
from liverattn.data.images import decode_grey, file_bytes, read_grey
from liverattn.data.manifest import Manifest, read_manifest
from liverattn.data.preprocessing import Preprocessing
from liverattn.errors import InputError

from .conftest import save_case

Make = Callable[..., Manifest]
STEPS = Preprocessing(height=32, width=46)


def prepare(manifest: Manifest, folder: Path, steps: Preprocessing = STEPS) -> PreparedCases:
    return prepare_cases(manifest, steps, folder, workers=2)


def entries(folder: Path) -> set[Path]:
    return set(folder.rglob("*.safetensors"))


def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded from now on."""
    decoded, names = list[str](), dict[bytes, str]()

    def naming(path: Path) -> bytes:
        encoded = file_bytes(path)
        names[encoded] = path.name
        return encoded

    def counting(encoded: bytes) -> Any:
        decoded.append(names[encoded])
        return decode_grey(encoded)

    monkeypatch.setattr(cache, "file_bytes", naming)
    monkeypatch.setattr(cache, "decode_grey", counting)
    return decoded


def test_entries_hold_what_preprocessing_gives(cases: Make, tmp_path: Path) -> None:
    manifest = cases(6)
    prepared = prepare(manifest, tmp_path / "cache")
    assert (len(prepared), prepared.size) == (6, (32, 46))
    for row, case in enumerate(manifest.table.to_dict("records")):
        boxes = case["boxes"]
        expected = STEPS.apply(read_grey(tmp_path / case["path"]), np.zeros((0, 4)) if boxes is None else boxes)
        np.testing.assert_array_equal(prepared.image(row), expected.image)
        assert prepared.factors[row] == np.float32(expected.factor)
        assert prepared.medians[row] == expected.median
        assert prepared.originals[row].tolist() == [64, 48]
        assert prepared.window(row) == expected.window
        if boxes is None:
            assert prepared.boxes[row] is None
        else:
            np.testing.assert_array_equal(prepared.boxes[row], expected.boxes)
    assert [boxes is None for boxes in prepared.boxes] == [False, False, True] * 2
    assert prepared.boxes[0].shape == (0, 4)
    assert len(prepared.boxes[1]) == 1


def test_changed_inputs_have_entries_of_their_own(cases: Make, tmp_path: Path) -> None:
    folder, manifest = tmp_path / "cache", cases(6)
    first = prepare(manifest, folder)
    assert prepare(manifest, folder).files == first.files
    assert entries(folder) == set(first.files)

    save_case(tmp_path / "3.png", seed=99)
    pixels = prepare(manifest, folder)
    assert [old == new for old, new in zip(first.files, pixels.files, strict=True)] == [True] * 3 + [False] + [True] * 2
    assert (pixels.image(3) != first.image(3)).mean() > 0.3

    table = (tmp_path / "cases.csv").read_text()
    (tmp_path / "cases.csv").write_text(table.replace("[[9, 10, 25, 30]]", "[[9, 10, 26, 30]]"))
    boxes = prepare(read_manifest(tmp_path / "cases.csv"), folder)
    assert [i for i in range(6) if boxes.files[i] != pixels.files[i]] == [1]
    assert boxes.boxes[1][0, 2] > pixels.boxes[1][0, 2]

    for steps in (
        Preprocessing(height=40, width=46),
        replace(STEPS, crop=False),
        replace(STEPS, aspect="crop"),
        replace(STEPS, intensity="off"),
    ):
        assert not set(prepare(manifest, folder, steps).files) & set(first.files)
    assert prepare(manifest, folder, replace(STEPS, clip=True)).files == pixels.files  # clipping acts on the batch


def test_a_new_version_of_the_steps_reads_nothing_old(
    cases: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(cases(3), tmp_path / "cache")
    monkeypatch.setattr(cache, "STEPS_VERSION", cache.STEPS_VERSION + 1)
    assert not set(prepare(cases(3), tmp_path / "cache").files) & set(first.files)


def test_a_restart_builds_only_what_is_missing(cases: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, manifest = tmp_path / "cache", cases(6)
    first = prepare(manifest, folder)
    first.files[2].unlink()
    first.files[4].unlink()
    decoded = builds(monkeypatch)
    assert prepare(manifest, folder).files == first.files
    assert sorted(decoded) == ["2.png", "4.png"]
    decoded.clear()
    prepare(manifest, folder)
    assert decoded == []


def damage_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 20 + path.read_bytes()[20:])


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def forget(path: Path) -> None:
    save_file({"image": np.zeros((32, 46), np.uint8)}, path)


def garble(path: Path) -> None:
    save_file({"image": np.zeros((32, 46), np.uint8)}, path, {"case": "{"})


@pytest.mark.parametrize("damage", [damage_header, cut_off, empty, forget, garble])
def test_damaged_entries_are_built_again(
    cases: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    folder, manifest = tmp_path / "cache", cases(3)
    first = prepare(manifest, folder)
    image = first.image(1)
    damage(first.files[1])
    decoded = builds(monkeypatch)
    again = prepare(manifest, folder)
    assert decoded == ["1.png"]
    np.testing.assert_array_equal(again.image(1), image)


def test_broken_images_are_all_named_and_the_good_ones_stay(
    cases: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = tmp_path / "cache", cases(6)
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").unlink()
    (tmp_path / "4.png").mkdir()
    with pytest.raises(InputError) as caught:
        prepare(manifest, folder)
    heading, first, second, third, remedy = str(caught.value).splitlines()
    assert heading == "3 image(s) cannot be used:"
    assert first.startswith("  - image_id 'case1', 1.png: the image data are damaged")
    assert second == "  - image_id 'case3', 3.png: the file does not exist"
    assert third == "  - image_id 'case4', 4.png: is a folder, not an image"
    assert """'data.exclude=["case1","case3","case4"]'""" in remedy
    assert len(entries(folder)) == 3

    (tmp_path / "4.png").rmdir()
    for name in ("1.png", "3.png", "4.png"):
        (tmp_path / name).write_bytes(whole)
    decoded = builds(monkeypatch)
    assert len(prepare(manifest, folder)) == 6
    assert sorted(decoded) == ["1.png", "3.png", "4.png"]


def full_rename(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_write(tensors: Any, path: Path, metadata: Any) -> None:
    Path(path).write_bytes(b"half of it")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(("module", "name", "stub"), [(os, "replace", full_rename), (cache, "save_file", full_write)])
def test_a_full_disk_is_told_and_leaves_nothing_half_done(
    cases: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, stub: Any
) -> None:
    folder, manifest = tmp_path / "cache", cases(3)
    with monkeypatch.context() as patched:
        patched.setattr(module, name, stub)
        with pytest.raises(InputError, match=r"no space left on the disk.*free some space.*run the same command again"):
            prepare(manifest, folder)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert len(prepare(manifest, folder)) == 3


def build_in_child(root: str, queue: Any) -> None:
    manifest = read_manifest(Path(root) / "cases.csv")
    queue.put(prepare(manifest, Path(root) / "cache").fingerprint)


def test_two_processes_may_build_at_once(cases: Make, tmp_path: Path) -> None:
    manifest = cases(12)
    context = get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=build_in_child, args=(str(tmp_path), queue)) for _ in range(2)]
    for child in children:
        child.start()
    fingerprints = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join(timeout=60)
    assert [child.exitcode for child in children] == [0, 0]
    shared = prepare(manifest, tmp_path / "cache")
    alone = prepare(manifest, tmp_path / "alone")
    assert fingerprints == [shared.fingerprint] * 2 == [alone.fingerprint] * 2
    assert {path for path in (tmp_path / "cache").rglob("*") if path.is_file()} == set(shared.files)
    for row in range(12):
        np.testing.assert_array_equal(shared.image(row), alone.image(row))


def test_the_fingerprint_stands_for_the_data_and_not_for_the_resolution(cases: Make, tmp_path: Path) -> None:
    folder, path = tmp_path / "cache", tmp_path / "cases.csv"
    manifest = cases(6)
    prints = [prepare(manifest, folder).fingerprint]
    assert prepare(manifest, folder, Preprocessing(height=48, width=69)).fingerprint == prints[0]
    shutil.copytree(tmp_path, tmp_path / "moved", ignore=shutil.ignore_patterns("cache", "moved"))
    assert prepare(read_manifest(tmp_path / "moved" / "cases.csv"), folder).fingerprint == prints[0]
    table = path.read_text()
    for old, new in {
        "1,1,metastasis": "1,1,hcc",
        "1,0,cyst": "1,,",
        "case2,2.png,,": "case2,2.png,case0,",
        "[[9, 10, 25, 30]]": "",
        "case5": "case9",
    }.items():
        assert old in table
        path.write_text(table.replace(old, new))
        prints.append(prepare(read_manifest(path), folder).fingerprint)
    path.write_text(table)
    save_case(tmp_path / "0.png", seed=77)
    prints.append(prepare(read_manifest(path), folder).fingerprint)
    assert len(set(prints)) == 7


def test_a_file_that_was_cut_off_or_removed_since_is_named(cases: Make, tmp_path: Path) -> None:
    opened = prepare(cases(1), tmp_path / "cache")
    opened.file(0).write_bytes(opened.file(0).read_bytes()[:-5])
    for _ in range(2):
        with pytest.raises(InputError, match=f"{opened.file(0)} was removed or damaged.*prepares it again"):
            opened.image(0)
        opened.file(0).unlink(missing_ok=True)
