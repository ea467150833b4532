"""Loss and gradient of a training step, as CUDA graphs where they may be."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from liverattn.cuda_graphs import NotCapturableError, Replayed, Tensors
from liverattn.errors import InputError


class TrainingPass:
    """The losses of a batch; their gradient is left to autograd, or computed with them.

    Args:
        losses: Of named tensors; ``loss`` is the one to descend.
        model: On its GPU from the first call on, if it is captured.
        capture: Launch everything as one CUDA graph, gradients included. Batches of another size than the first are
            passed one kernel after the other.
        required: What cannot be captured is an error; else it is passed without, and this is said once.
    """

    def __init__(
        self, losses: Callable[[Tensors], Tensors], model: nn.Module, *, capture: bool = False, required: bool = False
    ) -> None:
        self.losses, self.required = losses, required
        self.replayed = Replayed(self._with_gradient, model) if capture else None

    def __call__(self, inputs: Tensors) -> Tensors:
        """The losses.

        Raises:
            InputError: Capturing is required, and the network does what a graph cannot hold.
        """
        if self.replayed is not None and self.replayed.fits(inputs):
            try:
                return self.replayed(inputs)
            except NotCapturableError as error:
                self.replayed = None
                if self.required:
                    raise InputError(
                        f"trainer.cuda_graphs=true: this network cannot be captured ({error}). Use "
                        "trainer.cuda_graphs=null."
                    ) from error
                print(f"This network cannot be captured as CUDA graphs ({error}), so it trains without, only slower.")
        return self.losses(inputs)

    def backward(self, loss: Tensor) -> None:
        """Fill the parameters' gradients with those of the last call, whose ``loss`` this is."""
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            assert self.replayed is not None
            self.replayed.give_gradients()

    def _with_gradient(self, inputs: Tensors) -> Tensors:
        losses = self.losses(inputs)
        with torch.autocast("cuda", enabled=False):  # as outside of the forward pass
            losses["loss"].backward()  # type: ignore[no-untyped-call]
        return losses
