"""SGD with Nesterov momentum, separate rates for trunk and heads, warm-up and cosine (paper: "Implementation")."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from liverattn.errors import InputError, expect_number, written
from liverattn.models.classifier import LesionClassifier


@dataclass(frozen=True, kw_only=True)
class SgdRecipe:
    """How the weights move. The paper gives the optimizer only; all numbers are our reading.

    Attributes:
        trunk_rate: Peak learning rate of the trunk.
        head_rate: Peak learning rate of attention head and dense layer. Their loss is stable up to about 4 / |z|^2 with
            momentum 0.9; standardized features have a squared length of about 1 for every trunk, pooled ones less.
        momentum: Nesterov momentum.
        weight_decay: Of convolution and dense weights; biases and normalization are not decayed.
        warmup: Share of all steps in which the rate rises linearly.
        final: Rate at the end of the cosine, as a share of the peak.
        frozen: Stages of the trunk that are not trained (``layer1``, ``features.0``); their batch statistics
            stand still.
    """

    trunk_rate: float = 0.01
    head_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.05
    final: float = 0.0
    frozen: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning; whether the frozen stages exist only the network knows."""
        for name in ("trunk_rate", "head_rate", "weight_decay"):
            expect_number(f"optim.{name}", getattr(self, name), 0)
        for name in ("momentum", "warmup", "final"):
            expect_number(f"optim.{name}", getattr(self, name), 0, 1)
        if isinstance(self.frozen, str) or not isinstance(self.frozen, Sequence):
            raise InputError(
                f"Expected optim.frozen to be a list of stages, such as [conv1,layer1], but got {written(self.frozen)}."
            )

    def build(self, model: LesionClassifier, steps: int, *, fused: bool = False) -> tuple[SGD, LambdaLR]:
        """Optimizer and scheduler (stepped after every optimizer step) for a run.

        Args:
            model: Whose parameters are trained.
            steps: Of the whole run.
            fused: Change all parameters in one pass, which rounds differently in the last digit.
        """
        groups = [
            group
            for name, module, rate in (
                ("trunk", model.trunk, self.trunk_rate),
                ("heads", nn.ModuleList([model.attention, model.head]), self.head_rate),
            )
            for group in _decayed_apart(name, module, rate, self.weight_decay)
        ]
        optimizer = SGD(
            groups, lr=self.head_rate, momentum=self.momentum, nesterov=self.momentum > 0, fused=fused or None
        )
        warmup = max(1, round(self.warmup * steps))

        def share(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            progress = min(1.0, (step - warmup) / max(1, steps - warmup))
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))

        return optimizer, LambdaLR(optimizer, share)

    def stages(self, model: LesionClassifier) -> list[nn.Module]:
        """The frozen stages of a network.

        Raises:
            InputError: A stage is not in the trunk.
        """
        modules = dict(model.trunk.body.named_modules())
        unknown = [name for name in self.frozen if name not in modules]
        if unknown:
            stages = [name for name in modules if name and "." not in name]
            raise InputError(f"optim.frozen names unknown stages {', '.join(unknown)}. Valid: {', '.join(stages)}, ...")
        return [modules[name] for name in self.frozen]

    def freeze(self, model: LesionClassifier) -> list[nn.Module]:
        """Stop the gradients of the frozen stages.

        Returns:
            Their modules, to be kept in evaluation mode.

        Raises:
            InputError: A stage is not in the trunk.
        """
        frozen = self.stages(model)
        for module in frozen:
            module.requires_grad_(False)
        return frozen


def _decayed_apart(name: str, module: nn.Module, rate: float, decay: float) -> list[dict[str, object]]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": chosen, "lr": rate, "weight_decay": amount, "name": f"{name}{suffix}"}
        for suffix, amount, chosen in (
            ("", decay, [p for p in parameters if p.dim() > 1]),
            ("_undecayed", 0.0, [p for p in parameters if p.dim() <= 1]),
        )
        if chosen
    ]
