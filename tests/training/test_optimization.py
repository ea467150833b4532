"""Parameter groups, schedule and frozen stages."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from liverattn.errors import InputError
from liverattn.models.backbones import Backbone
from liverattn.models.classifier import LesionClassifier
from liverattn.training.optimization import SgdRecipe


@pytest.fixture
def model() -> LesionClassifier:
    body = nn.Sequential()
    body.add_module("layer1", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    body.add_module("layer2", nn.Conv2d(4, 5, 3))
    return LesionClassifier(Backbone(body, 5), lambdas=(1.0,), outputs=2)


def rates_of(recipe: SgdRecipe, model: LesionClassifier, steps: int, beyond: int = 0) -> list[float]:
    """Rate of the first group at every step."""
    optimizer, scheduler = recipe.build(model, steps)
    rates = []
    for _ in range(steps + beyond):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_parameter_groups(model: LesionClassifier) -> None:
    optimizer, _ = SgdRecipe(trunk_rate=0.01, head_rate=0.05, weight_decay=1e-3, warmup=0.0).build(model, 10)
    found = {
        g["name"]: (g["lr"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups
    }
    assert found == {
        "trunk": (0.01, 1e-3, [(4, 3, 3, 3), (5, 4, 3, 3)]),
        "trunk_undecayed": (0.01, 0.0, [(4,), (4,), (4,), (5,)]),  # bias, scale, shift; bias
        "heads": (0.05, 1e-3, [(1, 5, 1, 1), (2, 5)]),
        "heads_undecayed": (0.05, 0.0, [(1,), (2,)]),
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_warmup_and_cosine_by_hand(model: LesionClassifier) -> None:
    # Two steps of ten up, then a cosine from the peak, at step 2, to a tenth of it, at step 10.
    recipe = SgdRecipe(trunk_rate=2.0, warmup=0.2, final=0.1)
    rates = rates_of(recipe, model, 10, beyond=3)
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(2 * (0.1 + 0.9 * 0.5))  # half way
    assert rates[4] == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))))  # a quarter
    assert rates[10:] == pytest.approx([0.2] * 3)  # and stays there
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert all(rate > 0 for rate in rates)


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"), [(0.0, 4, [1.0, 1.0]), (1.0, 4, [0.25, 0.5]), (0.05, 1, [1.0])]
)
def test_schedule_at_its_edges(model: LesionClassifier, warmup: float, steps: int, expected: list[float]) -> None:
    assert rates_of(SgdRecipe(trunk_rate=1.0, warmup=warmup), model, steps)[:2] == pytest.approx(expected)


def test_trunk_and_heads_move_in_proportion(model: LesionClassifier) -> None:
    optimizer, scheduler = SgdRecipe(trunk_rate=0.01, head_rate=0.04).build(model, 20)
    for _ in range(20):
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates["heads"] == pytest.approx(4 * rates["trunk"])
        assert rates["heads"] == rates["heads_undecayed"]
        optimizer.step()
        scheduler.step()


def test_two_steps_of_nesterov_by_hand(model: LesionClassifier) -> None:
    # v <- 0.9 v + g, w <- w - rate (g + 0.9 v); with g = 1 and rate 0.1: 0.19, then v = 1.9 and 0.271.
    optimizer, _ = SgdRecipe(head_rate=0.1, momentum=0.9, warmup=0.0).build(model, 10)
    bias = model.head.bias
    with torch.no_grad():
        bias.zero_()
    for expected in (-0.19, -0.19 - 0.271):
        bias.grad = torch.ones_like(bias)
        optimizer.step()
        assert bias.tolist() == pytest.approx([expected] * 2)


def test_weight_decay_pulls_weights_only(model: LesionClassifier) -> None:
    optimizer, _ = SgdRecipe(head_rate=0.1, momentum=0.0, weight_decay=0.5, warmup=0.0).build(model, 10)
    with torch.no_grad():
        model.head.weight.fill_(1.0)
        model.head.bias.fill_(1.0)
    for parameter in model.head.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert model.head.weight.unique().tolist() == pytest.approx([0.95])
    assert model.head.bias.unique().tolist() == [1.0]
    assert all(group["nesterov"] is False for group in optimizer.param_groups)  # there is none without momentum


def test_frozen_stages_get_no_gradient_and_no_step(model: LesionClassifier) -> None:
    recipe = SgdRecipe(frozen=("layer1",))
    frozen = recipe.freeze(model)
    assert frozen == [model.trunk.body.layer1]
    optimizer, _ = recipe.build(model, 10)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    logits, scores = model(torch.rand(4, 1, 12, 12) * 255)
    (logits.sum() + scores.sum()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        is_frozen = name.startswith("trunk.body.layer1")
        assert parameter.requires_grad is not is_frozen
        assert (parameter.grad is None) is is_frozen, name
        if is_frozen:
            assert torch.equal(parameter, before[name])
    assert not torch.equal(model.head.bias, before["head.bias"])
    assert all(parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"])


def test_a_frozen_trunk_leaves_the_heads(model: LesionClassifier) -> None:
    recipe = SgdRecipe(frozen=("layer1", "layer2"))
    recipe.freeze(model)
    optimizer, _ = recipe.build(model, 10)
    assert [group["name"] for group in optimizer.param_groups] == ["heads", "heads_undecayed"]


def test_nothing_is_frozen_unless_named(model: LesionClassifier) -> None:
    assert SgdRecipe().freeze(model) == []
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_unknown_stages_list_the_valid_ones(model: LesionClassifier) -> None:
    with pytest.raises(InputError, match=r"unknown stages layer7, head\. Valid: layer1, layer2"):
        SgdRecipe(frozen=("layer7", "layer1", "head")).freeze(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("trunk_rate", -0.01, "a number of at least 0"),
        ("head_rate", math.inf, "a number of at least 0"),
        ("weight_decay", None, "a number of at least 0"),
        ("momentum", 1.5, "a number of 0 to 1"),
        ("warmup", 5, "a number of 0 to 1"),
        ("final", math.nan, "a number of 0 to 1"),
        ("frozen", "layer1", "a list of stages"),
        ("frozen", None, "a list of stages"),
    ],
)
def test_numbers_without_a_meaning_are_refused(option: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=rf"Expected optim\.{option} to be {expected}.*, but got "):
        SgdRecipe(**{option: value})
