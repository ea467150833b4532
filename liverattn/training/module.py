"""The LightningModule: one shared step."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from liverattn.data.datasets import Batch
from liverattn.errors import InputError
from liverattn.models.classifier import LesionClassifier
from liverattn.training.metrics import GatheredOutputs, MeanLoss
from liverattn.training.objective import attention_loss, mixup, output_loss
from liverattn.training.optimization import SgdRecipe
from liverattn.training.outputs import Outputs
from liverattn.training.training_pass import TrainingPass

LOSSES = ("loss", "loss_outputs", "loss_attention")


class LesionModule(pl.LightningModule):
    """Trains a classifier on outputs and attention together.

    Args:
        model: The network.
        recipe: Optimizer, rates, schedule, frozen stages.
        alpha: Weight of the attention loss (0: the network finds out where to look by itself).
        mixup_beta: Parameter of Beta(a, a), from which mixup's gamma is drawn; 0 switches mixup off.
        seed: Of mixup and of anything random inside the network.
    """

    network: nn.Module

    def __init__(
        self, model: LesionClassifier, *, recipe: SgdRecipe, alpha: float = 1.0, mixup_beta: float = 0.2, seed: int = 0
    ) -> None:
        super().__init__()
        self.model = model
        self._call(model)
        self.recipe, self.alpha, self.mixup_beta, self.seed = recipe, alpha, mixup_beta, seed
        self.training_pass = TrainingPass(self._losses, model)
        self.means = nn.ModuleDict({f"{stage}/{name}": MeanLoss() for stage in ("train", "val") for name in LOSSES})
        self.gathered = GatheredOutputs()
        self.frozen = recipe.freeze(model)

    def compile_network(self) -> None:
        """Call the network through ``torch.compile``; checkpoints keep its own names."""
        self._call(torch.compile(self.model))

    def capture(self, *, required: bool) -> None:
        """Train through CUDA graphs; see :class:`~liverattn.training.training_pass.TrainingPass`."""
        self.training_pass = TrainingPass(self._losses, self.model, capture=True, required=required)

    def _call(self, network: Any) -> None:
        # Past nn.Module's registration: the network would stand in every checkpoint twice.
        object.__setattr__(self, "network", network)

    def on_train_epoch_start(self) -> None:
        """Let what is random in the network (dropout) depend on (seed, epoch, process): a resumed run repeats it."""
        entropy = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(entropy.generate_state(1)[0]))
        # After validation Lightning restores flags only; a traced trunk also has to change its graph back.
        self.model.train()
        for stage in self.frozen:  # their batch statistics stand still
            stage.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one mixed batch."""
        inputs = {**cast(dict[str, Tensor], batch), **self._pairs(len(batch["row"]), batch_idx)}
        losses = self.training_pass(inputs)
        self._log("train", losses, len(batch["row"]), batch_idx)
        return losses["loss"]

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss, unless they came with it."""
        self.training_pass.backward(loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the outputs of one batch; nothing is mixed here."""
        logits, scores = self.network(batch["image"])
        self._log("val", self._objective(batch, logits, scores), len(logits), batch_idx)
        self.gathered.update(batch["row"], logits, scores)

    def _losses(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        batch = cast(Batch, inputs)
        if "share" in inputs:
            batch = mixup(batch, inputs["share"], inputs["permutation"])
        return self._objective(batch, *self.network(batch["image"]))

    def _objective(self, batch: Batch, logits: Tensor, scores: Tensor) -> dict[str, Tensor]:
        outputs = output_loss(logits, batch["labels"], batch["label_weight"])
        attention = attention_loss(scores, batch["target"], batch["target_weight"])
        return dict(zip(LOSSES, (outputs + self.alpha * attention, outputs, attention), strict=True))

    def _log(self, stage: str, losses: Mapping[str, Tensor], cases: int, batch_idx: int) -> None:
        for name, value in losses.items():
            mean = cast(MeanLoss, self.means[f"{stage}/{name}"])
            mean.update(value, cases)
            if batch_idx == 0:  # once: Lightning asks it for the mean when the epoch is over
                self.log(f"{stage}/{name}", mean, on_step=False, on_epoch=True)

    def _pairs(self, cases: int, batch_idx: int) -> dict[str, Tensor]:
        """What mixup draws: gamma and the second case of each pair."""
        if self.mixup_beta == 0:
            return {}
        random = np.random.default_rng([self.seed, self.current_epoch, batch_idx, self.global_rank])
        permutation = torch.from_numpy(random.permutation(cases))
        share = torch.tensor(random.beta(self.mixup_beta, self.mixup_beta), dtype=torch.float32)
        pairs = {"share": share, "permutation": permutation}
        return {name: value.to(self.device, non_blocking=True) for name, value in pairs.items()}

    def take_outputs(self) -> Outputs:
        """The outputs of the validation epoch, gathered over processes.

        Raises:
            InputError: The network gives NaN or infinity.
        """
        outputs = Outputs(*self.gathered.compute())
        self.gathered.reset()
        if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.scores).all()):
            raise InputError(
                f"The network's outputs became NaN or infinite in epoch {self.current_epoch}: training diverged. Lower "
                "optim.trunk_rate and optim.head_rate, or use trainer.precision=32-true."
            )
        return outputs

    def configure_optimizers(self) -> Any:
        """SGD with a schedule over all steps of the run."""
        # One launch on a GPU. Lightning clips no gradients for an optimizer that could undo a loss's scaling itself.
        fused = self.device.type == "cuda" and self.trainer.gradient_clip_val is None
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, scheduler = self.recipe.build(self.model, steps, fused=fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
