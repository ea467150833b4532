"""Losses and mixup: hand values, torch's own functions, properties, gradients, degenerate and illegal input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from liverattn.data.datasets import Batch
from liverattn.training.objective import attention_loss, mixup, output_loss

CASES, OUTPUTS = 4, 7
LN3 = math.log(3)
seeds = st.integers(0, 2**31)
# Shares down to 1e-15: Beta(0.2, 0.2) draws them.
shares = st.one_of(st.sampled_from([0.0, 1.0, 1e-15, 0.5]), st.floats(0, 1, width=32))


def random_batch(seed: int, *, known: float = 1.0) -> Batch:
    """A batch in float64, of which the share ``known`` of labels and boxes is known; the rest holds anything."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    label_weight = (draw(CASES, OUTPUTS) <= known).double()
    target_weight = (draw(CASES) <= known).double()
    return Batch(
        image=255 * draw(CASES, 1, 4, 6),
        factor=draw(CASES),
        labels=(draw(CASES, OUTPUTS) > 0.5).double(),
        label_weight=label_weight,
        target=draw(CASES, 1, 2, 3),
        target_weight=target_weight,
        row=torch.arange(CASES),
    )


def random_outputs(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(CASES, OUTPUTS, generator=generator, dtype=torch.float64)
    return logits, 3 * torch.randn(CASES, 1, 2, 3, generator=generator, dtype=torch.float64)


def permutation_of(seed: int) -> Tensor:
    return torch.randperm(CASES, generator=torch.Generator().manual_seed(seed))


def test_output_loss_by_hand() -> None:
    # sigmoid(ln 3) = 3/4: -log(3/4) if positive, -log(1/4) if negative.
    logits = torch.tensor([[LN3, LN3], [0.0, 5.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    expected = (math.log(4 / 3) + math.log(4) + math.log(2)) / 3
    assert output_loss(logits, labels, weight).item() == pytest.approx(expected)
    # Half a weight counts half.
    weight[0, 1] = 0.5
    expected = (math.log(4 / 3) + 0.5 * math.log(4) + math.log(2)) / 2.5
    assert output_loss(logits, labels, weight).item() == pytest.approx(expected)


def test_attention_loss_by_hand() -> None:
    scores = torch.tensor([LN3, 0.0, 1.0, 1.0]).view(2, 1, 1, 2)
    target = torch.tensor([1.0, 0.5, 0.3, 0.3]).view(2, 1, 1, 2)
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert attention_loss(scores, target, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected)
    second = math.log(1 + math.e) - 0.3
    assert attention_loss(scores, target, torch.tensor([1.0, 1.0])).item() == pytest.approx((expected + second) / 2)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_losses_equal_torch_s_on_what_is_known(seed: int) -> None:
    batch, (logits, scores) = random_batch(seed, known=0.7), random_outputs(seed)
    known = batch["label_weight"] == 1
    expected = F.binary_cross_entropy_with_logits(logits[known], batch["labels"][known]) if known.any() else 0.0
    assert output_loss(logits, batch["labels"], batch["label_weight"]).item() == pytest.approx(float(expected))
    boxed = batch["target_weight"] == 1
    expected = F.binary_cross_entropy(scores[boxed].sigmoid(), batch["target"][boxed]) if boxed.any() else 0.0
    found = attention_loss(scores, batch["target"], batch["target_weight"])
    assert found.item() == pytest.approx(float(expected), rel=1e-9)


@given(seeds, st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_what_is_unknown_has_no_say(seed: int, other: float) -> None:
    batch, (logits, scores) = random_batch(seed, known=0.6), random_outputs(seed)
    hidden = batch["label_weight"] == 0
    first = output_loss(logits, batch["labels"], batch["label_weight"])
    second = output_loss(logits.masked_fill(hidden, other), batch["labels"], batch["label_weight"])
    assert first.item() == pytest.approx(second.item(), abs=1e-12)
    boxless = (batch["target_weight"] == 0).view(-1, 1, 1, 1)
    first = attention_loss(scores, batch["target"], batch["target_weight"])
    second = attention_loss(scores.masked_fill(boxless, other), batch["target"], batch["target_weight"])
    assert first.item() == pytest.approx(second.item(), abs=1e-12)


def test_gradients_point_to_the_label() -> None:
    logits = torch.tensor([[LN3, LN3, 2.0]], requires_grad=True)
    output_loss(logits, torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0]])).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.75, 0.0]]) / 2)  # (p - y) / 2 known
    scores = torch.zeros(1, 1, 1, 2, requires_grad=True)
    attention_loss(scores, torch.tensor([1.0, 0.25]).view(1, 1, 1, 2), torch.ones(1)).backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad.flatten(), torch.tensor([-0.5, 0.25]) / 2)


