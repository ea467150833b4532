"""What is timed, what is left out, and that it is done once."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from liverattn.models.backbones import Backbone
from liverattn.models.classifier import LesionClassifier
from liverattn.training import probe
from liverattn.training.hardware import Hardware
from liverattn.training.optimization import SgdRecipe
from liverattn.training.probe import ROUNDS, candidates, fastest, remembered_fastest

USUAL = Hardware("cpu", "bf16-mixed", channels_last=True, threads=2)
SLOW, NEAR = replace(USUAL, precision="32-true"), replace(USUAL, channels_last=False)


def test_the_fastest_step_counts_and_what_is_hopeless_is_timed_twice() -> None:
    seconds = {USUAL: [9.0, 1.0, 1.0, 1.0, 9.0], NEAR: [9.0, 1.1, 1.1, 1.1, 1.2], SLOW: [4.0, 4.1]}
    turns: list[Hardware] = []

    def step(one: Hardware) -> float:
        turns.append(one)
        return seconds[one][turns.count(one) - 1]

    best, smallest = fastest([SLOW, NEAR, USUAL], step)
    assert best == USUAL and smallest == {USUAL: 1.0, NEAR: 1.1, SLOW: 4.0}
    assert turns == [*[SLOW, NEAR, USUAL] * 2, *[NEAR, USUAL] * (ROUNDS - 2)]  # in turns


def test_no_round_is_begun_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    timed: list[Hardware] = []
    best, _ = fastest([USUAL, NEAR], lambda one: timed.append(one) or (0.9 if one == NEAR else 1.0))  # type: ignore[func-returns-value]
    assert best == NEAR and timed == [USUAL, NEAR]


@pytest.mark.parametrize(
    ("usual", "count", "precisions"),
    [
        (USUAL, 5, {"bf16-mixed", "32-true"}),
        (SLOW, 3, {"32-true"}),  # bfloat16 would be emulated
        (replace(USUAL, threads=1), 4, {"bf16-mixed", "32-true"}),
        (replace(USUAL, accelerator="gpu", precision="16-mixed"), 4, {"16-mixed", "32-true"}),
    ],
)
def test_candidates(usual: Hardware, count: int, precisions: set[str]) -> None:
    made = candidates(usual)
    assert made[0] == usual and len(set(made)) == len(made) == count
    assert {one.precision for one in made} == precisions and {one.channels_last for one in made} == {True, False}
    assert {one.threads for one in made} == ({1, 2} if usual in (USUAL, SLOW) else {usual.threads})


def small_network(lambdas: Sequence[float] = (1.0,)) -> LesionClassifier:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU())
    return LesionClassifier(Backbone(body, 8), lambdas=lambdas, outputs=2)


def test_it_is_timed_once_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, memory = small_network(), tmp_path / "fastest.json"
    usual = Hardware("cpu", "32-true", channels_last=True, threads=torch.get_num_threads())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    found = remembered_fastest(network, (32, 44), SgdRecipe(), usual, memory=memory)
    assert found in candidates(usual) and "Fastest here: 32-true, " in capsys.readouterr().out
    (entry,) = json.loads(memory.read_text()).values()
    assert len(entry["ms_per_image"]) == len(candidates(usual)) and entry["seconds"] < 60
    assert torch.equal(torch.random.get_rng_state(), random) and torch.get_num_threads() == threads
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert remembered_fastest(network, (32, 44), SgdRecipe(), usual, memory=memory) == found
    assert capsys.readouterr().out == ""
    assert remembered_fastest(small_network([0.25, 1]), (32, 44), SgdRecipe(), usual, memory=memory) == found
    assert len(json.loads(memory.read_text())) == 1
    remembered_fastest(network, (32, 48), SgdRecipe(), usual, memory=memory)  # another input
    assert len(json.loads(memory.read_text())) == 2
    memory.write_text("{ cut off")
    remembered_fastest(network, (32, 44), SgdRecipe(), usual, memory=memory)
    assert len(json.loads(memory.read_text())) == 1
