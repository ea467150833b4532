"""Image to output logits and attention logits (paper: Fig. 3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from liverattn.errors import InputError, expect_boolean, expect_number
from liverattn.models.attention import AttentionHead, attention_pool
from liverattn.models.backbones import Backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_LAMBDA = 1000  # from far below on, one cell has all the weight and nothing is learned of the others


class Standardization(nn.BatchNorm2d):
    r"""Features x to :math:`(x_k - \mu_k) / (\sigma_k \sqrt{C})`: a vector of them has a squared length of about 1.

    The paper puts its heads on the feature map as it is. After a ReLU all features are positive and of very different
    size: a linear head learns slowly from them, and tolerates a rate of about 4 / |z|^2, another one for every trunk.
    Attention head and dense layer stay linear in x: mean and deviation of the trained network are constants that could
    be multiplied into their weights, and Eq. 3's weights sum to 1, so features may as well be standardized after
    pooling. There are no parameters.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) in float32, by the statistics of the batch in training, by their running means otherwise."""
        with torch.autocast(features.device.type, enabled=False):
            precise = features if features.dtype == torch.float64 else features.float()
            return super().forward(precise) / math.sqrt(self.num_features)


class LesionClassifier(nn.Module):
    """Trunk, supervised attention, and one dense layer.

    Input are intensities after Eq. 1 on a scale of 0 to 255, one channel; the network itself divides by 255, copies
    grey to three channels and applies ImageNet's mean and deviation, so that it needs nothing else to be used.

    Args:
        trunk: Feature extractor; its last feature map has C channels.
        lambdas: S scales of Eq. 3; (0,) is the paper's simple approach (Eq. 2).
        outputs: K, number of output logits.
        mirror: Outside training, average the logits of each image and of its mirror image (not in the paper; training
            flips half of the images, so the network has learned both). Twice the time.

    Raises:
        InputError: No lambda, a negative, a huge one, or one twice; or mirror is neither true nor false.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Backbone, *, lambdas: Sequence[float], outputs: int, mirror: bool = False) -> None:
        super().__init__()
        self.trunk, self.mirror = trunk, mirror
        if not isinstance(lambdas, list | tuple) or not lambdas:
            raise InputError(
                "Expected model.attention.lambdas to be a list of one or more numbers, such as [1] or [0.25,1], but "
                f"got {lambdas!r}."
            )
        for scale in lambdas:
            expect_number("model.attention.lambdas", scale, 0, MOST_LAMBDA)
        self.lambdas = tuple(float(scale) for scale in lambdas)
        if len(set(self.lambdas)) < len(self.lambdas):
            raise InputError(f"Expected model.attention.lambdas to hold each number once, but got {list(lambdas)}.")
        expect_boolean("model.mirror", mirror)
        self.standardization = Standardization(trunk.channels)
        self.attention = AttentionHead(trunk.channels)
        self.head = nn.Linear(trunk.channels * len(self.lambdas), outputs)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images.

        Args:
            image: (B, 1, H, W) float, 0 to 255 (more where Eq. 1 brightens).

        Returns:
            Output logits (B, K) float32 and attention logits s (B, 1, h, w) float32. With ``mirror``, s is the mean of
            both views on the image's own cells; each view was pooled with its own.

        Raises:
            ValueError: Not one channel.
        """
        if image.dim() != 4 or image.shape[1] != 1:
            raise ValueError(f"Expected `image` of shape (B, 1, H, W), but got {tuple(image.shape)}.")
        logits, scores = self._seen(image)
        if self.mirror and not self.training:
            other_logits, other_scores = self._seen(image.flip(-1))
            return (logits + other_logits) / 2, (scores + other_scores.flip(-1)) / 2
        return logits, scores

    def _seen(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.standardization(self.trunk((image / 255 - self.mean) / self.std))
        with torch.autocast(image.device.type, enabled=False):
            scores = self.attention(features)
            return self.head(attention_pool(features, scores, self.lambdas)), scores

    @torch.no_grad()
    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the feature map for an input size, read from the feature map; the network stays as it was."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        feature_map = self.trunk(self.mean.new_zeros(1, 3, height, width))
        for module, mode in modes:  # parents first: a frozen stage stays in evaluation mode
            module.train(mode)
        return int(feature_map.shape[2]), int(feature_map.shape[3])
