"""Origins of cases: a fabricated AUL tree, the real one where it is there, phantoms, and the user's own table."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from liverattn.data.images import image_size
from liverattn.data.manifest import Manifest
from liverattn.data.sources import phantom
from liverattn.data.sources.aul import AulSource
from liverattn.data.sources.phantom import TABLE_1, PhantomSource
from liverattn.data.sources.table import TableSource
from liverattn.errors import InputError

from .conftest import save_case

REAL = os.environ.get("LIVERATTN_AUL")


@pytest.fixture
def aul(tmp_path: Path) -> Path:
    """Two benign cases, one malignant, one normal, of 64x48 pixels."""
    root = tmp_path / "aul"
    for name, numbers in {"Benign": (10, 9), "Malignant": (1,), "Normal": (1,)}.items():
        for part in ("liver", "mass", "outline"):
            (root / name / "segmentation" / part).mkdir(parents=True)
        (root / name / "image").mkdir()
        for number in numbers:
            save_case(root / name / "image" / f"{number}.jpg", number)
            mass(root, name, number).write_text("[[10.5, 20], [30, 12.25], [22, 40.5]]")
    mass(root, "Normal", 1).unlink()
    return root


def mass(root: Path, name: str, number: int) -> Path:
    return root / name / "segmentation" / "mass" / f"{number}.json"


def read(root: Path) -> Manifest:
    return AulSource(root=str(root)).manifest()


def test_aul_outlines_become_boxes(aul: Path) -> None:
    manifest = read(aul)
    table = manifest.table
    assert table["image_id"].tolist() == ["benign-9", "benign-10", "malignant-1", "normal-1"]
    assert table["path"].tolist()[0] == "Benign/image/9.jpg"
    assert table["lesion"].tolist() == [1, 1, 1, 0]
    assert table["malignant"].astype(object).where(table["malignant"].notna(), None).tolist() == [0, 0, 1, None]
    assert table["type"].tolist() == [None] * 4
    assert table["patient_id"].tolist() == table["image_id"].tolist()
    np.testing.assert_array_equal(table.at[0, "boxes"], [[10, 12, 30, 41]])
    assert table.at[3, "boxes"].shape == (0, 4)
    assert manifest.warnings == ()


def test_aul_as_unpackers_leave_it(aul: Path) -> None:
    expected = read(aul).table["image_id"].tolist()
    (aul / "Benign").rename(aul / "moved")
    (aul / "Benign").mkdir()
    (aul / "moved").rename(aul / "Benign" / "Benign")
    (aul / "__MACOSX" / "Benign" / "image").mkdir(parents=True)
    (aul / "__MACOSX" / "Benign" / "image" / "._9.jpg").write_bytes(b"\0\5\x16\7")
    (aul / "Benign" / "Benign" / "image" / "._9.jpg").write_bytes(b"\0\5\x16\7")
    (aul / "Benign" / "Benign" / "image" / "Thumbs.db").write_bytes(b"")
    manifest = read(aul)
    assert manifest.table["image_id"].tolist() == expected
    assert manifest.table["path"].tolist()[0] == "Benign/Benign/image/9.jpg"
    np.testing.assert_array_equal(manifest.table.at[0, "boxes"], [[10, 12, 30, 41]])


def test_aul_missing_outlines_are_unknown_boxes(aul: Path) -> None:
    mass(aul, "Benign", 10).unlink()
    manifest = read(aul)
    assert [boxes is None for boxes in manifest.table["boxes"]] == [False, True, False, False]
    assert manifest.warnings == (f"{mass(aul, 'Benign', 10)}: missing; the boxes of this case are unknown",)


def test_aul_outlines_beyond_the_rim_are_cut(aul: Path) -> None:
    mass(aul, "Benign", 9).write_text("[[-3, -1], [66, 20], [30, 50.5]]")
    np.testing.assert_array_equal(read(aul).table.at[0, "boxes"], [[0, 0, 64, 48]])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "7",
        "[]",
        "[[1, 2], [3, 4]]",
        "[[1, 2, 3], [4, 5, 6], [7, 8, 9]]",
        "[[1, 2], [3, 4], [5]]",
        "[[1, 2], [3, 4], [5, NaN]]",
        f"[[1, 2], [3, 4], [5, 1{'0' * 400}]]",
        '[["a", 1], [2, 3], [4, 5]]',
        "[[65, 50], [70, 60], [80, 90]]",
        "[[5, 5], [5, 6], [5, 7]]",
    ],
)
def test_aul_broken_outlines_are_all_named(aul: Path, text: str) -> None:
    mass(aul, "Benign", 9).write_text(text)
    mass(aul, "Malignant", 1).write_text(text)
    with pytest.raises(InputError) as caught:
        read(aul)
    heading, first, second, remedy = str(caught.value).splitlines()
    assert heading == f"{aul}: 2 unusable polygon(s):"
    assert first.startswith(f"  - {mass(aul, 'Benign', 9)}: ")
    assert second.startswith(f"  - {mass(aul, 'Malignant', 1)}: ")
    assert "Unpack these files again" in remedy


def test_aul_broken_images_are_named_as_rows(aul: Path) -> None:
    (aul / "Benign" / "image" / "9.jpg").write_bytes(b"")
    Image.new("L", (64, 48), 9).save(aul / "Malignant" / "image" / "1.png")
    with pytest.raises(InputError) as caught:
        read(aul)
    assert "'Benign/image/9.jpg': the file is empty (0 bytes)" in str(caught.value)
    assert "value 'malignant-1': must be unique" in str(caught.value)


def test_aul_elsewhere_says_what_is_expected(aul: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere does not exist .* data.root=\.\.\., or set the variable LIVERATTN_AUL"
    ):
        read(tmp_path / "nowhere")
    shutil.rmtree(aul / "Normal")
    with pytest.raises(
        InputError, match=r"not the AUL layout: Normal/image is missing. Expected the folders Benign, Mal"
    ):
        read(aul)


@pytest.mark.skipif(REAL is None, reason="set LIVERATTN_AUL to the unpacked AUL images to test with them")
def test_aul_as_published() -> None:
    assert REAL is not None
    manifest = read(Path(REAL))
    table = manifest.table
    names = Counter(name.partition("-")[0] for name in table["image_id"])
    assert (len(manifest), names) == (491, {"benign": 134, "malignant": 290, "normal": 67})
    assert int(table["malignant"].sum()) == 290
    assert manifest.warnings == ()
    for case in table.to_dict("records"):
        width, height = image_size(manifest.root / case["path"])
        assert len(case["boxes"]) == case["lesion"]
        for x0, y0, x1, y1 in case["boxes"]:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height


COUNTS = {"none": 2, "cyst": 1, "metastasis": 1}


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms")
    PhantomSource(root=str(root), counts=COUNTS, seed=5, workers=1).manifest()
    return root


def test_phantoms_have_the_labels_and_counts_asked_for(rendered: Path) -> None:
    table = PhantomSource(root=str(rendered), counts=COUNTS, seed=5, workers=1).manifest().table
    assert Counter(table["type"].fillna("none")) == COUNTS
    malignant = table["malignant"].tolist()
    for kind, lesion, known in zip(table["type"], table["lesion"], malignant, strict=True):
        assert (lesion, known) == {None: (0, pd.NA), "cyst": (1, 0), "metastasis": (1, 1)}[kind]
    for case in table.to_dict("records"):
        assert (len(case["boxes"]) > 0) == (case["lesion"] == 1)
    assert TABLE_1 == {"none": 258, "angioma": 17, "metastasis": 48, "hcc": 6, "cyst": 30, "fnh": 8}
    assert sum(TABLE_1.values()) == 367


def test_two_workers_render_what_one_does(rendered: Path, tmp_path: Path) -> None:
    PhantomSource(root=str(tmp_path), counts=dict(reversed(COUNTS.items())), seed=5, workers=2).manifest()
    assert files(tmp_path) == files(rendered)
    assert len(files(rendered)) == 8


def test_a_restart_renders_only_what_is_missing(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(rendered, tmp_path, dirs_exist_ok=True)
    whole = files(tmp_path)
    next(tmp_path.rglob("00001.json")).unlink()  # interrupted before the case was whole
    next(tmp_path.rglob("00003.png")).unlink()  # lost
    seen: list[str] = []
    render = phantom._render_one

    def counting(job: Any) -> None:
        seen.append(job[0].name)
        render(job)

    monkeypatch.setattr(phantom, "_render_one", counting)
    source = PhantomSource(root=str(tmp_path), counts=COUNTS, seed=5, workers=1)
    source.manifest()
    assert sorted(seen) == ["00001.png", "00003.png"]
    assert files(tmp_path) == whole
    source.manifest()
    assert len(seen) == 2


def test_other_seeds_and_counts_have_folders_of_their_own(rendered: Path, tmp_path: Path) -> None:
    one, other = (PhantomSource(root=str(tmp_path), counts={"none": 1}, seed=seed, workers=1) for seed in (0, 1))
    assert one.manifest().root != other.manifest().root
    pictures = list(tmp_path.rglob("*.png"))
    assert len(pictures) == 2
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


@pytest.mark.parametrize(
    "counts", [{}, {"none": 0}, {"cyst": -1, "none": 4}, {"hemangioma": 3}, {"none": 1.5}, {"none": "3"}]
)
def test_impossible_counts(tmp_path: Path, counts: dict[str, Any]) -> None:
    message = (
        "data.counts to hold whole numbers >= 0, not all 0, for none, angioma, hcc, fnh, cyst, metastasis, but got"
    )
    with pytest.raises(InputError, match=message) as caught:
        PhantomSource(root=str(tmp_path), counts=counts).manifest()
    assert str(counts) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_users_table(cases: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cases(4)
    monkeypatch.setenv("HOME", str(tmp_path))
    manifest = TableSource(path="~/cases.csv").manifest()
    assert manifest.root == tmp_path
    assert manifest.table["image_id"].tolist() == expected.table["image_id"].tolist() == [f"case{i}" for i in range(4)]


def test_json_of_phantoms_tells_where_vessels_are(rendered: Path) -> None:
    content = json.loads(next(rendered.rglob("00000.json")).read_text())
    assert set(content) == {"boxes", "vessels", "geometry"}
    assert content["geometry"] in ("sector", "linear")
