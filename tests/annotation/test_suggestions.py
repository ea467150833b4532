"""Boxes that a network would draw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from liverattn.annotation.suggestions import Suggester, boxes_of_map
from liverattn.data.images import ImageError
from liverattn.data.preprocessing import Preprocessing
from liverattn.models.backbones import Backbone
from liverattn.models.classifier import LesionClassifier


def test_a_part_becomes_a_box_in_original_pixels() -> None:
    attention = np.zeros((4, 6), np.float32)
    attention[1, 2:4] = 1
    # 6x4 cells over 120x80 pixels from (10, -5): cells of 20. A value of 0.5 lies half a cell beyond the centers.
    assert boxes_of_map(attention, 0.5, (10, -5, 130, 75)).tolist() == [[50, 15, 90, 35]]


def test_parts_are_apart_and_the_largest_comes_first() -> None:
    attention = np.zeros((5, 9), np.float32)
    attention[1, 1], attention[2:4, 5:8] = 1, 1
    large, small = boxes_of_map(attention, 0.5, (0, 0, 90, 50)).tolist()
    assert small == [10, 10, 20, 20] and large == [50, 20, 80, 40]


@pytest.mark.parametrize("attention", [np.zeros((3, 4)), np.full((3, 4), 0.5)])
def test_nothing_above_the_threshold_is_no_box(attention: np.ndarray) -> None:
    assert boxes_of_map(attention.astype(np.float32), 0.5, (0, 0, 40, 30)).shape == (0, 4)


def test_slivers_are_left_out() -> None:
    attention = np.zeros((3, 3), np.float32)
    attention[1, 1] = 0.51  # exceeds 0.5 within a sample or two of the center only
    assert len(boxes_of_map(attention, 0.5, (0, 0, 30, 30))) == 0


@given(st.integers(0, 3), st.integers(0, 5), st.integers(-40, 40), st.integers(1, 20))
def test_boxes_follow_the_window(row: int, column: int, offset: int, scale: int) -> None:
    attention = np.zeros((4, 6), np.float32)
    attention[row, column] = 1
    plain = boxes_of_map(attention, 0.5, (0, 0, 60, 40))
    moved = boxes_of_map(attention, 0.5, (offset, -offset, offset + 60 * scale, 40 * scale - offset))
    np.testing.assert_allclose(moved, plain * scale + (offset, -offset, offset, -offset))


class Brightness(nn.Module):
    """A trunk whose feature map is the image itself, averaged over cells of 16 pixels."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image, 16)


def test_crop_padding_and_resize_are_undone(tmp_path: Path) -> None:
    # 400x300 with a black border of 40 pixels; tissue at 60, a bright lesion where nothing else is.
    pixels = np.zeros((300, 400), np.uint8)
    pixels[40:260, 40:360] = 60
    pixels[150:214, 100:196] = 240
    Image.fromarray(pixels).save(tmp_path / "a.png")
    network = LesionClassifier(Backbone(Brightness(), 3), lambdas=[1.0], outputs=1)
    with torch.no_grad():  # s = 0 halfway between tissue and lesion, in ImageNet-normalized grey
        network.attention.weight[:] = torch.tensor([20.0, 0, 0]).view(1, 3, 1, 1)
        grey = (150 * 70 / 60 / 255 - network.mean[0, 0, 0, 0]) / network.std[0, 0, 0, 0]
        network.attention.bias[:] = -20 * grey
    suggester = Suggester(network, Preprocessing(), clip=False, threshold=0.5, seen=["a"])
    (box,) = suggester.boxes(tmp_path / "a.png")
    assert np.abs(np.array(box) - (100, 150, 196, 214)).max() <= 12  # half a cell
    assert suggester.seen == {"a"}
    with pytest.raises(ImageError, match="does not exist"):
        suggester.boxes(tmp_path / "b.png")
