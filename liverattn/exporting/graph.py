"""A bundle as one module that knows only tensors: grey images in, the ensemble's probabilities and attention out."""

import torch
from torch import Tensor, nn

from liverattn.bundle.bundle import Bundle
from liverattn.bundle.contents import Contents
from liverattn.exporting.preparation import Preparation


class EnsembleGraph(nn.Module):
    """What :class:`~liverattn.prediction.predictor.Predictor` computes, from decoded images on.

    Args:
        bundle: The networks, their shares, and how images are prepared for them.

    Raises:
        InputError: Weights that do not fit.
    """

    shares: Tensor
    map_shares: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        contents = bundle.contents
        found = bundle.networks()
        self.networks = nn.ModuleList(found[digest] for digest in contents.networks)
        steps = [one.preparation.steps() for one in contents.architectures]
        distinct = list(dict.fromkeys(steps))
        self.preparations = nn.ModuleList(Preparation(one) for one in distinct)
        self._prepared_by = [distinct.index(one) for one in steps]  # by architecture
        self.architecture_of = {digest: _architecture(contents, digest) for digest in contents.networks}
        self.register_buffer("shares", output_shares(contents))
        self.register_buffer("map_shares", map_shares(contents))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            image: (B, H, W) uint8, grey, as decoded.

        Returns:
            Probabilities (B, K) float32; then, of every architecture, the attention sigmoid(s) (B, h, w) float32, the
            mean over its fold runs, and (B, 4) int64 ``x0, y0, x1, y1``: the part of the image that it lies over.
        """
        inputs, windows = self._inputs(image)
        probabilities = torch.zeros((), device=image.device)
        maps = [torch.zeros((), device=image.device) for _ in self._prepared_by]
        for k, architecture in enumerate(self.architecture_of.values()):
            logits, scores = self.networks[k](inputs[self._prepared_by[architecture]])
            probabilities = probabilities + self.shares[k] * torch.sigmoid(logits)
            maps[architecture] = maps[architecture] + self.map_shares[k] * torch.sigmoid(scores[:, 0])
        placed = [(maps[k], windows[preparation]) for k, preparation in enumerate(self._prepared_by)]
        return probabilities, *(tensor for pair in placed for tensor in pair)

    def _inputs(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Intensities after Eq. 1 (B, 1, h, w) and windows (B, 4), of every preparation."""
        inputs, windows = [], []
        for preparation in self.preparations:
            shown, factor, window = preparation(image)
            scaled = shown * factor[:, None, None]
            inputs.append((scaled.clamp(max=255.0) if preparation.steps.clip else scaled)[:, None])
            windows.append(window.long())
        return inputs, windows


class NetworkGraph(nn.Module):
    """One network, with the outputs of :class:`EnsembleGraph`.

    Args:
        network: A :class:`~liverattn.models.classifier.LesionClassifier`, ready for inference.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            image: (B, 1, h, w) float32, intensities after Eq. 1.

        Returns:
            Probabilities (B, K) and attention sigmoid(s) (B, h, w), float32.
        """
        logits, scores = self.network(image)
        return torch.sigmoid(logits), torch.sigmoid(scores[:, 0])


def output_names(contents: Contents) -> tuple[str, ...]:
    """Names of what :class:`EnsembleGraph` gives."""
    placed = ((f"attention_{k}", f"window_{k}") for k in range(len(contents.architectures)))
    return "probabilities", *(name for pair in placed for name in pair)


def output_shares(contents: Contents) -> Tensor:
    """(N, K): the weight of every network in every output; columns add up to 1.

    A fold run without a copy of a task takes no part in its outputs.
    """
    shares = torch.zeros(len(contents.networks), len(contents.outputs), dtype=torch.float64)
    for task in contents.tasks:
        places = [contents.outputs.index(output) for output in task.outputs]
        for member in contents.members:
            if task.name in member.copies:
                shares[contents.networks.index(member.copies[task.name].network), places] += member.weight
    return (shares / shares.sum(0)).float()


def map_shares(contents: Contents) -> Tensor:
    """(N,): the weight of every network in its architecture's map: that of the first task which a fold run has."""
    shares = torch.zeros(len(contents.networks), dtype=torch.float64)
    for k in range(len(contents.architectures)):
        runs = [member for member in contents.members if member.architecture == k]
        for run in runs:
            first = next(task.name for task in contents.tasks if task.name in run.copies)
            shares[contents.networks.index(run.copies[first].network)] += 1 / len(runs)
    return shares.float()


def _architecture(contents: Contents, network: str) -> int:
    """Whose network it is."""
    return next(
        member.architecture
        for member in contents.members
        if network in {copy.network for copy in member.copies.values()}
    )
