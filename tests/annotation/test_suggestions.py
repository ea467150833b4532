"""Boxes that a network would draw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from liverattn.annotation.suggestions import Suggester
from liverattn.data.images import ImageError
from liverattn.data.preprocessing import Preprocessing
from liverattn.models.backbones import Backbone
from liverattn.models.classifier import LesionClassifier


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
