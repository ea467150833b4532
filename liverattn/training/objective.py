"""Losses with unknown labels masked, and mixup: pure functions.

Shapes: B cases, K outputs, h w grid, H W image.
"""

from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from liverattn.data.datasets import Batch

BatchLike = TypeVar("BatchLike", bound=Batch)


def output_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy over the outputs, mean over known labels ("seven sigmoids").

    Args:
        logits: (B, K).
        labels: (B, K) in [0, 1]; anything finite where unknown.
        weight: (B, K) in [0, 1], 0 where unknown.

    Returns:
        Scalar; 0, with zero gradient, if nothing is known.
    """
    return _weighted_mean(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), weight)


def attention_loss(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of sigmoid(s) with the reduced mask, mean over cells and cases with known boxes.

    lambda does not enter: inside this loss it would only rescale s (our reading; the paper applies lambda "to the local
    prediction before applying the sigmoid function" and leaves the loss open).

    Args:
        scores: (B, 1, h, w) attention logits s.
        target: (B, 1, h, w) in [0, 1].
        weight: (B,) in [0, 1], 0 where boxes are unknown.

    Returns:
        Scalar; 0, with zero gradient, if no boxes are known.
    """
    per_case = F.binary_cross_entropy_with_logits(scores, target, reduction="none").mean(dim=(1, 2, 3))
    return _weighted_mean(per_case, weight)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).tiny)


def mixup(batch: BatchLike, gamma: float | Tensor, permutation: Tensor) -> BatchLike:
    r"""Mix each case with another one: image, labels and attention target by the same gamma (Zhang et al. 2018).

    .. math:: x \leftarrow \gamma x_a + (1 - \gamma) x_b

    The paper applies "mixup with a coefficient of 0.2" and does not say to what; binary cross-entropy is linear in its
    target, so mixing labels equals mixing the two losses. Unknown labels are mixed as losses: a label known on one side
    only keeps its value, with that side's share as weight.

    Args:
        batch: ``image`` float (B, 1, H, W), ``labels`` and ``label_weight`` (B, K), ``target`` (B, 1, h, w),
            ``target_weight`` (B,); other entries are passed on unmixed.
        gamma: Share of the first case, in [0, 1]: one number, or (B,).
        permutation: (B,) int64, the second case of each pair.

    Returns:
        A batch of the same form.

    Raises:
        ValueError: The permutation's length is not B, gamma has another shape or lies outside [0, 1] (looked at on the
            CPU only), or the image holds integers.
    """
    image, cases = batch["image"], len(batch["image"])
    if len(permutation) != cases:
        raise ValueError(f"Expected `permutation` to have {cases} entries, but got {len(permutation)}.")
    if not image.is_floating_point():
        raise ValueError(f"Expected `image` to be of a floating type, but got {image.dtype}.")
    share = torch.as_tensor(gamma, dtype=torch.float32)
    outside = share.device.type == "cpu" and not ((share >= 0) & (share <= 1)).all()  # a look at a GPU's would wait
    if share.shape not in ((), (cases,)) or outside:
        raise ValueError(f"Expected `gamma` to be one number or ({cases},), in [0, 1], but got {gamma}.")
    share = share.to(image.device, non_blocking=True).expand(cases)

    def mixed(values: Tensor) -> Tensor:
        first = _spread(share, values).to(values.dtype)
        # In place on copies, not on the batch: half the time for images.
        return (first * values).add_(values[permutation].mul_(1 - first))

    def mixed_known(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = mixed(weight)
        known = torch.where(total > 0, total, 1)
        return mixed(values * _spread(weight, values)) / _spread(known, values), total

    labels, label_weight = mixed_known(batch["labels"], batch["label_weight"])
    target, target_weight = mixed_known(batch["target"], batch["target_weight"])
    changed = {
        "image": mixed(image),
        "labels": labels,
        "label_weight": label_weight,
        "target": target,
        "target_weight": target_weight,
    }
    return cast(BatchLike, {**batch, **changed})


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """Append axes of length 1 until ``values`` has as many as ``like``."""
    return values.view(*values.shape, *[1] * (like.dim() - values.dim()))
