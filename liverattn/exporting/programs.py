"""What of a bundle is exported, traced by ``torch.export``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from liverattn.bundle.bundle import Bundle
from liverattn.bundle.contents import Contents
from liverattn.data.images import SMALLEST
from liverattn.data.phantoms import render_phantom
from liverattn.errors import InputError
from liverattn.exporting.graph import EnsembleGraph, NetworkGraph, output_names
from liverattn.files import replacing

TOLERANCE = 1e-4  # of a probability
SHORT = 12  # digits of a network's name


@dataclass(frozen=True, eq=False)
class Graph:
    """A module to export.

    Attributes:
        name: Of its files.
        module: Takes one tensor ``image``, gives a tuple of tensors.
        outputs: Their names.
        axes: Names of the input's axes that may have any length.
        trials: Inputs that what is written is tried on; the first has at least two images.
        about: What a file says of itself.
    """

    name: str
    module: nn.Module
    outputs: tuple[str, ...]
    axes: Mapping[int, str]
    trials: tuple[Tensor, ...]
    about: Mapping[str, str]


def graphs(bundle: Bundle) -> Iterator[Graph]:
    """The ensemble with its preparation of images, then each network alone.

    Raises:
        InputError: Weights that do not fit.
    """
    contents = bundle.contents
    about = {
        "use": "Research use only. Not a medical device.",
        "bundle": f"{contents.name}, digest {bundle.digest}",
        "outputs": ",".join(contents.outputs),
    }
    ensemble = EnsembleGraph(bundle).eval()
    one, two = (_phantom(seed) for seed in range(2))
    yield Graph(
        name="ensemble",
        module=ensemble,
        outputs=output_names(contents),
        axes={0: "batch", 1: "height", 2: "width"},
        trials=(torch.stack([two, two.flip(1)]), one[None]),
        about={**about, "image": "(B, H, W) uint8: grey images of one size, as decoded", **_thresholds(contents)},
    )
    for digest, network in zip(contents.networks, ensemble.networks, strict=True):
        part = contents.architectures[ensemble.architecture_of[digest]]
        size = (1, part.preparation.height, part.preparation.width)
        levels = torch.rand((3, *size), generator=torch.Generator().manual_seed(0)) * 150
        yield Graph(
            name=f"network-{digest[:SHORT]}",
            module=NetworkGraph(network).eval(),
            outputs=("probabilities", "attention"),
            axes={0: "batch"},
            trials=(levels, levels[:1]),
            about={
                **about,
                "network": f"{part.label}, {digest}",
                "image": f"(B, {size[0]}, {size[1]}, {size[2]}) float32: prepared, after Eq. 1, on a scale of 0 to 255",
            },
        )


def _phantom(seed: int) -> Tensor:
    return torch.from_numpy(render_phantom("cyst", np.random.default_rng(seed)).image)


def _thresholds(contents: Contents) -> dict[str, str]:
    """Operating points, for whoever has only the graph."""
    return {
        f"threshold_{output}_{point.name}": repr(point.threshold)
        for output, points in contents.operating_points.items()
        for point in points
    }


def traced(graph: Graph) -> ExportedProgram:
    """The graph as a program of tensor operations; it says nothing of the machine that it was traced on.

    Raises:
        InputError: torch.export cannot trace one of its networks.
    """
    dims = {axis: Dim(name) if axis == 0 else Dim(name, min=SMALLEST) for axis, name in graph.axes.items()}
    try:
        program = torch.export.export(graph.module, (graph.trials[0],), dynamic_shapes=(dims,))
    except Exception as error:  # torch.export raises dozens of kinds without a base class of their own
        raise InputError(f"torch.export cannot trace it ({first_line(error)}).") from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of source files
    return program


def write_program(graph: Graph, program: ExportedProgram, path: Path) -> float:
    """Write ``.pt2``, which ``torch.export.load(path).module()`` runs without this package.

    Returns:
        The largest difference on the trials (:func:`largest_difference`).

    Raises:
        InputError: It cannot be written, or gives other numbers when it is read back.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as stream:
            torch.export.save(program, stream, extra_files={"about.txt": _text(graph.about)})
        with temporary.open("rb") as stream:
            module = torch.export.load(stream).module()
        return largest_difference(graph, [module(trial) for trial in graph.trials])


@torch.inference_mode()
def largest_difference(graph: Graph, found: Sequence[Sequence[Tensor]]) -> float:
    """How far outputs lie from the module's own.

    Args:
        graph: With the trials.
        found: For each trial, tensors in the order of the outputs.

    Raises:
        InputError: More than 1e-4.
    """
    largest = 0.0
    for trial, tensors in zip(graph.trials, found, strict=True):
        for expected, tensor in zip(graph.module(trial), tensors, strict=True):
            assert expected.shape == tensor.shape and expected.dtype == tensor.dtype
            largest = max(largest, float((expected.double() - tensor.double()).abs().max()))
    if not largest <= TOLERANCE:
        raise InputError(f"it differs by {largest:.1e} from what this program computes; {TOLERANCE:.0e} are allowed.")
    return largest


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    with suppress(IndexError):
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return type(error).__name__


def _text(about: Mapping[str, str]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in about.items())
