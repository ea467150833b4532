"""Eq. 2 and Eq. 3: every fact about the attention weights that the method relies on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from liverattn.models.attention import AttentionHead, attention_map, attention_pool, attention_weights


def random_case(seed: int = 0, cells: tuple[int, int] = (3, 4), channels: int = 5) -> tuple[Tensor, Tensor]:
    """Features (2, C, h, w) and attention logits (2, 1, h, w) in float64."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, channels, *cells, generator=generator, dtype=torch.float64)
    return features, 3 * torch.randn(2, 1, *cells, generator=generator, dtype=torch.float64)


def literal_pool(features: Tensor, scores: Tensor, scale: float) -> Tensor:
    """Eq. 3 as printed: a quotient of sums."""
    p = torch.sigmoid(scale * scores)
    return (p * features).sum(dim=(2, 3)) / p.sum(dim=(2, 3))


def test_weights_by_hand() -> None:
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4: weights 2/6, 3/6, 1/6.
    scores = torch.tensor([0.0, math.log(3), -math.log(3)]).view(1, 1, 1, 3)
    torch.testing.assert_close(attention_weights(scores, 1.0).flatten(), torch.tensor([2.0, 3.0, 1.0]) / 6)
    # lambda = 2: odds 1, 9, 1/9, so p = 5/10, 9/10, 1/10.
    torch.testing.assert_close(attention_weights(scores, 2.0).flatten(), torch.tensor([5.0, 9.0, 1.0]) / 15)
    features = torch.tensor([6.0, 12.0, -6.0]).view(1, 1, 1, 3)
    assert attention_pool(features, scores, (1.0,)).item() == pytest.approx(2 + 6 - 1)


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0, 4.0])
def test_equals_the_quotient_of_eq_3(scale: float) -> None:
    features, scores = random_case()
    difference = attention_pool(features, scores, (scale,)) - literal_pool(features, scores, scale)
    assert difference.abs().max() < 1e-12


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=12),
    scale=st.floats(0, 8, width=32),
    shift=st.floats(-5, 5),
)
def test_pooling_is_a_weighted_mean(scores: list[float], scale: float, shift: float) -> None:
    s = torch.tensor(scores, dtype=torch.float64).view(1, 1, 1, -1)
    weights = attention_weights(s, scale)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    # A larger s never has a smaller weight, and what is added to every cell is added to the mean.
    order = s.flatten().argsort(stable=True)
    assert (weights.flatten()[order].diff() >= -1e-15).all()
    features = torch.linspace(-1, 1, len(scores), dtype=torch.float64).view(1, 1, 1, -1)
    pooled, shifted = (attention_pool(x, s, (scale,)).item() for x in (features, features + shift))
    assert shifted - pooled == pytest.approx(shift, abs=1e-9)
    assert features.min() - 1e-12 <= pooled <= features.max() + 1e-12


def test_lambda_zero_is_the_plain_average_and_gives_scores_no_gradient() -> None:
    features, scores = random_case()
    scores.requires_grad_()
    pooled = attention_pool(features, scores, (0.0,))
    torch.testing.assert_close(pooled, features.mean(dim=(2, 3)), rtol=0, atol=1e-15)
    pooled.square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() == 0


@pytest.mark.parametrize("constant", [-1e4, -50.0, 0.0, 50.0])
def test_constant_scores_give_the_plain_average(constant: float) -> None:
    features, scores = random_case()
    pooled = attention_pool(features, torch.full_like(scores, constant), (0.25, 1.0))
    torch.testing.assert_close(pooled, features.mean(dim=(2, 3)).repeat(1, 2), rtol=0, atol=1e-14)


def test_one_cell_against_all_others_gives_its_feature() -> None:
    features, scores = random_case()
    scores.fill_(-40.0)
    scores[:, :, 1, 2] = 40.0
    torch.testing.assert_close(attention_pool(features, scores, (1.0,)), features[:, :, 1, 2], rtol=0, atol=1e-14)


def test_limit_of_large_lambda() -> None:
    features = torch.tensor([1.0, 2.0, 6.0, 100.0], dtype=torch.float64).view(1, 1, 2, 2)
    some_positive = torch.tensor([0.5, 0.1, 2.0, -0.1], dtype=torch.float64).view(1, 1, 2, 2)
    assert attention_pool(features, some_positive, (1e6,)).item() == pytest.approx((1 + 2 + 6) / 3, abs=1e-12)
    all_negative = torch.tensor([-0.5, -0.1, -2.0, -0.3], dtype=torch.float64).view(1, 1, 2, 2)
    assert attention_pool(features, all_negative, (1e6,)).item() == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_gradient_to_scores_in_closed_form(scale: float) -> None:
    # dz_k / ds_ij = lambda (1 - p_ij) w_ij (x_kij - z_k)
    features, scores = random_case()
    scores.requires_grad_()
    pooled = attention_pool(features, scores, (scale,))
    with torch.no_grad():
        p = torch.sigmoid(scale * scores)
        expected = scale * (1 - p) * (p / p.sum(dim=(2, 3), keepdim=True)) * (features - pooled[..., None, None])
    for k in range(features.shape[1]):
        (found,) = torch.autograd.grad(pooled[:, k].sum(), scores, retain_graph=True)
        torch.testing.assert_close(found, expected[:, k : k + 1], rtol=0, atol=1e-13)


