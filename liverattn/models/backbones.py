"""Trunks: a torchvision or timm network up to a stage, its channels, and its weights.

Weights come from ImageNet by name, from a local file (checked), or not at all; never silently random.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as tv
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from liverattn.errors import InputError, listing
from liverattn.files import file_digest

IMAGENET = "imagenet"
# Where a network ends if no cut is named: its last feature map, before pooling.
LAST_STAGE = {
    "resnet": "layer4",
    "resnext": "layer4",
    "wide_resnet": "layer4",
    "densenet": "relu",
    "regnet": "trunk_output",
}
WAYS_OUT = (
    "Three ways out: connect to the network once (the file is then kept in torch's cache), give a local file as "
    "backbone.weights=/path/to/weights.pth, or train from random weights with backbone.weights=null."
)


class Backbone(nn.Module):
    """A network up to one feature map.

    Args:
        body: Maps (B, 3, H, W) to a feature map (B, C, h, w).
        channels: C.
    """

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), ImageNet-normalized, to the feature map (B, C, h, w)."""
        features = self.body(image)
        result: Tensor = features["map"] if isinstance(features, dict) else features[-1]
        return result


def build_backbone(
    *,
    name: str,
    library: Literal["torchvision", "timm"] = "torchvision",
    cut: str | None = None,
    weights: str | None = IMAGENET,
    sha256: str | None = None,
) -> Backbone:
    """Build a trunk.

    Args:
        name: Of the network in its library, such as ``resnet50``.
        library: ``torchvision`` or ``timm``.
        cut: Last stage to keep (inclusive): for torchvision a module or graph node such as ``layer3``, for timm the
            number of a feature stage. None: the last feature map before pooling (resnet50 without its last two layers,
            densenet121's features followed by ReLU).
        weights: ``imagenet``, the path of a local state dict, or None for random weights.
        sha256: Expected digest of a local file.

    Raises:
        InputError: Unknown name, cut or library; weights absent, incomplete, of other shapes, altered or executable.
    """
    if library == "timm":
        body = _timm_body(name, cut, pretrained=weights == IMAGENET)
    elif library == "torchvision":
        body = _torchvision_body(name, cut)
        if weights == IMAGENET:
            _load(body, _imagenet_state(name), f"the ImageNet weights of {name}")
    else:
        raise InputError(f"Expected backbone.library to be torchvision or timm, but got {library!r}.")
    if weights is not None and weights != IMAGENET:
        path = Path(weights).expanduser()
        _load(body, read_weights(path, sha256), str(path))
    trunk = Backbone(body, 0)
    trunk.channels = _channels(trunk, name)
    return trunk


def _torchvision_body(name: str, cut: str | None) -> nn.Module:
    if name not in tv.list_models(module=tv):
        near = [known for known in tv.list_models(module=tv) if known[:5] == name[:5]]
        raise InputError(f"torchvision has no network {name!r}. Valid: {', '.join(near or tv.list_models(module=tv))}.")
    # Randomly initialized networks of torchvision warn of their initialization unless told to.
    network = tv.get_model(name, weights=None, **({"init_weights": True} if name in ("googlenet", "inception_v3") else {}))
    stage = cut or next((last for prefix, last in LAST_STAGE.items() if name.startswith(prefix)), "features")
    try:
        return create_feature_extractor(network, {stage: "map"}, suppress_diff_warning=True)
    except ValueError:
        nodes = get_graph_node_names(network, suppress_diff_warning=True)[1]
        stages = dict.fromkeys(node.split(".")[0] for node in nodes if node != "x")
        raise InputError(
            f"{name} has no stage {stage!r} to be cut after (backbone.cut). Valid: {', '.join(stages)}."
        ) from None


def _timm_body(name: str, cut: str | None, *, pretrained: bool) -> nn.Module:
    if not timm.is_model(name.split(".")[0]):
        near = timm.list_models(f"{name[:5]}*")
        raise InputError(f"timm has no network {name!r}. Names that begin alike: {', '.join(near) or 'none'}.")
    try:
        return timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=(-1,) if cut is None else (int(cut),)
        )
    except (OSError, RuntimeError) as error:  # the hub reports an absent network in either way
        if not pretrained:
            raise
        raise InputError(f"The weights of timm's {name} cannot be fetched ({_first_line(error)}). {WAYS_OUT}") from error
    except (AssertionError, ValueError, IndexError) as error:
        raise InputError(f"timm's {name} cannot be cut after stage {cut!r} (backbone.cut): {_first_line(error)}") from error


def _channels(trunk: Backbone, name: str) -> int:
    was_training = trunk.training
    with torch.no_grad():
        feature_map = trunk.eval()(torch.zeros(1, 3, 64, 96))
    trunk.train(was_training)
    if feature_map.dim() != 4:
        raise InputError(
            f"{name} gives features of shape {tuple(feature_map.shape)}, not a map (B, C, h, w): choose another cut."
        )
    return int(feature_map.shape[1])


def _imagenet_state(name: str) -> Mapping[str, Tensor]:
    # The paper is of 2019: the first ImageNet weights that torchvision published, not the later recipes.
    weights = next(iter(tv.get_model_weights(name)))
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network; a file that does not have its hash
        raise InputError(f"The ImageNet weights of {name} cannot be fetched ({_first_line(error)}). {WAYS_OUT}") from error
    return state


def read_weights(path: Path, sha256: str | None = None) -> Mapping[str, Tensor]:
    """Read a state dict from a local file without executing anything in it.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote.
        sha256: Expected digest, checked before anything is read.

    Raises:
        InputError: Absent, damaged, altered, not a state dict, or a pickle that wants to execute code (it is not run).
    """
    if not path.is_file():
        raise InputError(f"The weights file {path} does not exist. Correct backbone.weights. {WAYS_OUT}")
    if sha256 is not None and file_digest(path) != sha256.lower():
        raise InputError(f"{path} has the SHA-256 {file_digest(path)}, but backbone.sha256 expects {sha256}.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files, and UnpicklingError for code
        if "weights_only" in str(error).lower() or "unsupported global" in str(error).lower():
            raise InputError(
                f"{path} is refused: it is not plain tensors, but a pickle that could execute code when loaded. Nothing "
                "in it was run. Save it again as a state dict (torch.save(network.state_dict(), path))."
            ) from error
        kind = "safetensors" if isinstance(error, SafetensorError) else type(error).__name__
        raise InputError(f"The weights file {path} is damaged or not a state dict ({kind}: {_first_line(error)}).") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"The weights file {path} holds no state dict (names and tensors).")
    return {_current_name(key): value for key, value in state.items()}


def _current_name(key: str) -> str:
    """torchvision's published DenseNet files name layers as releases before 0.4 did: ``denselayer1.norm.1.weight``."""
    return re.sub(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:.*))$", r"\1\2", key.removeprefix("module."))


def _load(body: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load what the trunk needs; more is allowed (it lies behind the cut), less or other shapes are not."""
    needed = body.state_dict()
    # The counter of batches was added to batch normalization after the oldest files were published; it is unused.
    missing = [key for key in needed if key not in state and not key.endswith("num_batches_tracked")]
    problems = [f"{key} is missing" for key in missing]
    problems += [
        f"{key} has the shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in needed.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        remedy = "Use a file made for this backbone, or cut the backbone before what the file lacks (backbone.cut)."
        raise InputError(listing(f"{source} does not fit the backbone", problems, remedy))
    body.load_state_dict({key: state.get(key, value) for key, value in needed.items()})


def _first_line(error: Any) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
