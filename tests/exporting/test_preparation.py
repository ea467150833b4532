"""The preparation as tensor operations is the one of ``liverattn.data.preprocessing``, to the last grey level."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from liverattn.data.images import read_grey
from liverattn.data.preprocessing import Preprocessing
from liverattn.errors import InputError
from liverattn.exporting.onnx import write_onnx
from liverattn.exporting.preparation import TAPS, Preparation, border_windows, intensity_factors
from liverattn.exporting.programs import Graph, traced
from tests.prediction.conftest import picture

SMALL = Preprocessing(height=64, width=92)


def agrees(steps: Preprocessing, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Difference in grey levels; factor and window must be the same."""
    shown, factor, window = Preparation(steps)(torch.from_numpy(image)[None])
    expected = steps.apply(image, np.zeros((0, 4)))
    assert float(factor[0]) == np.float32(expected.factor)
    assert tuple(window[0].tolist()) == expected.window
    return np.asarray(np.abs(shown[0].numpy() - expected.image), dtype=np.float32)


@pytest.mark.parametrize(
    ("crop", "aspect", "intensity"),
    list(product((True, False), ("pad", "crop", "stretch"), ("top", "brightest", "off"))),
)
def test_noise_of_any_size_within_five_times_the_input(crop: bool, aspect: str, intensity: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(8):
        steps = Preprocessing(
            height=int(random.integers(40, 120)),
            width=int(random.integers(40, 160)),
            crop=crop,
            aspect=aspect,  # type: ignore[arg-type]
            intensity=intensity,  # type: ignore[arg-type]
        )
        image = random.integers(0, 256, random.integers(16, 200, 2), np.uint8)
        image[: random.integers(8)] = 0
        image[:, : random.integers(8)] = 0
        assert agrees(steps, image).max() == 0


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_whole_multiples_of_the_input(times: int) -> None:
    image = np.random.default_rng(times).integers(11, 256, (64 * times, 92 * times), np.uint8)
    assert agrees(SMALL, image).max() == 0


def test_much_larger_images_differ_by_rounding_alone() -> None:
    image = picture(height=64 * (TAPS + 3) + 5, width=92 * (TAPS + 3) + 7)
    difference = agrees(SMALL, image)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    images = [picture(seed, border=5 + 9 * seed) for seed in range(3)]
    together = Preparation(SMALL)(torch.from_numpy(np.stack(images)))
    for row, image in enumerate(images):
        for whole, alone in zip(together, Preparation(SMALL)(torch.from_numpy(image)[None]), strict=True):
            torch.testing.assert_close(whole[row], alone[0], rtol=0, atol=0)
    assert len({tuple(window.tolist()) for window in together[2]}) == 3


def test_borders_by_hand() -> None:
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    image[0, 20:60, 10:90] = 11
    image[1, :] = 10  # black still
    image[2, 20:60, 10:90] = 11
    image[2, 5, 10:12] = 255  # exactly 2 %: border
    image[2, 80, 10:13] = 255  # 3 %: tissue
    assert border_windows(image).tolist() == [[10, 20, 90, 60], [0, 0, 100, 100], [10, 20, 90, 81]]


def test_factors_by_hand() -> None:
    image = torch.tensor([[[20, 30, 40, 60]], [[0, 10, 90, 100]], [[0, 0, 0, 10]]], dtype=torch.uint8)
    assert intensity_factors(image, 1.0).tolist() == [70 / 35, 70 / 95, 1.0]
    assert intensity_factors(image, 0.5).tolist() == [70 / 50, 70 / 100, 1.0]


@pytest.mark.slow
def test_onnx_keeps_numbers_in_double_precision(tmp_path: Path) -> None:
    """A row that is bright by exactly 2 % is a border, also where a program would round 0.02 to float32."""
    pytest.importorskip("onnxruntime", reason="extra: onnx")
    tied = np.zeros((2, 100, 100), np.uint8)
    tied[:, 20:60, 10:90] = np.random.default_rng(0).integers(20, 200, (40, 80))
    tied[:, 5, 10:12] = 255
    steps = Preprocessing(height=40, width=46)
    graph = Graph(
        name="preparation",
        module=Preparation(steps).eval(),
        outputs=("shown", "factor", "window"),
        axes={0: "batch", 1: "height", 2: "width"},
        trials=(torch.from_numpy(tied), torch.from_numpy(picture(height=333, width=431))[None]),
        about={"use": "Research use only."},
    )
    program = traced(graph)
    assert write_onnx(graph, program, tmp_path / "p.onnx") == 0
    assert b"preparation.py" not in (tmp_path / "p.onnx").read_bytes()
    window = graph.module(graph.trials[0])[2]
    assert tuple(window[0].tolist()) == steps.apply(tied[0], np.zeros((0, 4))).window


def test_a_graph_that_is_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liverattn.exporting.onnx.LARGEST", 100)
    trials = (torch.zeros(2, 50),)
    graph = Graph("line", torch.nn.Linear(50, 1), ("y",), {0: "batch"}, trials, {"use": "none"})
    with pytest.raises(InputError, match="one ONNX file holds 2"):
        write_onnx(graph, traced(graph), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_all_real_images() -> None:
    if "LIVERATTN_AUL" not in os.environ:
        pytest.skip("LIVERATTN_AUL does not name the real images")
    paths = sorted(Path(os.environ["LIVERATTN_AUL"]).glob("*/image/*.jpg"))[::25]
    assert paths
    for path in paths:
        for steps in (Preprocessing(), Preprocessing(height=480, width=690)):
            assert agrees(steps, read_grey(path)).max() == 0, path


def test_onnxruntime_sends_nothing() -> None:
    code = (
        "import os, sys, liverattn.exporting.onnx\n"
        "assert 'onnxruntime' not in sys.modules\n"  # which reads the variable once, and reports from then on
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "1\n", done.stderr
