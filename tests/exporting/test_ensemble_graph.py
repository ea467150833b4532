"""The exported ensemble is the predictor, from grey pixels on; ONNX and torch.export give the same numbers."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from liverattn.bundle.bundle import Bundle
from liverattn.data.preprocessing import Preprocessing
from liverattn.exporting.graph import EnsembleGraph
from liverattn.exporting.preparation import Preparation
from liverattn.prediction.predictor import Predictor
from tests.bundle.builders import architecture, write_small
from tests.prediction.conftest import picture

SIZES = ((150, 200), (260, 410), (95, 120), (300, 180))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    mirrored = architecture("b", cut="layer2", height=96, width=138, lambdas=(0.25, 1.0), mirror=True)
    parts = (architecture("a"), mirrored)
    return write_small(tmp_path_factory.mktemp("bundles") / "small", parts=parts, folds=2)


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
def test_the_graph_is_the_predictor(bundle: Bundle, size: tuple[int, int]) -> None:
    graph, predictor = EnsembleGraph(bundle).eval(), Predictor(bundle, device="cpu")
    images = [picture(seed, *size, border=5 + seed) for seed in range(3)]
    probabilities, *maps = graph(torch.from_numpy(np.stack(images)))
    expected = predictor.predict(images)
    np.testing.assert_allclose(probabilities.numpy(), [list(one.probabilities.values()) for one in expected], atol=1e-4)
    for row, one in enumerate(expected):
        for k, placed in enumerate(one.maps):
            np.testing.assert_allclose(maps[2 * k][row].numpy(), placed.attention, atol=1e-3)
            assert tuple(int(edge) for edge in maps[2 * k + 1][row]) == placed.window


@torch.inference_mode()
@pytest.mark.parametrize("aspect", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("intensity", ["top", "off", "brightest"])
def test_every_setting_of_the_preparation(aspect: str, crop: bool, intensity: str) -> None:
    steps = Preprocessing(height=64, width=92, aspect=aspect, crop=crop, intensity=intensity)  # type: ignore[arg-type]
    for seed, size in enumerate([(150, 200), (60, 80), (41, 300)]):
        image = (
            picture(seed, *size) if min(size) > 100 else np.random.default_rng(seed).integers(0, 255, size, np.uint8)
        )
        shown, factor, window = Preparation(steps)(torch.from_numpy(image)[None])
        expected = steps.apply(image, np.zeros((0, 4)))
        difference = np.abs(shown[0].numpy() - expected.image)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01
        assert float(factor[0]) == pytest.approx(expected.factor, rel=1e-6)
        assert tuple(int(edge) for edge in window[0]) == expected.window


@torch.inference_mode()
def test_black_images_and_black_tops() -> None:
    preparation = Preparation(Preprocessing(height=64, width=92))
    images = np.zeros((2, 100, 140), np.uint8)
    images[1, 80:] = 90
    shown, factor, window = preparation(torch.from_numpy(images))
    for row, image in enumerate(images):
        expected = Preprocessing(height=64, width=92).apply(image, np.zeros((0, 4)))
        assert float(factor[row]) == pytest.approx(expected.factor)
        assert tuple(int(edge) for edge in window[row]) == expected.window
        np.testing.assert_allclose(shown[row].numpy(), expected.image, atol=1)


@torch.inference_mode()
def test_real_images(bundle: Bundle) -> None:
    if "LIVERATTN_AUL" not in os.environ:
        pytest.skip("LIVERATTN_AUL does not name the real images")
    graph, predictor = EnsembleGraph(bundle).eval(), Predictor(bundle, device="cpu")
    paths = sorted(Path(os.environ["LIVERATTN_AUL"]).glob("*/image/*.jpg"))[::60]
    for one in predictor.predict(paths):
        probabilities, *_ = graph(torch.from_numpy(one.image)[None])
        np.testing.assert_allclose(probabilities[0].numpy(), list(one.probabilities.values()), atol=1e-4)
