"""Vessels of phantoms in prepared pixels."""

import json
from pathlib import Path

import numpy as np
import pytest

from liverattn.data.cache import PreparedCases, prepare_cases
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import Preprocessing
from liverattn.data.sources.phantom import PhantomSource, prepared_vessels
from liverattn.errors import InputError


@pytest.fixture
def cysts(tmp_path: Path) -> Manifest:
    return PhantomSource(root=str(tmp_path / "phantoms"), counts={"cyst": 3, "none": 1}, seed=5, workers=1).manifest()


def prepared(manifest: Manifest, folder: Path, **steps: object) -> PreparedCases:
    return prepare_cases(manifest, Preprocessing(**steps), folder / "cache")  # type: ignore[arg-type]


def rewritten(manifest: Manifest, row: int, **changes: object) -> None:
    path = (manifest.root / manifest.table.at[row, "path"]).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("steps", [{}, {"aspect": "stretch"}, {"height": 120, "width": 120, "crop": False}])
def test_vessels_go_the_way_of_lesions(cysts: Manifest, tmp_path: Path, steps: dict[str, object]) -> None:
    for row in range(len(cysts)):  # lesions said to be vessels: where they come to lie is known
        rewritten(cysts, row, vessels=[box.tolist() for box in cysts.table.at[row, "boxes"]])
    cases = prepared(cysts, tmp_path, **steps)
    for found, expected in zip(prepared_vessels(cysts, cases), cases.boxes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_lies_outside_is_cut_or_left_out(cysts: Manifest, tmp_path: Path) -> None:
    cases = prepared(cysts, tmp_path)
    x0, y0, x1, y1 = cases.window(0)
    rewritten(cysts, 0, vessels=[[x0 - 50, y0 - 50, x0 - 1, y0 - 1], [x0 - 50, y0, x0 + (x1 - x0) / 2, y1]])
    rewritten(cysts, 1, vessels=[])
    found = prepared_vessels(cysts, cases)
    np.testing.assert_allclose(found[0], [[0, 0, 345 / 2, 240]])
    assert found[1].shape == (0, 4)


def test_vessels_are_dark(tmp_path: Path) -> None:
    counts = {"none": 6}
    manifest = PhantomSource(root=str(tmp_path / "phantoms"), counts=counts, seed=1, workers=1).manifest()
    cases = prepared(manifest, tmp_path)
    inside, around = [], []
    for row, boxes in enumerate(prepared_vessels(manifest, cases)):
        image = cases.image(row).astype(float)
        for x0, y0, x1, y1 in boxes:
            if 6 < x1 - x0 < 40 and 6 < y1 - y0 < 40:
                x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)
                inside.append(image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean())
                around.append(
                    np.median(image[int(max(y - half, 0)) : int(y + half), int(max(x - half, 0)) : int(x + half)])
                )
    assert len(inside) >= 5 and np.mean(np.array(inside) < np.array(around)) > 0.7


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"vessels": [[1, 2]]}', '{"vessels": "no"}', '{"vessels": null}'])
def test_damage_is_named(cysts: Manifest, tmp_path: Path, text: str) -> None:
    cases = prepared(cysts, tmp_path)
    paths = [(cysts.root / path).with_suffix(".json") for path in cysts.table["path"]]
    paths[0].write_text(text)
    paths[2].unlink()
    with pytest.raises(InputError, match=r"00000\.json.*\n.*00002\.json.*\nRemove these files"):
        prepared_vessels(cysts, cases)


def test_damaged_boxes_are_named_and_rendered_again(cysts: Manifest, tmp_path: Path) -> None:
    source = PhantomSource(root=str(tmp_path / "phantoms"), counts={"cyst": 3, "none": 1}, seed=5, workers=1)
    notes = (cysts.root / cysts.table.at[0, "path"]).with_suffix(".json")
    notes.write_text('{"box')
    with pytest.raises(InputError, match=rf"{notes} is damaged .*Remove it"):
        source.manifest()
    notes.unlink()
    assert source.manifest().table.equals(cysts.table)