def test_gradient_raises_the_score_of_the_cell_that_helps() -> None:
    features = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    scores = torch.zeros(1, 1, 1, 2, requires_grad=True)
    (-attention_pool(features, scores, (1.0,)).sum()).backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad.flatten(), torch.tensor([-0.125, 0.125]))  # 1 * 1/2 * 1/2 * (1 - 1/2)


def test_weighted_mean_of_the_head_over_cells_is_the_head_of_the_pooled_vector() -> None:
    features, scores = random_case()
    head = nn.Linear(5, 7, dtype=torch.float64)
    by_cell = head(features.movedim(1, -1)).movedim(-1, 1)
    for scale in (0.0, 1.0):
        mean = (attention_weights(scores, scale) * by_cell).sum(dim=(2, 3))
        torch.testing.assert_close(mean, head(attention_pool(features, scores, (scale,))), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_healthy_liver_gives_no_nan_in_any_precision(kind: torch.dtype, autocast: bool) -> None:
    features, scores = (part.to(kind) for part in random_case())
    scores = torch.full_like(scores, -1e4)
    scores[0, 0, 0, 0] = -1e4 + 8  # half precision still tells this from -1e4 (bfloat16 does not)
    features.requires_grad_()
    scores.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        pooled = attention_pool(features, scores, (0.25, 1.0))
    assert pooled.dtype == torch.float32
    assert pooled.isfinite().all()
    torch.testing.assert_close(pooled[1, :5], features[1].float().mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    pooled.sum().backward()
    assert features.grad is not None
    assert scores.grad is not None
    assert features.grad.isfinite().all()
    assert features.grad.abs().sum() > 0
    assert scores.grad.isfinite().all()
    assert literal_pool(features, scores, 1.0).isnan().any()  # why the quotient is not used


def test_several_lambdas_are_concatenated_in_order() -> None:
    features, scores = random_case()
    both = attention_pool(features, scores, (0.25, 1.0))
    assert both.shape == (2, 10)
    torch.testing.assert_close(both[:, :5], literal_pool(features, scores, 0.25))
    torch.testing.assert_close(both[:, 5:], literal_pool(features, scores, 1.0))


def test_map_is_the_mean_of_the_weights_over_lambdas() -> None:
    scores = torch.tensor([math.log(3), -math.log(3)]).view(1, 1, 1, 2)
    torch.testing.assert_close(attention_map(scores, (1.0,)).flatten(), torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(attention_map(scores, (0.0, 1.0)).flatten(), torch.tensor([0.625, 0.375]))
    assert attention_map(random_case()[1], (0.25, 1.0)).sum(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])


def test_head_has_one_weight_per_channel_and_starts_at_the_plain_average() -> None:
    head = AttentionHead(2048)
    assert sum(parameter.numel() for parameter in head.parameters()) == 2049
    features = torch.randn(2, 2048, 2, 3)
    scores = head(features)
    assert scores.shape == (2, 1, 2, 3)
    torch.testing.assert_close(attention_pool(features, scores, (1.0,)), features.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("features", "scores"),
    [
        ((2, 5, 3, 4), (2, 1, 4, 3)),  # another grid
        ((2, 5, 3, 4), (1, 1, 3, 4)),  # would broadcast silently
        ((2, 5, 3, 4), (2, 2, 3, 4)),  # two attention maps
        ((2, 5, 3, 4), (2, 3, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(features: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 1, h, w\)"):
        attention_pool(torch.zeros(features), torch.zeros(scores), (1.0,))


def test_illegal_lambdas_are_refused() -> None:
    features, scores = random_case()
    with pytest.raises(ValueError, match="at least one lambda"):
        attention_pool(features, scores, ())
    with pytest.raises(ValueError, match="at least one lambda"):
        attention_map(scores, ())
    for scale in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="not negative"):
            attention_weights(scores, scale)
    with pytest.raises(ValueError, match=r"\(B, 1, h, w\)"):
        attention_weights(scores[:, 0], 1.0)
