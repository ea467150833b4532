"""The exports of annotation tools, most written by the tools' own libraries (``exports/write.py``): equal manifests."""

import functools
import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from liverattn.configuration import build, config_folder
from liverattn.data.exports import write_exports
from liverattn.data.manifest import Manifest, read_manifest, write_manifest
from liverattn.data.sources.aul import AulSource
from liverattn.errors import InputError, InputListError

from .conftest import save_case

EXPORTS = Path(__file__).parent / "exports"
TOOLS = ("coco", "voc", "yolo", "cvat", "labelme", "labelstudio")
Reader = Callable[..., Manifest]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images a.png to f.png of 64x48 pixels and the table that all exports should come to."""
    for seed, name in enumerate("abcdef"):
        save_case(tmp_path / f"{name}.png", seed)
    shutil.copy(EXPORTS / "cases.csv", tmp_path / "cases.csv")
    return tmp_path


@pytest.fixture
def read(root: Path) -> Reader:
    """Reads an export through the shipped configuration: ``read("coco", "annotations=...")``."""

    def reading(tool: str, *options: str) -> Manifest:
        config = composed(tool).copy()
        config.data.merge_with_dotlist([f"root={root}", *options])
        manifest: Manifest = build(config.data.source).manifest()
        return manifest

    return reading


@functools.cache
def composed(tool: str, *options: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("prepare", [f"data={tool}", *options])


def assert_equal(manifest: Manifest, expected: Manifest, *, pixels: float = 0.0) -> None:
    columns = ["image_id", "path", "patient_id", "lesion", "malignant", "type"]
    assert manifest.table[columns].astype(str).values.tolist() == expected.table[columns].astype(str).values.tolist()
    for found, known in zip(manifest.table["boxes"], expected.table["boxes"], strict=True):
        assert (found is None) == (known is None)
        if known is not None:
            np.testing.assert_allclose(found, known, atol=pixels, rtol=0)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_the_tools_write_comes_to_one_manifest(read: Reader, root: Path, tool: str) -> None:
    manifest = read(tool, f"annotations={EXPORTS / tool}")
    # YOLO files are written with six digits, Label Studio counts in percent.
    assert_equal(manifest, read_manifest(root / "cases.csv"), pixels={"yolo": 1e-4, "labelstudio": 1e-9}.get(tool, 0))
    assert "class 'metastasis' (2 region(s)) means metastasis" in manifest.notes
    assert manifest.warnings == ()
    converted = "5 region(s) were in shares of the image's size and became pixels"
    assert (converted in manifest.notes) == (tool in ("yolo", "labelstudio"))


def test_masks_come_to_the_same(read: Reader, root: Path) -> None:
    expected = read_manifest(root / "cases.csv")
    for row in expected.table.to_dict("records"):
        kind = row["type"] or "normal"
        folder = root / "sorted" / kind
        folder.mkdir(parents=True, exist_ok=True)
        (root / row["path"]).rename(folder / row["path"])
        masks = [np.zeros((48, 64), np.uint8) for _ in range(max(len(row["boxes"]), 1))]
        for mask, (x0, y0, x1, y1) in zip(masks, row["boxes"].round().astype(int), strict=False):
            mask[y0:y1, x0:x1] = 255
        for i, mask in enumerate(masks):  # as BUSI names them
            Image.fromarray(mask).save(folder / f"{row['image_id']}_mask{f'_{i}' if i else ''}.png")
    (root / "cases.csv").unlink()
    table = read("masks").table.sort_values("path", key=lambda paths: paths.str[-5:]).reset_index(drop=True)
    assert table["type"].tolist() == expected.table["type"].tolist()
    assert table["lesion"].tolist() == expected.table["lesion"].tolist()
    for found, known in zip(table["boxes"], expected.table["boxes"], strict=True):
        np.testing.assert_array_equal(found, known.round())


def test_masks_of_several_parts_and_kinds(read: Reader, root: Path) -> None:
    several = np.zeros((48, 64), np.uint8)
    several[5:15, 5:15] = several[20:40, 30:50] = 1
    several[0:2, 60:63] = 1  # a speck
    Image.fromarray(several).save(root / "a_mask.png")
    labels = np.zeros((48, 64), np.uint8)
    labels[4:44, 4:60], labels[10:20, 10:30] = 1, 2
    Image.fromarray(labels, mode="L").save(root / "b_mask.png")
    jpeg = np.zeros((48, 64), np.uint8)
    cv2.circle(jpeg, (32, 24), 10, 255, -1)
    Image.fromarray(jpeg).save(root / "c_mask.jpg", quality=60)
    with pytest.raises(InputListError, match=r"b_mask.png: has the values 0, 1, 2: say which one .* data.value="):
        read("masks", "unlisted=ignore")
    (root / "b_mask.png").unlink()
    manifest = read("masks", "unlisted=lesion_free")
    np.testing.assert_array_equal(manifest.table.at[0, "boxes"], [[5, 5, 15, 15], [30, 20, 50, 40]])
    np.testing.assert_allclose(manifest.table.at[2, "boxes"], [[22, 14, 43, 35]], atol=1)
    assert manifest.table["lesion"].tolist() == [1, 0, 1, 0, 0, 0]
    assert "1 speck(s) of fewer than 16 pixels in masks were passed over" in manifest.notes
    Image.fromarray(labels, mode="L").save(root / "c_mask.jpg".replace("jpg", "png"))
    (root / "c_mask.jpg").unlink()
    (root / "a_mask.png").unlink()
    np.testing.assert_array_equal(read("masks", "value=2", "unlisted=ignore").table.at[0, "boxes"], [[10, 10, 30, 20]])


def test_masks_of_nothing_but_specks(read: Reader, root: Path) -> None:
    speck = np.zeros((48, 64), np.uint8)
    speck[5:8, 5:8] = 255
    Image.fromarray(speck).save(root / "a_mask.png")
    with pytest.raises(InputListError, match=r"a_mask.png: marks nothing but specks of fewer than 16 pixels, so it is"):
        read("masks", "unlisted=ignore")
    (root / "normal").mkdir()  # where the folder says what the image shows, nothing is unknown
    for name in ("a.png", "a_mask.png"):
        (root / name).rename(root / "normal" / name)
    assert read("masks", "unlisted=ignore").table["lesion"].tolist() == [0]


def test_masks_of_transparency(read: Reader, root: Path) -> None:
    square = np.zeros((48, 64), np.uint8)
    square[5:15, 5:15] = 255
    black, opaque = np.zeros_like(square), np.full_like(square, 255)
    Image.fromarray(np.stack([square] * 3 + [opaque], axis=2)).save(root / "a_mask.png")
    np.testing.assert_array_equal(read("masks", "unlisted=ignore").table.at[0, "boxes"], [[5, 5, 15, 15]])
    Image.fromarray(np.stack([black] * 3 + [square], axis=2)).save(root / "a_mask.png")
    with pytest.raises(InputListError, match=r"a_mask.png: is of one color, and differs in transparency only"):
        read("masks", "unlisted=ignore")


def test_masks_without_the_value_of_a_lesion(read: Reader, root: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(root / "a_mask.png")
    with pytest.raises(InputListError, match=r"no mask has the value 1 that data\.value says; found 0, 255"):
        read("masks", "value=1", "unlisted=ignore")
    for wrong in ("abc", "true", "0.5"):
        with pytest.raises(InputError, match=r"data\.value to be a mask's value of a lesion or null, but got"):
            read("masks", f"value={wrong}")
    Image.fromarray(mask).convert("1").save(root / "a_mask.png")
    for value in ("1", "255", "null"):
        boxes = read("masks", f"value={value}", "unlisted=ignore").table.at[0, "boxes"]
        np.testing.assert_array_equal(boxes, [[5, 5, 15, 15]])
    with pytest.raises(InputListError, match=r"no mask has the value 2 that data\.value says; found 0, 1"):
        read("masks", "value=2", "unlisted=ignore")


def test_masks_of_more_lesions_than_labels_are_expected(read: Reader, root: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    for i in range(20):
        x, y = 2 + 6 * (i % 10), 5 + 20 * (i // 10)
        mask[y : y + 5, x : x + 5] = i + 1
    Image.fromarray(mask).save(root / "a_mask.png")
    with pytest.raises(InputListError, match=r"a_mask.png: has the values 0, 1, .*, 15, \.\.\.: say which one"):
        read("masks", "unlisted=ignore")
    Image.fromarray(mask.clip(0, 1)).save(root / "a_mask.png")
    assert len(read("masks", "unlisted=ignore").table.at[0, "boxes"]) == 20
    square = np.zeros((48, 64), np.uint8)
    square[10:30, 10:40] = 255
    Image.fromarray(cv2.GaussianBlur(square, (0, 0), 2)).save(root / "a_mask.png")
    np.testing.assert_array_equal(read("masks", "unlisted=ignore").table.at[0, "boxes"], [[10, 10, 40, 30]])


@pytest.mark.parametrize("quality", [10, 60, 95])
def test_masks_as_jpeg(read: Reader, root: Path, quality: int) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[13:30, 11:41] = 255
    Image.fromarray(mask).save(root / "a_mask.jpg", quality=quality)
    boxes = read("masks", "unlisted=ignore").table.at[0, "boxes"]
    np.testing.assert_allclose(boxes, [[11, 13, 41, 30]], atol=1)
    mask[32:45, 11:41] = 128  # another label
    Image.fromarray(mask).save(root / "a_mask.jpg", quality=quality)
    with pytest.raises(InputListError, match=r"a_mask\.jpg: has the values 0, .*: say which one is a lesion"):
        read("masks", "unlisted=ignore")


def test_masks_that_cannot_be_meant(read: Reader, root: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(255 - mask).save(root / "a_mask.png")
    with pytest.raises(InputListError, match=r"a_mask\.png: marks all four corners: .* give data\.value=0"):
        read("masks", "unlisted=ignore")
    for value, box in ((0, [5, 5, 15, 15]), (255, [0, 0, 64, 48])):
        boxes = read("masks", "unlisted=ignore", f"value={value}").table.at[0, "boxes"]
        np.testing.assert_array_equal(boxes, [box])
    (root / "a_mask.png").unlink()
    Image.fromarray(mask).save(root / "a_mask.tif", save_all=True, append_images=[Image.fromarray(mask.T.copy())])
    with pytest.raises(InputListError, match=r"a_mask\.tif: holds 2 pages: save each as a mask of its own"):
        read("masks", "unlisted=ignore")


def test_folders_whose_names_have_two_spellings(read: Reader, root: Path) -> None:
    folder = root / "Ha\u0308mangiom"
    folder.mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(folder / "x_mask.png")
    shutil.copy(root / "a.png", folder / "x.png")
    classes = 'source.classes={"H\u00e4mangiom": angioma}'
    assert read("masks", "unlisted=ignore", classes).table["type"].tolist() == ["angioma"]


def test_folders_that_are_links_are_said(read: Reader, root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / "more").symlink_to(tmp_path_factory.mktemp("other"))
    warnings = read("coco", f"annotations={EXPORTS / 'coco'}").warnings
    assert warnings == (f"1 folder(s) below {root} are links, which are not followed: more",)


def test_masks_in_a_folder_of_their_own(read: Reader, root: Path) -> None:
    (root / "masks").mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(root / "masks" / "a.png")
    table = read("masks", "suffix=''", "annotations=masks", "unlisted=ignore").table
    assert table["path"].tolist() == ["a.png"]
    with pytest.raises(InputError, match="masks lie in a folder of their own"):
        read("masks", "suffix=''")
    Image.fromarray(mask[:40]).save(root / "masks" / "a.png")
    with pytest.raises(InputListError, match=r"a.png: has 64x40 pixels, unlike its image a.png"):
        read("masks", "suffix=''", "annotations=masks")


def test_images_that_an_export_drops_are_complained_of(read: Reader, root: Path) -> None:
    (root / "export").mkdir()
    for name in "bcdf":
        shutil.copy(EXPORTS / "voc/Annotations" / f"{name}.xml", root / "export")
    manifest = read("voc")
    assert len(manifest) == 4
    assert manifest.warnings[0].startswith(f"2 image(s) below {root} are not in the annotations and are left out")
    assert "data.unlisted=lesion_free" in manifest.warnings[0]
    assert_equal(read("voc", "unlisted=lesion_free"), read_manifest(root / "cases.csv"))
    assert read("voc", "unlisted=ignore").warnings == ()
    for name in "ae":
        (root / f"{name}.png").unlink()
    assert read("voc").warnings[0].startswith("no image is without a lesion")


def test_unknown_classes_are_all_listed_and_can_be_given(read: Reader) -> None:
    export = f"annotations={EXPORTS / 'coco'}"
    with pytest.raises(InputError, match=r"data\.classes to give each name one of none, lesion, .* got .*'zyste'"):
        read("coco", export, "classes.cyst=zyste")
    with pytest.raises(InputListError) as caught:
        read("coco", export, "source.classes={cyst: cyst}")
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [
        "unknown class 'fnh' (1 region(s))",
        "unknown class 'hcc' (1 region(s))",
        "unknown class 'metastasis' (2 region(s))",
    ]
    assert problems[0].endswith("""with '+data.classes={"fnh": ...}'""")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize(("tool", "turn"), [("coco", 3), ("yolo", 6)])
def test_boxes_on_turned_images_are_refused(read: Reader, root: Path, tool: str, turn: int, suffix: str) -> None:
    for path in (*root.glob("*.png"), root / "cases.csv"):
        path.unlink()
    exif = Image.Exif()
    exif[0x0112] = turn
    for name, tag in {"boxed": exif, "empty": exif, "upright": Image.Exif()}.items():
        Image.new("L", (64, 48), 90).save(root / f"{name}.{suffix}", exif=tag)
    boxed = ("boxed", "upright")
    if tool == "coco":
        images = [{"id": name, "file_name": name, "width": 64, "height": 48} for name in (*boxed, "empty")]
        regions = [{"image_id": name, "category_id": 1, "bbox": [4, 4, 20, 10]} for name in boxed]
        document = {"images": images, "annotations": regions, "categories": [{"id": 1, "name": "cyst"}]}
        (root / "x.json").write_text(json.dumps(document))
    else:
        (root / "classes.txt").write_text("cyst\n")
        for name in boxed:
            (root / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    with pytest.raises(InputListError) as caught:
        read(tool)
    (problem,) = caught.value.problems
    assert problem.startswith(f"boxed.{suffix} is turned by its EXIF orientation ({turn})")
    assert "save it upright" in problem


def test_images_are_found_by_the_end_of_their_path(read: Reader, root: Path) -> None:
    for patient in ("P1", "P2"):
        (root / patient).mkdir()
        shutil.copy(root / "a.png", root / patient / "x y.png")
    document = {
        "images": [
            {"id": 1, "file_name": "C:\\scans\\P2\\x y.png"},
            {"id": "2", "file_name": "https://server/data/upload/P1/3fa9bc01-x%20y.png"},
            {"id": 3, "file_name": "a"},
        ],
        "annotations": [],
    }
    (root / "own.json").write_text(json.dumps(document), encoding="utf-8-sig")
    table = read("coco", "annotations=own.json", "unlisted=ignore", "patient='(P[0-9]|[a-z])'").table
    assert table["path"].tolist() == ["P1/x y.png", "P2/x y.png", "a.png"]
    assert table["patient_id"].tolist() == ["P1", "P2", "a"]
    document["images"].append({"id": 4, "file_name": "../../x y.png"})
    document["images"].append({"id": 5, "file_name": "/etc/passwd"})
    (root / "own.json").write_text(json.dumps(document))
    with pytest.raises(InputListError) as caught:
        read("coco", "annotations=own.json")
    assert caught.value.problems == (
        "'../../x y.png' could be any of P1/x y.png, P2/x y.png",
        "'/etc/passwd' is not among the images below data.root",
    )


def test_an_image_of_this_name_in_another_folder_is_another_image(read: Reader, root: Path) -> None:
    for path in ("P1/x.png", "P1/y.png", "P2/images/y.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "a.png", root / path)

    def paths(*names: str) -> list[str]:
        document = {"images": [{"id": i, "file_name": name} for i, name in enumerate(names)], "annotations": []}
        (root / "own.json").write_text(json.dumps(document))
        return read("coco", "annotations=own.json", "unlisted=ignore").table["path"].tolist()

    assert paths("D:\\x\\P1\\x.png", "P2/y.png", "/home/P9/a.png") == ["P1/x.png", "P2/images/y.png", "a.png"]
    with pytest.raises(InputListError) as caught:
        paths("P2/x.png", "images/P1/y.png")
    message = "'P2/x.png' is not among the images below data.root (P1/x.png lies in another folder)"
    assert caught.value.problems == (message,)
    # None of these has the folders below the root: the images have been moved.
    assert paths("C:\\upload\\x.png", "/home/b.png") == ["P1/x.png", "b.png"]
    (root / "y.png").write_bytes((root / "a.png").read_bytes())
    assert paths("y.png") == ["y.png"]


def test_a_date_before_a_name_is_part_of_it(read: Reader, root: Path) -> None:
    for name, message in {"3fa9bc01-a.png": "", "20260131-a.png": "'20260131-a.png' is not among the images"}.items():
        document = {"images": [{"id": 1, "file_name": name}], "annotations": []}
        (root / "own.json").write_text(json.dumps(document))
        if message:
            with pytest.raises(InputListError, match=message):
                read("coco", "annotations=own.json")
        else:
            assert read("coco", "annotations=own.json").table["path"].tolist() == ["a.png"]


def test_masks_of_an_image_that_is_not_there(read: Reader, root: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:15, 5:15] = 255
    for patient in ("P1", "P2"):
        (root / patient).mkdir()
        Image.fromarray(mask).save(root / patient / "x_mask.png")
    shutil.copy(root / "a.png", root / "P1" / "x.png")
    with pytest.raises(InputListError, match=r"P2/x_mask\.png is not among the images .*P1/x\.png lies in another"):
        read("masks")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("'['", "regular expression"), ("'a'", "no group"), ("'(Z)'", "finds no patient in 'a\\.png'")],
)
def test_patient_patterns_that_cannot_work(read: Reader, pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read("coco", f"annotations={EXPORTS / 'coco'}", f"patient={pattern}")


def coco(root: Path, **annotation: Any) -> None:
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "cyst"}],
        "annotations": [{"image_id": 1, "category_id": 1, **annotation}],
    }
    (root / "own.json").write_text(json.dumps(document))


def test_coco_categories_of_one_number(read: Reader, root: Path) -> None:
    coco(root, bbox=[5, 5, 9, 9])
    document = json.loads((root / "own.json").read_text())
    document["categories"] *= 2
    (root / "own.json").write_text(json.dumps(document))
    assert read("coco", "annotations=own.json").table["type"].tolist() == ["cyst"]
    document["categories"].append({"id": 1, "name": "hcc"})
    (root / "own.json").write_text(json.dumps(document))
    with pytest.raises(InputListError, match=r"several categories have the same id: 'cyst' \(1\), 'hcc' \(1\)"):
        read("coco", "annotations=own.json")


def test_coco_without_boxes_has_outlines(read: Reader, root: Path) -> None:
    coco(root, bbox=None, segmentation=[[10, 5, 20, 5, 20, 15]])
    np.testing.assert_array_equal(read("coco", "annotations=own.json").table.at[0, "boxes"], [[10, 5, 20, 15]])
    coco(root, bbox=[5, 5, 9, 9], segmentation=None)
    np.testing.assert_array_equal(read("coco", "annotations=own.json").table.at[0, "boxes"], [[5, 5, 14, 14]])
    coco(root, bbox=None, segmentation=None)
    with pytest.raises(InputListError, match=r"annotations\[0\] has neither a bbox nor polygons"):
        read("coco", "annotations=own.json")


def test_coco_of_roboflows_splits(read: Reader, root: Path) -> None:
    for i, split in enumerate(("train", "valid", "test")):
        (root / split).mkdir()
        shutil.copy(root / "a.png", root / split / "a.jfif")
        coco(root / split, bbox=[5 + i, 5, 9, 9])
        text = (root / split / "own.json").read_text().replace("a.png", "a.jfif")
        (root / split / "_annotations.coco.json").write_text(text)
        (root / split / "own.json").unlink()
    for options in ((), (f"root={root / 'valid'}",)):
        table = read("coco", "unlisted=ignore", *options).table
        found = {path: boxes[0][0] for path, boxes in zip(table["path"], table["boxes"], strict=True)}
        expected = {"test/a.jfif": 7, "train/a.jfif": 5, "valid/a.jfif": 6} if not options else {"a.jfif": 6}
        assert found == expected


def test_coco_of_images_alone_says_nothing(read: Reader, root: Path) -> None:
    (root / "own.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "categories": []}))
    with pytest.raises(InputListError, match=r"own\.json: annotations: Field required"):
        read("coco", "annotations=own.json")


def test_coco_regions_at_one_place_are_one(read: Reader, root: Path) -> None:
    coco(root, bbox=[5, 5, 9, 9])
    document = json.loads((root / "own.json").read_text())
    document["categories"].append({"id": 2, "name": "benign"})
    document["annotations"] += [{**document["annotations"][0], "category_id": i} for i in (1, 2)]
    (root / "own.json").write_text(json.dumps(document))
    table = read("coco", "annotations=own.json").table
    np.testing.assert_array_equal(table.at[0, "boxes"], [[5, 5, 14, 14]])
    assert table["type"].tolist() == ["cyst"]


def test_coco_polygons_rotation_and_the_rim(read: Reader, root: Path) -> None:
    coco(root, segmentation=[[10, 5, 20, 5, 20, 15], [30, 30, 31, 40]])
    np.testing.assert_array_equal(read("coco", "annotations=own.json").table.at[0, "boxes"], [[10, 5, 31, 40]])
    coco(root, bbox=[20, 10, 20, 10], attributes={"rotation": 90.0})
    manifest = read("coco", "annotations=own.json")
    np.testing.assert_array_equal(manifest.table.at[0, "boxes"], [[25, 5, 35, 25]])
    assert "1 rotated box(es) became their upright bounding box" in manifest.notes
    coco(root, bbox=[-1.5, 10, 20, 39])
    manifest = read("coco", "annotations=own.json")
    np.testing.assert_array_equal(manifest.table.at[0, "boxes"], [[0, 10, 18.5, 48]])
    assert "1 box(es) reached a little beyond the image and were cut" in manifest.notes


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            {"bbox": [-3, 10, 20, 20]},
            "a.png has a box [-3.0, 10.0, 17.0, 30.0] that is empty or reaches outside its 64x48",
        ),
        ({"bbox": [5, 5, 0, 9]}, "that is empty"),
        ({"bbox": [5, 5, 9, -9]}, "that is empty"),
        ({"bbox": [5, 5, 9]}, "annotations[0].bbox"),
        ({"bbox": [5, 5, 9, float("nan")]}, "finite number"),
        ({"bbox": [5, 5, 9, 1e400]}, "finite number"),
        ({"bbox": ["a", 5, 9, 9]}, "valid number"),
        ({"bbox": [1e308, 5, 1e308, 9]}, "reaches outside"),
        ({"segmentation": {"counts": "abc", "size": [48, 64]}}, "neither a bbox nor polygons"),
        ({"segmentation": [[1, 2, 3]]}, "neither a bbox nor polygons"),
        ({}, "two finite points"),
        ({"bbox": [1, 1, 9, 9], "image_id": 7}, "refers to 7, which is no image or category"),
        ({"bbox": [1, 1, 9, 9], "category_id": 7}, "refers to 7"),
    ],
)
def test_coco_annotations_that_cannot_be_used(
    read: Reader, root: Path, annotation: dict[str, Any], message: str
) -> None:
    coco(root, **annotation)
    with pytest.raises(InputListError) as caught:
        read("coco", "annotations=own.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"images": 3}', "\ud800", "[" * 10_000, '{"images": [{"id": 1}], "annotations": []}']
)
def test_documents_that_are_none(read: Reader, root: Path, text: str) -> None:
    (root / "own.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for tool in ("coco", "labelme", "labelstudio"):
        if (tool, text) != ("labelstudio", "[]"):
            with pytest.raises(InputListError, match=r"own\.json"):
                read(tool, "annotations=own.json")


def test_an_export_of_another_version_of_the_images(read: Reader, root: Path) -> None:
    Image.open(root / "b.png").resize((128, 96)).save(root / "b.png")
    Image.open(root / "c.png").transpose(Image.Transpose.ROTATE_90).save(root / "c.png")
    with pytest.raises(InputListError) as caught:
        read("cvat", f"annotations={EXPORTS / 'cvat'}")
    first, second = caught.value.problems
    assert first.startswith(
        "b.png has 128x96 pixels, but was annotated at 64x48: annotations and images are of different"
    )
    assert "by a quarter turn" in second


def test_an_image_that_is_listed_twice(read: Reader, root: Path) -> None:
    images = [{"id": i, "file_name": "a.png"} for i in (1, 2)]
    (root / "own.json").write_text(json.dumps({"images": images, "annotations": []}))
    with pytest.raises(InputListError, match=r"'a\.png' is the same image as 'a\.png'"):
        read("coco", "annotations=own.json")


def test_exports_that_are_not_there(read: Reader, root: Path) -> None:
    for tool in TOOLS:
        with pytest.raises(InputError, match=r"data\.(annotations|names)="):
            read(tool)
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        read("coco", f"root={root / 'none'}")
    with pytest.raises(InputError, match=r"data\.unlisted to be lesion_free, ignore or null, but got all"):
        read("coco", f"annotations={EXPORTS / 'coco'}", "unlisted=all")


def test_voc_of_other_tools(read: Reader, root: Path) -> None:
    turned = "<robndbox><cx>32</cx><cy>24</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>"
    plain = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox>"
    objects = "".join(f"<object><name>cyst</name>{box}</object>" for box in (turned, plain))
    (root / "a.xml").write_text(f"<annotation><filename>renamed\\a.png</filename>{objects}</annotation>")
    boxes = read("voc", "unlisted=ignore", "one_based=true").table.at[0, "boxes"]
    np.testing.assert_allclose(boxes[1], [0, 0, 20, 10])
    np.testing.assert_allclose(read("voc", "unlisted=ignore").table.at[0, "boxes"], [[27, 14, 37, 34], [1, 1, 20, 10]])
    for broken, message in {
        "<annotation><object><name>cyst</name></object></annotation>": "an <object> has no <bndbox>",
        f"<annotation><object>{plain.replace('20', 'x')}</object></annotation>": "needs a number xmax, but got 'x'",
        "<other/>": "expected <annotation>, but got <other>",
        "<annotation>": "is not XML",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>': "defines XML entities",
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>': "refers to other files",
    }.items():
        (root / "a.xml").write_text(broken)
        with pytest.raises(InputListError) as caught:
            read("voc")
        assert f"{root / 'a.xml'}: " in str(caught.value)
        assert message in str(caught.value)


def test_voc_of_folders_and_names_with_blanks(read: Reader, root: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox>"
    for path in ("JPEGImages/a/1.png", "JPEGImages/b/1.png", "JPEGImages/a/case 2.png", "JPEGImages/a/case 3.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "a.png", root / path)
    for name in ("a/1", "a/case 2"):
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = "<size><width>0</width><height>0</height></size>"
        content = f"<filename>{name}.png</filename>{size}<object><name>cyst</name>{box}</object>"
        path.write_text(f"<annotation>{content}</annotation>")
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/default.txt").write_text('a/1\nb/1\n"a/case 2"\n"a/case 3" -1\n\n')
    table = read("voc", "unlisted=ignore").table
    assert dict(zip(table["path"], table["lesion"], strict=True)) == {
        "JPEGImages/a/1.png": 1,
        "JPEGImages/a/case 2.png": 1,
        "JPEGImages/a/case 3.png": 0,
        "JPEGImages/b/1.png": 0,
    }


def test_yolo_outlines_oriented_boxes_and_lists(read: Reader, root: Path) -> None:
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for name in "abc":
        (root / f"{name}.png").rename(root / "images/train" / f"{name}.png")
    for name in "def":
        (root / f"{name}.png").unlink()
    (root / "data.yaml").write_text("names: {0: cyst, 3: hcc}\n")
    (root / "labels/train/a.txt").write_text("3 0.25 0.25 0.5 0.25 0.5 0.5\n\n0 .1 .1 .2 .1 .2 .2 .1 .2\n")
    (root / "labels/train/b.txt").write_text("")
    manifest = read("yolo", "annotations=labels")
    assert manifest.table["path"].tolist() == ["images/train/a.png", "images/train/b.png", "images/train/c.png"]
    assert manifest.table["lesion"].tolist() == [1, 0, 0]
    np.testing.assert_allclose(manifest.table.at[0, "boxes"], [[16, 12, 32, 24], [6.4, 4.8, 12.8, 9.6]])
    assert "1 image(s) have no label file and are taken as lesion-free" in manifest.warnings[0]
    assert len(read("yolo", "annotations=labels", "unlisted=ignore")) == 2
    (root / "labels/train/a.txt").write_text("1 .5 .5 .1 .1\n0 .5 .5\nx .5 .5 .1 .1\n0 .5 .5 .1 inf\n")
    with pytest.raises(InputListError) as caught:
        read("yolo", "annotations=labels")
    path = root / "labels/train/a.txt"
    assert caught.value.problems[:3] == (
        f"{path}, line 1: class 1 is not in the class list, which has 2",
        f"{path}, line 2: expected a class and 4 numbers (or pairs of x and y), but got 2 numbers",
        f"{path}, line 3: could not convert string to float: 'x'",
    )
    (root / "data.yaml").write_text("names: 3")
    with pytest.raises(InputError, match=r"The class list .*data.yaml cannot be read"):
        read("yolo", "annotations=labels")


def test_yolo_class_lists_that_differ(read: Reader, root: Path) -> None:
    (root / "data.yaml").write_text("names: {0: cyst, 1: hcc}\n")
    (root / "classes.txt").write_text("cyst\nhcc\n")
    (root / "predefined_classes.txt").write_text("dog\n")
    (root / "a.txt").write_text("0 .5 .5 .1 .1\n")
    assert read("yolo").table.at[0, "type"] == "cyst"
    (root / "classes.txt").write_text("hcc\ncyst\n")
    with pytest.raises(InputError, match=r"lists .*data.yaml and .*classes.txt differ. Give .* data.names=FILE"):
        read("yolo")
    assert read("yolo", "names=classes.txt").table.at[0, "type"] == "hcc"


def test_yolo_labels_of_images_that_are_called_the_same(read: Reader, root: Path) -> None:
    for path in ("P1/images/1.png", "P2/images/1.png", "test.png", "both.png", "P3/2.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "a.png", root / path)
    (root / "classes.txt").write_text("cyst\n")
    (root / "train.txt").write_text("both.png\n")
    for path in ("P1/labels/1.txt", "test.txt", "both.TXT"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("0 .5 .5 .1 .1\n")
    manifest = read("yolo")
    marked = manifest.table[manifest.table["lesion"] == 1]
    assert sorted(marked["path"]) == ["P1/images/1.png", "both.png", "test.png"]
    (root / "1.txt").write_text("0 .5 .5 .1 .1\n")
    (root / "P1/2.txt").write_text("0 .5 .5 .1 .1\n")
    (root / "gone.txt").write_text("0 .5 .5 .1 .1\n")
    (root / "README.txt").write_text("2026 images, 5 classes\n")
    with pytest.raises(InputListError) as caught:
        read("yolo")
    assert caught.value.problems == (
        f"the image of {root / '1.txt'} could be any of P1/images/1.png, P2/images/1.png",
        f"the image of {root / 'P1/2.txt'} is not among the images below data.root (P3/2.png lies in another folder)",
        f"the image of {root / 'gone.txt'} is not among the images below data.root",
    )
    for path in ("1.txt", "P1/2.txt", "gone.txt"):
        (root / path).unlink()
    assert read("yolo").warnings[0] == f"{root / 'README.txt'}: no image of this name; passed over"


def test_labelme_shapes_and_flags(read: Reader, root: Path) -> None:
    def document(shapes: list[dict[str, Any]], **flags: bool) -> None:
        content = {"imagePath": "..\\x\\a.png", "imageWidth": 64, "imageHeight": 48, "shapes": shapes, "flags": flags}
        (root / "a.json").write_text(json.dumps(content))

    circle = {"label": "cyst", "points": [[20, 20], [23, 24]], "shape_type": "circle"}
    polygon = {"label": "Liver", "points": [[1, 1], [60, 1], [30, 40]]}
    document([circle, polygon], cyst=True, hcc=False)
    manifest = read("labelme", "unlisted=ignore")
    np.testing.assert_array_equal(manifest.table.at[0, "boxes"], [[15, 15, 25, 25]])
    assert "class 'Liver' (1 region(s)) means ignore" in manifest.notes
    document([], normal=True)
    assert read("labelme", "unlisted=ignore").table.at[0, "lesion"] == 0
    document([circle], normal=True)
    with pytest.raises(InputListError, match=r"a\.png is called lesion-free and has a lesion at once"):
        read("labelme")
    document([{"label": "cyst", "points": [[3, 4]], "shape_type": "point"}])
    with pytest.raises(InputListError, match=r"shapes\[0\] is a 'point', which has no area"):
        read("labelme")


def test_lines_of_ignored_classes_stop_nothing(read: Reader, root: Path) -> None:
    shapes = [
        {"label": "ruler", "points": [[5, 5], [5, 40]], "shape_type": "line"},
        {"label": "cyst", "points": [[5, 5], [25, 40]], "shape_type": "rectangle"},
    ]
    (root / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    lines = '<polyline label="ruler" points="1,1;1,80"/><box label="cyst" xtl="5" ytl="5" xbr="25" ybr="40"/>'
    (root / "own.xml").write_text(
        f'<annotations><image name="a.png" width="64" height="48">{lines}</image></annotations>'
    )
    for tool in ("labelme", "cvat"):
        boxes = read(tool, "unlisted=ignore", "source.classes={cyst: cyst, ruler: ignore}").table.at[0, "boxes"]
        np.testing.assert_array_equal(boxes, [[5, 5, 25, 40]])
        with pytest.raises(InputListError, match=r"which has no area; .* a class that data\.classes ignores"):
            read(tool, "unlisted=ignore", "source.classes={cyst: cyst}")


def test_labelstudio_shapes_choices_and_annotators(read: Reader, root: Path) -> None:
    size = {"original_width": 64, "original_height": 48}

    def task(name: str, *annotations: dict[str, Any]) -> dict[str, Any]:
        return {"data": {"text": "x", "image": f"/data/upload/1/0123abcd-{name}.png"}, "annotations": list(annotations)}

    turned = {"x": 50, "y": 50, "width": 25, "height": 12.5, "rotation": 90, "rectanglelabels": ["cyst"]}
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0}
    tasks = [
        task("a", {"result": [{"type": "rectanglelabels", "value": turned, **size}]}),
        task(
            "b",
            {
                "result": [
                    {"id": "1", "type": "ellipse", "value": ellipse, **size},
                    {"id": "1", "type": "labels", "value": {**ellipse, "labels": ["hcc"]}, **size},
                ]
            },
        ),
        task(
            "c",
            {"result": [{"type": "choices", "value": {"choices": ["cyst"]}}], "updated_at": "2026-01-02"},
            {"result": [{"type": "choices", "value": {"choices": ["normal"]}}], "updated_at": "2026-01-01"},
        ),
        task("d", {"result": [], "was_cancelled": True}),
        task("e"),
    ]
    (root / "own.json").write_text(json.dumps(tasks))
    manifest = read("labelstudio", "annotations=own.json", "unlisted=ignore")
    # About its upper left corner at (32, 24): 16 wide and 6 high become 6 to the left and 16 down.
    np.testing.assert_allclose(manifest.table.at[0, "boxes"], [[26, 24, 32, 40]])
    np.testing.assert_allclose(manifest.table.at[1, "boxes"], [[16, 12, 48, 36]])
    assert manifest.table["type"].tolist() == ["cyst", "hcc", "cyst"]
    assert manifest.table.at[2, "boxes"] is None
    assert manifest.warnings == ("2 image(s) that nobody has annotated yet are left out",)
    minimal = [
        {"image": "a.png", "label": [{**turned, **size}], "choice": "cyst"},
        {"image": "b.png", "choice": {"choices": ["normal"]}},
    ]
    (root / "own.json").write_text(json.dumps(minimal))
    table = read("labelstudio", "annotations=own.json", "unlisted=ignore").table
    np.testing.assert_allclose(table.at[0, "boxes"], [[26, 24, 32, 40]])
    assert table["lesion"].tolist() == [1, 0]
    brush = {"type": "brushlabels", "value": {"brushlabels": ["cyst"]}, **size}
    (root / "own.json").write_text(json.dumps([task("a", {"result": [brush]})]))
    with pytest.raises(InputListError, match=r"task \[0\] holds a 'brushlabels', which cannot be read"):
        read("labelstudio", "annotations=own.json")


def test_labelstudio_regions_on_images_that_were_turned_in_the_tool(read: Reader, root: Path) -> None:
    place = {"x": 50, "y": 50, "width": 25, "height": 12.5, "rectanglelabels": ["cyst"]}
    size = {"original_width": 64, "original_height": 48}
    for turn, message in {90: "turned by 90 degrees in the tool", 360: None}.items():
        result = {"type": "rectanglelabels", "value": place, "image_rotation": turn, **size}
        for tasks in (
            [{"data": {"image": "a.png"}, "annotations": [{"result": [result]}]}],
            [{"image": "a.png", "label": [{**place, **size, "image_rotation": turn}]}],
        ):
            (root / "own.json").write_text(json.dumps(tasks))
            if message is None:
                assert read("labelstudio", "annotations=own.json").table["lesion"].tolist() == [1]
                continue
            with pytest.raises(InputListError, match=rf"own.json: task \[0\] was drawn on an image .*{message}"):
                read("labelstudio", "annotations=own.json")


def test_labelstudio_minimal_tasks_that_nobody_annotated(read: Reader, root: Path) -> None:
    tasks = [
        {"image": "a.png", "annotator": {}, "annotation_id": None, "created_at": None},
        {"image": "b.png", "annotator": 1, "annotation_id": 7, "choice": "cyst"},
        {"image": "c.png", "annotator": 1, "annotation_id": 8},
    ]
    (root / "own.json").write_text(json.dumps(tasks))
    manifest = read("labelstudio", "annotations=own.json", "unlisted=ignore")
    assert manifest.table["path"].tolist() == ["b.png", "c.png"]
    assert manifest.warnings == ("1 image(s) that nobody has annotated yet are left out",)


def test_labelstudio_choices_of_one_region(read: Reader, root: Path) -> None:
    size = {"original_width": 64, "original_height": 48}
    places = [{"x": x, "y": 10, "width": 20, "height": 20} for x in (10, 50)]
    kinds = ("benign", "hcc")
    result = [
        {"id": f"r{i}", "type": kind, "value": {**place, **named}, **size}
        for i, place in enumerate(places)
        for kind, named in (("rectanglelabels", {"rectanglelabels": ["lesion"]}), ("choices", {"choices": [kinds[i]]}))
    ]
    values = [result["value"] | size for result in result]
    for task in (
        {"data": {"image": "a.png"}, "annotations": [{"result": result}]},
        {"image": "a.png", "box": values[::2], "kind": values[1::2]},
    ):
        (root / "own.json").write_text(json.dumps([task]))
        (row,) = read("labelstudio", "annotations=own.json", "unlisted=ignore").table.to_dict("records")
        assert (row["malignant"], len(row["boxes"])) == (1, 2)
    result[3]["id"] = "other"  # said of the whole image
    (root / "own.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": result}]}]))
    (row,) = read("labelstudio", "annotations=own.json", "unlisted=ignore").table.to_dict("records")
    assert (row["malignant"], row["type"]) == (1, "hcc")


def test_labelstudio_minimal_of_several_annotators(read: Reader, root: Path) -> None:
    tasks = [{"image": "a.png", "annotation_id": i, "choice": "cyst"} for i in (1, 2)]
    (root / "own.json").write_text(json.dumps(tasks))
    with pytest.raises(InputListError) as caught:
        read("labelstudio", "annotations=own.json")
    (problem,) = caught.value.problems
    assert "task [1] is another annotation of 'a.png', and JSON-MIN does not say which one counts: export" in problem


def test_labelstudio_regions_with_several_labels(read: Reader, root: Path) -> None:
    place = {"x": 50, "y": 50, "width": 25, "height": 12.5}

    def table(*labels: str, **size: int) -> pd.DataFrame:
        region = {"type": "rectanglelabels", "value": {**place, "rectanglelabels": labels}, **size}
        (root / "own.json").write_text(
            json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}])
        )
        return read("labelstudio", "annotations=own.json", "unlisted=ignore").table

    size = {"original_width": 64, "original_height": 48}
    for labels in (("cyst", "benign"), ("lesion", "cyst")):
        (row,) = table(*labels, **size).to_dict("records")
        assert (row["malignant"], row["type"]) == (0, "cyst")
        np.testing.assert_allclose(row["boxes"], [[32, 24, 48, 30]])
    for labels, message in {("cyst", "hcc"): "malignant at once", ("none", "cyst"): "has a lesion at once"}.items():
        with pytest.raises(InputListError, match=message):
            table(*labels, **size)
    with pytest.raises(
        InputListError, match=r"task \[0\] holds a rectangle without original_width and original_height"
    ):
        table("cyst")


def test_labelstudio_images_behind_signed_addresses(read: Reader, root: Path) -> None:
    choice = {"result": [{"type": "choices", "value": {"choices": ["cyst"]}}]}
    address = "https://bucket.example/scans/a.png?X-Amz-Expires=3600&X-Amz-Signature=00ff"
    (root / "own.json").write_text(json.dumps([{"data": {"image": address}, "annotations": [choice]}]))
    assert read("labelstudio", "annotations=own.json").table["path"].tolist() == ["a.png"]


def test_labelstudio_tasks_of_several_images(read: Reader, root: Path) -> None:
    choice = {"result": [{"type": "choices", "value": {"choices": ["cyst"]}}]}
    for other, is_refused in {"thumbs/b.png": True, "C:\\scans\\a.png": False}.items():
        data = {"other": other, "image": "/data/upload/1/0123abcd-a.png"}
        (root / "own.json").write_text(json.dumps([{"data": data, "annotations": [choice]}]))
        if is_refused:
            with pytest.raises(InputListError, match=r"own.json: task \[0\] names several images, 'thumbs/b.png', "):
                read("labelstudio", "annotations=own.json")
        else:
            assert read("labelstudio", "annotations=own.json").table["path"].tolist() == ["a.png"]


def test_labelstudio_tasks_of_which_only_texts_tell_something(read: Reader, root: Path) -> None:
    def told(*results: list[dict[str, Any]]) -> Manifest:
        tasks = [
            {"data": {"image": f"{name}.png"}, "annotations": [{"result": result}]}
            for name, result in zip("abc", results, strict=False)
        ]
        (root / "own.json").write_text(json.dumps(tasks))
        return read("labelstudio", "annotations=own.json", "unlisted=ignore")

    text = [{"type": "textarea", "from_name": "finding", "value": {"text": ["Kyste"]}}]
    rating = [{"type": "rating", "value": {"rating": 4}}]
    with pytest.raises(InputListError, match=r"but JSON has 'finding' \(textarea\), 'rating' \(rating\): if these say"):
        told(text, rating, [])
    cyst = {"type": "choices", "value": {"choices": ["cyst"]}}
    manifest = told(text, [cyst, *rating], [])
    assert manifest.table["lesion"].tolist() == [0, 1, 0]
    assert "1 image(s) without regions and known choices are taken as lesion-free" in manifest.warnings[0]
    assert "'finding' (textarea)" in manifest.warnings[0] and "rating" not in manifest.warnings[0]
    assert told([], [cyst]).warnings == ()


def test_labelstudio_minimal_has_the_names_of_the_users_controls(read: Reader, root: Path) -> None:
    place = {"x": 50, "y": 50, "width": 25, "height": 12.5, "original_width": 64, "original_height": 48}
    own = {"annotator": 1, "created_at": "2026-01-02", "patient_id": "p7", "hospital": "Bonn"}

    def minimal(*tasks: dict[str, Any]) -> Manifest:
        rows = [{"image": f"{name}.png", **own, **task} for name, task in zip("abcdef", tasks, strict=False)]
        (root / "own.json").write_text(json.dumps(rows))
        return read("labelstudio", "annotations=own.json", "unlisted=ignore")

    manifest = minimal(
        {"bbox": [{**place, "rectanglelabels": ["hcc"]}], "rated": [{"rating": 4}]},
        {"case": "Malignant"},
        {"shape": [place], "class": [{**place, "labels": ["cyst"]}]},
        {"case": {"choices": ["hcc", "malignant"]}},
        {"case": "none"},
        {},
    )
    assert manifest.table["type"].tolist() == ["hcc", None, "cyst", "hcc", None, None]
    assert manifest.table["lesion"].tolist() == [1, 1, 1, 1, 0, 0]
    for row in (0, 2):
        np.testing.assert_allclose(manifest.table.at[row, "boxes"], [[32, 24, 48, 30]])
    assert set(manifest.table["patient_id"]) == {"p7"}
    assert "1 image(s) without regions and known choices are taken as lesion-free" in manifest.warnings[0]
    assert "'hospital' ('Bonn')" in manifest.warnings[0]
    for message, tasks in {
        "unknown class 'Zyste' (1 image(s))": [{"case": "none"}, {"case": "Zyste"}],
        "but JSON-MIN has 'hospital' ('Bonn'), 'case' ('Zyste'): if these are classes": [{"case": "Zyste"}],
        "holds a 'brushlabels', which cannot be read": [{"b": [{**place, "rle": [1], "brushlabels": ["hcc"]}]}],
        "holds a 'keypoint', which cannot be read": [{"k": [{"x": 1, "original_width": 64, "original_height": 48}]}],
        "task [0] b.original_height: Field required": [{"b": [{"x": 1, "original_width": 64}]}],
    }.items():
        with pytest.raises(InputListError) as caught:
            minimal(*tasks)
        assert message in str(caught.value)


def test_cvat_shapes_and_tags(read: Reader, root: Path) -> None:
    shapes = """
      <box label="cyst" xtl="20" ytl="10" xbr="40" ybr="20" rotation="90.0"><attribute name="sure">yes</attribute></box>
      <ellipse label="cyst" cx="20" cy="20" rx="8" ry="4"/>
      <polygon label="cyst" points="1.0,2.0;5.5,2.0;3.0,9.0"/>
      <mask label="cyst" rle="1, 2" left="3" top="4" width="10" height="6"/><tag label="benign"/>"""
    xml = '<annotations><image id="0" name="x/a.png" width="64" height="48">{}</image></annotations>'
    (root / "own.xml").write_text(xml.format(shapes))
    manifest = read("cvat", "unlisted=ignore")
    expected = [[25, 5, 35, 25], [12, 16, 28, 24], [1, 2, 5.5, 9], [3, 4, 13, 10]]
    np.testing.assert_allclose(manifest.table.at[0, "boxes"], expected)
    assert "class 'benign' (1 image(s)) means benign" in manifest.notes
    for broken, message in {
        '<points label="cyst" points="1,2"/>': "holds <points>, which has no area",
        '<polygon label="cyst" points="1,2;3"/>': "image [0] 'x/a.png'",
        '<box label="cyst" xtl="1"/>': "needs a number ytl, but got None",
    }.items():
        (root / "own.xml").write_text(xml.format(broken))
        with pytest.raises(InputListError) as caught:
            read("cvat")
        assert message in str(caught.value)


@pytest.mark.parametrize("tool", ["coco", "cvat", "labelme"])
def test_classes_in_attributes_of_regions_are_complained_of(read: Reader, root: Path, tool: str) -> None:
    box = '<box label="lesion" xtl="1" ytl="2" xbr="9" ybr="9">{}</box>'.format(
        '<attribute name="malignant">true</attribute><attribute name="kind">HCC</attribute>'
        '<attribute name="benign">false</attribute><attribute name="sure">yes</attribute>'
    )
    shape = {"label": "lesion", "shape_type": "rectangle", "points": [[1, 2], [9, 9]]}
    flags = {"malignant": True, "benign": False, "sure": True}
    documents = {
        "cvat": f'<annotations><image name="a.png" width="64" height="48">{box}</image></annotations>',
        "labelme": json.dumps({"imagePath": "a.png", "shapes": [shape | {"flags": flags}, shape]}),
        "coco": json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "categories": [{"id": 1, "name": "lesion"}],
                "annotations": [
                    {"image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 7], "attributes": flags | {"kind": "HCC"}}
                ],
            }
        ),
    }
    (root / ("own.xml" if tool == "cvat" else "own.json")).write_text(documents[tool])
    warnings = read(tool, "unlisted=ignore").warnings
    said = [
        f"1 region(s) are called {name!r} by a flag or attribute, which is not read" for name in ("HCC", "malignant")
    ]
    assert [warning.partition(":")[0] for warning in warnings] == said[tool == "labelme" :]


def test_cvat_for_video_is_refused(read: Reader, root: Path) -> None:
    box = '<box frame="0" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="9" ybr="9" z_order="0"/>'
    (root / "own.xml").write_text(f'<annotations><track id="0" label="cyst">{box}</track></annotations>')
    with pytest.raises(InputListError, match=r"own.xml: is CVAT's format for video, .* export 'CVAT for images 1.1'"):
        read("cvat")


@pytest.mark.parametrize("tool", ["coco", "labelstudio"])
def test_what_we_export_is_read_back(read: Reader, root: Path, tool: str) -> None:
    text = (root / "cases.csv").read_text().replace("\na,a.png,0,,,", '\na,a.png,1,1,,"[[1, 2, 3, 4.5]]"')
    (root / "cases.csv").write_text(
        text.replace("image_id,", "patient_id,image_id,").replace("\n", "\np7,").removesuffix("p7,")
    )
    manifest = read_manifest(root / "cases.csv")
    write_exports(manifest, [tool], root / "out")
    found = read(tool, f"annotations={root / 'out'}")
    assert_equal(found, manifest, pixels=1e-9)
    assert set(found.table["patient_id"]) == {"p7"}
    with pytest.raises(InputError, match="export to name some of coco, labelstudio, but got word"):
        write_exports(manifest, [tool, "word"], root)


@pytest.mark.parametrize("tool", ["coco", "labelstudio"])
def test_names_with_signs_are_exported_and_read_back(read: Reader, root: Path, tool: str) -> None:
    names = ["a&b.png", "scan #1.png", "p1+2.png", "50%.png", "x?y.png", "a;b.png"]
    table = (root / "cases.csv").read_text()
    for old, new in zip("abcdef", names, strict=True):
        (root / f"{old}.png").rename(root / new)
        table = table.replace(f",{old}.png,", f",{new},")
    (root / "cases.csv").write_text(table)
    write_exports(read_manifest(root / "cases.csv"), [tool], root / "out")
    assert sorted(read(tool, f"annotations={root / 'out'}").table["path"]) == sorted(names)


def test_labelstudio_encodes_the_names_of_uploads(read: Reader, root: Path) -> None:
    (root / "a.png").rename(root / "müller 1.png")
    task = {"data": {"image": "/data/upload/1/3f2a1b4c-m%C3%BCller%201.png"}, "annotations": [{"result": []}]}
    (root / "own.json").write_text(json.dumps([task]))
    table = read("labelstudio", "annotations=own.json", "unlisted=ignore").table
    assert table["path"].tolist() == ["müller 1.png"]


def test_lesions_without_boxes_in_exports(read: Reader, root: Path) -> None:
    table = (root / "cases.csv").read_text().replace('"[[8, 10, 24, 30]]"', "")
    (root / "cases.csv").write_text(table)
    manifest = read_manifest(root / "cases.csv")
    line, other = write_exports(manifest, ["coco", "labelstudio"], root / "out")
    assert line.endswith("coco.json (without 1 lesion image(s) whose boxes are unknown: COCO cannot say so)")
    assert other.endswith("labelstudio.json")
    assert read("coco", f"annotations={root / 'out' / 'coco.json'}", "unlisted=ignore").table[
        "image_id"
    ].tolist() == list("acdef")
    assert_equal(read("labelstudio", f"annotations={root / 'out' / 'labelstudio.json'}"), manifest, pixels=1e-9)


def test_an_imported_manifest_is_a_table_that_reads_back(read: Reader, root: Path, tmp_path: Path) -> None:
    manifest = read("coco", f"annotations={EXPORTS / 'coco'}")
    (tmp_path / "elsewhere").mkdir()
    write_manifest(manifest, tmp_path / "elsewhere" / "cases.csv")
    assert_equal(read_manifest(tmp_path / "elsewhere" / "cases.csv", root), manifest)


@pytest.mark.skipif("LIVERATTN_AUL" not in os.environ, reason="set LIVERATTN_AUL to the unpacked AUL images")
@pytest.mark.parametrize("tool", ["coco", "labelstudio"])
def test_real_cases_go_through_a_tool_and_back(read: Reader, tmp_path: Path, tool: str) -> None:
    manifest = AulSource(root=os.environ["LIVERATTN_AUL"]).manifest()
    write_exports(manifest, [tool], tmp_path / "out")
    found = read(tool, f"root={manifest.root}", f"annotations={tmp_path / 'out'}")
    assert found.warnings == ()
    expected, actual = (table.set_index("path").sort_index() for table in (manifest.table, found.table))
    for column in ("patient_id", "lesion", "malignant"):
        pd.testing.assert_series_equal(actual[column], expected[column])
    for boxes, known in zip(actual["boxes"], expected["boxes"], strict=True):
        np.testing.assert_allclose(boxes, known, atol=1e-9)


@pytest.mark.parametrize("end", ["names: *i", "names: {0: *i}", "names: {<<: *i}"])
def test_yolo_class_lists_that_would_fill_the_memory(read: Reader, root: Path, end: str) -> None:
    lines = ["a: &a {0: cyst}", *(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))]
    (root / "data.yaml").write_text("\n".join([*lines, end]))
    with pytest.raises(InputError, match=r"data\.yaml cannot be read \(YAMLError: it has an alias"):
        read("yolo")