def test_nothing_known_is_zero_with_zero_gradient() -> None:
    for kind in (torch.float32, torch.float16):
        logits = torch.full((2, 3), 9.0, dtype=kind, requires_grad=True)
        scores = torch.full((2, 1, 2, 2), -9.0, dtype=kind, requires_grad=True)
        zeros = torch.zeros(2, 3, dtype=kind)
        total = output_loss(logits, zeros, zeros)
        total = total + attention_loss(scores, torch.zeros_like(scores), torch.zeros(2, dtype=kind))
        assert total.item() == 0
        total.backward()
        for values in (logits, scores):
            assert values.grad is not None
            assert (values.grad == 0).all()


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = output_loss(logits, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2))
    assert loss.item() == pytest.approx(1e4)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.5, -0.5]]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same as input size"):
        output_loss(torch.zeros(2, 3), torch.zeros(2, 1), torch.ones(2, 3))
    with pytest.raises(ValueError, match="same as input size"):
        attention_loss(torch.zeros(2, 1, 2, 3), torch.zeros(2, 1, 3, 2), torch.ones(2))


def test_mixup_by_hand() -> None:
    batch = Batch(
        image=torch.tensor([0.0, 100.0]).view(2, 1, 1, 1),
        factor=torch.tensor([1.0, 2.0]),
        labels=torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]),
        label_weight=torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]),
        target=torch.tensor([1.0, 0.0, 0.5, 1.0]).view(2, 1, 1, 2),
        target_weight=torch.ones(2),
        row=torch.tensor([7, 3]),
    )
    mixed = mixup(batch, 0.75, torch.tensor([1, 0]))
    assert mixed["image"].flatten().tolist() == [25, 75]
    assert mixed["target"].flatten().tolist() == [0.875, 0.25, 0.625, 0.75]
    # Known on both sides: mixed. Known on one side: its value, with that side's share. On none: weight 0.
    assert mixed["labels"].tolist() == [[0.75, 1, 1, 0], [0.25, 1, 1, 0]]
    assert mixed["label_weight"].tolist() == [[1, 0.75, 0.25, 0], [1, 0.25, 0.75, 0]]
    assert mixed["target_weight"].tolist() == [1, 1]
    assert mixed["row"].tolist() == [7, 3]
    assert mixed["factor"].tolist() == [1, 2]
    assert batch["image"].flatten().tolist() == [0, 100]  # the batch itself is left alone


