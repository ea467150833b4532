"""CUDA graphs: a function's kernels launched all at once, without waiting for Python between them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]
WARM_UP = 3  # calls before the one that is captured; libraries choose and initialize their kernels in them


class NotCapturableError(Exception):
    """A function does what a graph cannot hold, such as waiting for a result; the message is one line."""


class Replayed:
    """Calls a function of tensors on a GPU, from the second call on as one launch.

    A small batch keeps a GPU busy for less time than Python takes to launch its kernels one by one. The first call
    captures them; later ones copy their inputs to where the first one's lay and launch the same kernels in the same
    order, so results do not change. They lie where the first one's lay, too: they hold until the next call.

    Args:
        function: Of named tensors; it may also fill the gradients of a module. What it computes may depend on the
            tensors, but not which kernels it takes.
        module: What it trains. Capturing leaves its buffers (batch statistics) as they were.
    """

    def __init__(self, function: Callable[[Tensors], Tensors], module: nn.Module | None = None) -> None:
        self.function, self.module = function, module
        self.parameters = [] if module is None else list(module.parameters())
        self.inputs: dict[str, Tensor] = {}
        self.outputs: Tensors = {}
        self.gradients: list[Tensor | None] = []
        self.graph: torch.cuda.CUDAGraph | None = None

    def fits(self, inputs: Tensors) -> bool:
        """The inputs have the shapes of the captured ones, or nothing is captured yet."""
        shapes = {name: value.shape for name, value in inputs.items()}
        return self.graph is None or shapes == {name: value.shape for name, value in self.inputs.items()}

    def __call__(self, inputs: Tensors) -> Tensors:
        """The function's outputs, without a history for autograd.

        Raises:
            NotCapturableError: In the first call.
        """
        if self.graph is None:
            self.graph = self._captured(inputs)
        for name, value in inputs.items():
            self.inputs[name].copy_(value, non_blocking=True)
        self.graph.replay()
        return self.outputs

    def give_gradients(self) -> None:
        """Hand the gradients of the last call to the module's parameters."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient

    def _captured(self, inputs: Tensors) -> torch.cuda.CUDAGraph:
        self.inputs = {name: value.clone() for name, value in inputs.items()}
        buffers = [] if self.module is None else list(self.module.buffers())  # others than before a move to the GPU
        before = [buffer.clone() for buffer in buffers]
        # Weights that autocast keeps in another precision would be those of the first call for ever.
        autocast = torch.autocast(
            "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
        )
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        try:
            with torch.random.fork_rng([torch.cuda.current_device()]), autocast:
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(WARM_UP):
                        self._forget_gradients()
                        self.function(self.inputs)
                torch.cuda.current_stream().wait_stream(stream)
                self._forget_gradients()
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads load and write
                    self.outputs = {name: value.detach() for name, value in self.function(self.inputs).items()}
                self.gradients = [parameter.grad for parameter in self.parameters]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._forget_gradients()
            raise NotCapturableError(str(error).splitlines()[0]) from error
        finally:
            with torch.no_grad():
                for buffer, value in zip(buffers, before, strict=True):
                    buffer.copy_(value)
        return graph

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
