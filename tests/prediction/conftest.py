"""A small bundle, and pictures that look like ultrasound to the preprocessing."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from liverattn.bundle.bundle import Bundle
from liverattn.prediction.predictor import Predictor
from tests.bundle.builders import architecture, write_small


def picture(seed: int = 0, height: int = 150, width: int = 200, border: int = 12) -> NDArray[np.uint8]:
    """Speckle with a bright blob inside a black border."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width), np.uint8)
    inside = random.integers(40, 110, (height - 2 * border, width - 2 * border))
    y, x = random.integers(20, height - 60), random.integers(20, width - 60)
    inside[y : y + 25, x : x + 30] += 120
    image[border:-border, border:-border] = inside
    return image


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two architectures of different sizes and grids, two fold runs each."""
    parts = (architecture("a"), architecture("b", cut="layer2", height=96, width=138, lambdas=(0.25, 1.0)))
    return write_small(tmp_path_factory.mktemp("bundles") / "small", parts=parts, folds=2)


@pytest.fixture(scope="session")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle, device="cpu", batch_size=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures, one of them below another folder."""
    from PIL import Image

    (tmp_path / "in" / "more").mkdir(parents=True)
    for seed in range(6):
        Image.fromarray(picture(seed)).save(tmp_path / "in" / f"{seed}.png")
    Image.fromarray(picture(6)).save(tmp_path / "in" / "more" / "6.png")
    return tmp_path / "in"
