"""CUDA graphs change nothing but the time; the tests of real ones need a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from liverattn import train
from liverattn.cuda_graphs import NotCapturableError, Replayed, Tensors
from liverattn.errors import InputError
from liverattn.training.training_pass import TrainingPass
from tests.conftest import Result
from tests.trained import trained_weights

Command = Callable[..., Result]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class Copying(Replayed):
    """Stands for a replay: calls the function, and hands its gradients over as graphs do."""

    problem: str | None = None
    calls = 0

    def __call__(self, inputs: Tensors) -> Tensors:
        if self.problem is not None:
            raise NotCapturableError(self.problem)
        self.calls += 1
        self._forget_gradients()
        self.graph = self.graph or torch.cuda.CUDAGraph.__new__(torch.cuda.CUDAGraph)
        self.inputs = dict(inputs)
        outputs = {name: value.detach() for name, value in self.function(inputs).items()}
        self.gradients = [parameter.grad for parameter in self.parameters]
        return outputs


def training_pass(monkeypatch: pytest.MonkeyPatch, *, required: bool = False) -> tuple[TrainingPass, nn.Linear]:
    monkeypatch.setattr("liverattn.training.training_pass.Replayed", Copying)
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return TrainingPass(lambda inputs: {"loss": model(inputs["x"]).square().mean()}, model, capture=True,
                        required=required), model  # fmt: skip


@pytest.mark.parametrize("cases", [4, 2], ids=["of the captured size", "of another size"])
def test_gradients_are_those_of_autograd(cases: int, monkeypatch: pytest.MonkeyPatch) -> None:
    captured, model = training_pass(monkeypatch)
    captured({"x": torch.rand(4, 3)})
    x = torch.rand(cases, 3)
    losses = captured({"x": x})
    model.zero_grad()  # as Lightning does between the pass and its gradients
    captured.backward(losses["loss"])
    (expected,) = torch.autograd.grad(model(x).square().mean(), model.weight)
    torch.testing.assert_close(model.weight.grad, expected, rtol=0, atol=0)
    assert captured.replayed.calls == (2 if cases == 4 else 1)  # type: ignore[union-attr]


def test_what_cannot_be_captured_trains_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Copying, "problem", "it waits")
    passed, model = training_pass(monkeypatch)
    for _ in range(2):
        passed.backward(passed({"x": torch.rand(4, 3)})["loss"])
    assert model.weight.grad is not None
    assert capsys.readouterr().out == (
        "This network cannot be captured as CUDA graphs (it waits), so it trains without, only slower.\n"
    )
    with pytest.raises(InputError, match=r"cuda_graphs=true: this network cannot be captured \(it waits\). Use"):
        training_pass(monkeypatch, required=True)[0]({"x": torch.rand(4, 3)})


def test_they_need_a_gpu(command: Command, tiny: list[str]) -> None:
    result = command(train.main, *tiny, "trainer.cuda_graphs=true")
    assert result.status != 0
    assert "trainer.cuda_graphs=true needs a GPU and trainer.precision=bf16-mixed or 32-true" in result.err


def test_too_little_memory_is_said_in_one_message(
    command: Command, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr("liverattn.training.module.LesionModule.training_step", full)
    result = command(train.main, *tiny, "tracking=none")
    assert result.status == 1
    assert "too little free memory (CUDA out of memory. Tried to allocate 2.00 GiB.). Run fewer cells" in result.err
    assert "Traceback" not in result.err


@needs_gpu
def test_a_function_is_replayed_with_new_inputs() -> None:
    function = Replayed(lambda inputs: {"sum": inputs["x"] + inputs["y"]})
    for _ in range(3):
        x, y = torch.rand(2, 5, device="cuda")
        torch.testing.assert_close(function({"x": x, "y": y})["sum"], x + y, rtol=0, atol=0)
    assert not function.fits({"x": x[:2], "y": y})


@needs_gpu
def test_capturing_leaves_batch_statistics_and_random_numbers() -> None:
    norm = nn.BatchNorm1d(3).cuda()
    function = Replayed(lambda inputs: {"y": norm(inputs["x"])}, norm)
    torch.manual_seed(5)
    x = torch.rand(4, 3, device="cuda")
    expected = torch.nn.BatchNorm1d(3).cuda()
    expected(x)
    following = torch.rand(4, device="cuda")
    torch.manual_seed(5)
    function({"x": torch.rand(4, 3, device="cuda")})
    torch.testing.assert_close(torch.rand(4, device="cuda"), following, rtol=0, atol=0)
    torch.testing.assert_close(norm.state_dict(), expected.state_dict())


@needs_gpu
def test_a_function_that_waits_is_refused_and_works_on() -> None:
    x = torch.rand(4, device="cuda", requires_grad=True)

    def waiting(inputs: Tensors) -> dict[str, Tensor]:
        return {"y": x * (1 if float(inputs["x"].sum()) > 0 else 2)}

    with pytest.raises(NotCapturableError):
        Replayed(waiting)({"x": x.detach()})
    waiting({"x": x.detach()})["y"].sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


@needs_gpu
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("trainer.ema=0.9",),
        ("optim.frozen=[conv1,bn1]",),
        ("trainer.gradient_clip=0.1",),
        ("trainer.mixup=0",),
        ("trainer.precision=32-true",),
        ("trainer.data_on_device=false", "trainer.num_workers=2"),
    ],
    ids=" ".join,
)
def test_graphs_change_no_bit(options: tuple[str, ...], command: Command, tiny: list[str]) -> None:
    on_gpu: list[Any] = ["trainer=gpu" if option == "trainer=cpu" else option for option in tiny]
    with_graphs = trained_weights(command, on_gpu, "with", "trainer.cuda_graphs=true", *options)
    without = trained_weights(command, on_gpu, "without", "trainer.cuda_graphs=false", *options)
    torch.testing.assert_close(with_graphs, without, rtol=0, atol=0)
