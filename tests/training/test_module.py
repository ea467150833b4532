"""Five training steps at a fixed seed, and what the module adds to the pure functions."""

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from liverattn.errors import InputError
from liverattn.models.backbones import build_backbone
from liverattn.models.classifier import LesionClassifier
from liverattn.training.module import LesionModule
from liverattn.training.optimization import SgdRecipe

# The module has a validation step; these fits have nothing to validate on.
pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step`")

CASES, STEPS = 4, 5
# Golden: a change here moves everybody's numbers and needs a line in CHANGELOG.md, "Changes that move numbers".
GOLDEN_LOSSES = [1.384517, 1.377331, 1.379197, 1.370822, 1.388848]


def batch(seed: int) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {
        "image": torch.from_numpy(random.uniform(0, 200, (CASES, 1, 48, 64)).astype(np.float32)),
        "factor": torch.ones(CASES),
        "labels": torch.from_numpy(random.integers(0, 2, (CASES, 3)).astype(np.float32)),
        "label_weight": torch.from_numpy((random.random((CASES, 3)) > 0.2).astype(np.float32)),
        "target": torch.from_numpy(random.random((CASES, 1, 12, 16)).astype(np.float32)),
        "target_weight": torch.tensor([1.0, 1.0, 1.0, 0.0]),
        "row": torch.arange(CASES),
    }


def make_module(**options: Any) -> LesionModule:
    torch.manual_seed(0)
    trunk = build_backbone(name="resnet18", cut="layer1", weights=None)
    model = LesionClassifier(trunk, lambdas=[0.25, 1.0], outputs=3)
    return LesionModule(model, **{"recipe": SgdRecipe(trunk_rate=0.01, head_rate=0.05), **options})


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []
        self.logged: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.logged.append(float(trainer.callback_metrics["train/loss"]))


def fitted(module: LesionModule, batches: list[dict[str, Tensor]], epochs: int = 1) -> Losses:
    losses = Losses()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[losses],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return losses


def five_losses(module: LesionModule, **changed: Tensor) -> list[float]:
    return fitted(module, [{**batch(seed), **changed} for seed in range(STEPS)]).values


def test_golden_losses() -> None:
    # Processors with other vector units sum in another order: they agree to about 1e-5 after five steps.
    np.testing.assert_allclose(five_losses(make_module()), GOLDEN_LOSSES, rtol=2e-4)


def test_an_epochs_loss_is_the_mean_of_its_cases() -> None:
    smaller = {name: value[:2] for name, value in batch(1).items()}
    losses = fitted(make_module(), [batch(0), smaller], epochs=3)
    expected = [
        (4 * first + 2 * second) / 6 for first, second in zip(losses.values[::2], losses.values[1::2], strict=True)
    ]
    assert losses.logged == pytest.approx(expected, rel=1e-6)
    assert len(set(losses.logged)) == 3


def test_the_seed_decides_the_mixing_and_nothing_else_does() -> None:
    torch.manual_seed(123)
    first = five_losses(make_module(seed=1))
    np.random.seed(9)
    assert first == five_losses(make_module(seed=1))
    assert first != five_losses(make_module(seed=2))
    assert five_losses(make_module(seed=1, mixup_beta=0)) == five_losses(make_module(seed=2, mixup_beta=0))


def test_alpha_zero_leaves_the_attention_to_the_outputs() -> None:
    elsewhere = {"target": torch.zeros(CASES, 1, 12, 16)}
    for alpha, matters in ((0.0, False), (1.0, True)):
        options = {"alpha": alpha, "mixup_beta": 0}
        differs = five_losses(make_module(**options)) != five_losses(make_module(**options), **elsewhere)
        assert differs == matters


def test_frozen_stages_keep_weights_and_statistics() -> None:
    module = make_module(recipe=SgdRecipe(frozen=["bn1", "conv1"]))
    before = {name: value.clone() for name, value in module.model.trunk.body.state_dict().items()}
    five_losses(module)
    after = module.model.trunk.body.state_dict()
    for name in ("conv1.weight", "bn1.weight", "bn1.running_mean", "bn1.num_batches_tracked"):
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["layer1.0.bn1.running_mean"], after["layer1.0.bn1.running_mean"])


def test_outputs_that_diverge_are_refused_with_a_remedy() -> None:
    module = make_module()
    module.gathered.update(torch.tensor([0]), torch.tensor([[0.0, float("nan"), 1.0]]), torch.zeros(1, 1, 2, 2))
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"diverged. Lower optim.trunk_rate"):
        module.take_outputs()


def test_outputs_are_taken_once_per_epoch() -> None:
    module = make_module()
    for row in (1, 0):
        module.gathered.update(torch.tensor([row]), torch.full((1, 3), float(row)), torch.zeros(1, 1, 2, 2))
    outputs = module.take_outputs()
    assert outputs.rows.tolist() == [0, 1]
    assert outputs.logits[:, 0].tolist() == [0.0, 1.0]
    assert outputs.scores.shape == (2, 2, 2)
    assert module.gathered.rows == []


def test_the_compiled_network_keeps_the_checkpoint_names() -> None:
    module = make_module()
    names = set(module.state_dict())
    module.compile_network()
    assert set(module.state_dict()) == names
    assert module.network is not module.model
