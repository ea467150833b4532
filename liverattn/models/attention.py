"""Supervised attention: weights, pooling and the head that makes the attention logits (paper: Eq. 2, Eq. 3, Fig. 3).

Shapes: B cases, C channels, h w grid, S scales.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NO_SCALES = "Expected `scales` to hold at least one lambda, but got none."


def attention_weights(scores: Tensor, scale: float) -> Tensor:
    r"""Weights of Eq. 3, normalized over the cells.

    .. math:: w_{ij} = \frac{p_{ij}}{\sum_{ij} p_{ij}}, \qquad p_{ij} = \sigma(\lambda s_{ij})

    Computed as a softmax over cells of :math:`\log\sigma(\lambda s)` in float32. This equals the quotient (to 1e-16 in
    float64), while the quotient itself is 0 / 0 once all s are below about -90 (float32) or -18 (half precision):
    what a trained network produces on a healthy liver.

    lambda = 0 gives the plain average of Eq. 2, and so does any constant s. lambda to infinity gives the mean over
    {s > 0}, or the largest cell if all s < 0 (the paper's text names only that second case).

    Args:
        scores: (B, 1, h, w) attention logits s, any floating type.
        scale: lambda, >= 0.

    Returns:
        (B, 1, h, w) float32 (float64 for float64 scores), >= 0, summing to 1 over the cells.

    Raises:
        ValueError: Scores of another shape, or lambda negative or not finite.

    Example:
        >>> attention_weights(torch.tensor([[[[40.0, -40.0]]]]), 1.0)
        tensor([[[[1.0000e+00, 4.2484e-18]]]])
    """
    if scores.dim() != 4 or scores.shape[1] != 1:
        raise ValueError(f"Expected `scores` of shape (B, 1, h, w), but got {tuple(scores.shape)}.")
    if not 0 <= scale < math.inf:
        raise ValueError(f"Expected `scale` (lambda) to be finite and not negative, but got {scale}.")
    precise = scores if scores.dtype == torch.float64 else scores.float()
    with torch.autocast(scores.device.type, enabled=False):
        return F.logsigmoid(precise * scale).flatten(2).softmax(dim=2).view_as(scores)


def attention_pool(features: Tensor, scores: Tensor, scales: Sequence[float]) -> Tensor:
    r"""Weighted average of a feature map, Eq. 3, once for each lambda.

    .. math:: z_k = \sum_{ij} w_{ij} x_{kij}

    Several scales are concatenated: "It is also possible to simultaneously use different scales" (the way is our
    reading).

    Args:
        features: (B, C, h, w) feature map x.
        scores: (B, 1, h, w) attention logits s.
        scales: S values of lambda.

    Returns:
        (B, C * S), in the order of ``scales``, float32 (float64 for float64 features).

    Raises:
        ValueError: No scales, or the grids differ.
    """
    if not len(scales):
        raise ValueError(NO_SCALES)
    if features.dim() != 4 or scores.shape != (features.shape[0], 1, *features.shape[2:]):
        raise ValueError(
            f"Expected `scores` of shape (B, 1, h, w) for features {tuple(features.shape)}, "
            f"but got {tuple(scores.shape)}."
        )
    precise = features if features.dtype == torch.float64 else features.float()
    with torch.autocast(features.device.type, enabled=False):
        weights = torch.cat([attention_weights(scores, scale) for scale in scales], dim=1).to(precise.dtype)
        pooled = torch.einsum("bchw,bshw->bsc", precise, weights)
    return pooled.flatten(1)


def attention_map(scores: Tensor, scales: Sequence[float]) -> Tensor:
    """The map to show (Fig. 4): the weights of Eq. 3, averaged over the scales.

    Args:
        scores: (B, 1, h, w) attention logits s.
        scales: S values of lambda.

    Returns:
        (B, 1, h, w), summing to 1 over the cells.

    Raises:
        ValueError: No scales.
    """
    if not len(scales):
        raise ValueError(NO_SCALES)
    return torch.stack([attention_weights(scores, scale) for scale in scales]).mean(dim=0)


class AttentionHead(nn.Conv2d):
    """The localization module: a 1x1 convolution from C channels to the attention logits s (C + 1 parameters).

    It starts at zero, so that a new network averages plainly (Eq. 2) and the loss finds out where to look.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1, kernel_size=1)
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