@given(seeds, st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_gamma_one_keeps_and_gamma_zero_exchanges(seed: int, known: float) -> None:
    batch, permutation = random_batch(seed, known=known), permutation_of(seed)
    for gamma, order in ((1.0, torch.arange(CASES)), (0.0, permutation)):
        mixed = mixup(batch, gamma, permutation)
        for name in ("image", "labels", "label_weight", "target", "target_weight"):
            expected = batch[name][order]  # type: ignore[literal-required]
            if name == "labels":
                expected = expected * batch["label_weight"][order]  # 0 where unknown
            elif name == "target":
                expected = expected * batch["target_weight"][order].view(-1, 1, 1, 1)
            torch.testing.assert_close(mixed[name], expected, rtol=0, atol=0)  # type: ignore[literal-required]
        assert torch.equal(mixed["row"], batch["row"])


@given(seeds, shares, st.sampled_from([1.0, 0.6, 0.1]))
@settings(max_examples=60, deadline=None)
def test_loss_of_the_mixed_is_the_mix_of_the_losses(seed: int, gamma: float, known: float) -> None:
    batch, permutation, (logits, scores) = random_batch(seed, known=known), permutation_of(seed), random_outputs(seed)
    mixed = mixup(batch, gamma, permutation)
    gamma = torch.tensor(gamma, dtype=torch.float32).item()
    # Each pair counts its two sides by their shares; the mean is over what is known of either.
    sums = []
    for order, share in ((torch.arange(CASES), gamma), (permutation, 1 - gamma)):
        losses = F.binary_cross_entropy_with_logits(logits, batch["labels"][order], reduction="none")
        cells = F.binary_cross_entropy_with_logits(scores, batch["target"][order], reduction="none").mean((1, 2, 3))
        weight, boxed = batch["label_weight"][order], batch["target_weight"][order]
        parts = ((losses * weight).sum(), weight.sum(), (cells * boxed).sum(), boxed.sum())
        sums.append(share * torch.stack(parts))
    loss, labels, attention, boxes = (sums[0] + sums[1]).tolist()
    found = output_loss(logits, mixed["labels"], mixed["label_weight"]).item()
    assert found == pytest.approx(loss / labels if labels else 0.0, rel=1e-9)
    found = attention_loss(scores, mixed["target"], mixed["target_weight"]).item()
    assert found == pytest.approx(attention / boxes if boxes else 0.0, rel=1e-9)
    for name in ("labels", "target"):
        values = mixed[name]  # type: ignore[literal-required]
        assert ((values >= 0) & (values <= 1)).all()


def test_a_label_known_on_one_side_keeps_its_value_at_any_share() -> None:
    batch = random_batch(0)
    batch["labels"] = torch.ones(CASES, OUTPUTS)
    batch["label_weight"] = torch.ones(CASES, OUTPUTS)
    batch["label_weight"][1] = 0
    mixed = mixup(batch, 1e-15, torch.tensor([1, 0, 2, 3]))
    assert mixed["labels"].unique().tolist() == [1.0]
    assert mixed["label_weight"][:, 0].tolist() == pytest.approx([1e-15, 1, 1, 1])


def test_fully_known_losses_mix_as_such() -> None:
    batch, permutation, (logits, _) = random_batch(1), torch.tensor([3, 2, 1, 0]), random_outputs(1)
    mixed = mixup(batch, 0.3, permutation)
    one, other = (
        output_loss(logits, batch["labels"][o], batch["label_weight"]) for o in (torch.arange(4), permutation)
    )
    found = output_loss(logits, mixed["labels"], mixed["label_weight"])
    assert found.item() == pytest.approx((0.3 * one + 0.7 * other).item(), rel=1e-6)  # gamma is float32


def test_a_gamma_for_each_case() -> None:
    batch, permutation = random_batch(2, known=0.7), torch.tensor([1, 2, 3, 0])
    gammas = torch.tensor([0.0, 0.25, 0.5, 1.0])
    together = mixup(batch, gammas, permutation)
    for case, gamma in enumerate(gammas.tolist()):
        alone = mixup(batch, gamma, permutation)
        for name in ("image", "labels", "label_weight", "target", "target_weight"):
            torch.testing.assert_close(together[name][case], alone[name][case])  # type: ignore[literal-required]
    torch.testing.assert_close(together["image"][1], 0.25 * batch["image"][1] + 0.75 * batch["image"][2])


def test_entries_of_a_caller_s_own_are_passed_on() -> None:
    batch = {**random_batch(0), "site": ["a", "b", "c", "d"]}
    assert mixup(batch, 0.5, torch.arange(CASES))["site"] == ["a", "b", "c", "d"]  # type: ignore[type-var, index]


def test_illegal_mixup_is_refused() -> None:
    batch, order = random_batch(0), torch.arange(CASES)
    with pytest.raises(ValueError, match="`permutation` to have 4 entries, but got 3"):
        mixup(batch, 0.5, torch.arange(3))
    for gamma in (-0.1, 1.5, math.nan, torch.full((3,), 0.5)):
        with pytest.raises(ValueError, match="`gamma` to be one number or"):
            mixup(batch, gamma, order)
    whole = {**batch, "image": batch["image"].to(torch.uint8)}
    with pytest.raises(ValueError, match=r"floating type, but got torch\.uint8"):
        mixup(whole, 0.5, order)  # type: ignore[type-var]
