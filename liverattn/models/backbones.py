"""Trunks: a torchvision or timm network up to a stage, its channels, and its weights.

Weights come from ImageNet by name, from a local file (checked), or not at all; never silently random.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as tv
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from liverattn.errors import InputError, InputListError, expect_choice, written
from liverattn.files import file_digest
from liverattn.models.plain_tensors import load_plain

IMAGENET = "imagenet"
# Where a network ends if no cut is named: its last feature map, before pooling.
LAST_STAGE = {
    "resnet": "layer4",
    "resnext": "layer4",
    "wide_resnet": "layer4",
    "densenet": "relu",
    "regnet": "trunk_output",
    "mnasnet": "layers",
    "shufflenet": "conv5",
    "googlenet": "inception5b",
    "inception": "Mixed_7c",
    "swin": "permute",
}
# Two images that differ in both sides, large enough for any trunk.
TRIAL_SIZES = ((96, 128), (128, 96))
WAYS_OUT = (
    "Three ways out: connect to the network once (the file is then kept in torch's cache), give a local file as "
    "backbone.weights=/path/to/weights.pth, or train from random weights with backbone.weights=null."
)


class Backbone(nn.Module):
    """A network up to one feature map.

    Args:
        body: Maps (B, 3, H, W) to a feature map (B, C, h, w), alone, as the last of several, or under the name ``map``.
        channels: C.
    """

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), ImageNet-normalized, to the feature map (B, C, h, w)."""
        features = self.body(image)
        if isinstance(features, dict):
            features = features["map"]
        elif not isinstance(features, Tensor):
            features = features[-1]
        assert isinstance(features, Tensor)
        return features


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
        InputError: Unknown name, cut or library; weights absent, incomplete, of other shapes, altered or executable;
            a network that cannot give a map (B, C, h, w) of images of any size.
    """
    if weights in (IMAGENET, None) and sha256 is not None:
        raise InputError(
            f"backbone.sha256 checks a local file, but backbone.weights is {written(weights)}: give the file's path."
        )
    expect_choice("backbone.library", library, ("torchvision", "timm"))
    if library == "timm":
        body = _timm_body(name, cut, pretrained=weights == IMAGENET)
    else:
        body = _torchvision_body(name, cut)
        if weights == IMAGENET:
            _load(body, _imagenet_state(name), f"the ImageNet weights of {name}")
    if weights is not None and weights != IMAGENET:
        path = Path(weights).expanduser()
        state = read_weights(path, sha256)
        _load(body, _timm_names(body, state) if library == "timm" else state, str(path))
    trunk = Backbone(body, 0)
    trunk.channels = _channels(trunk, name)
    return trunk


def _torchvision_body(name: str, cut: str | None) -> nn.Module:
    if name not in tv.list_models(module=tv):
        near = [known for known in tv.list_models(module=tv) if known[:5] == name[:5]]
        raise InputError(f"torchvision has no network {name!r}. Valid: {', '.join(near or tv.list_models(module=tv))}.")
    # Randomly initialized networks of torchvision warn of their initialization unless told to.
    network = tv.get_model(
        name, weights=None, **({"init_weights": True} if name in ("googlenet", "inception_v3") else {})
    )
    stage = cut or next((last for prefix, last in LAST_STAGE.items() if name.startswith(prefix)), "features")
    try:
        body: nn.Module = create_feature_extractor(network, {stage: "map"}, suppress_diff_warning=True)
        return body
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
        stages = (-1,) if cut is None else (int(cut),)
        body: nn.Module = timm.create_model(name, features_only=True, out_indices=stages)
    except (AssertionError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"timm's {name} cannot be cut after stage {cut!r} (backbone.cut: a number from 0, null: the last): "
            f"{_first_line(error)}"
        ) from error
    if not pretrained:
        return body
    try:
        body = timm.create_model(name, pretrained=True, features_only=True, out_indices=stages)
    except (OSError, RuntimeError) as error:  # the hub reports an absent network in either way
        raise InputError(
            f"The weights of timm's {name} cannot be fetched ({_first_line(error)}). {WAYS_OUT}"
        ) from error
    return body


def _timm_names(body: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Add the names by which timm's feature extractors know a network's layers: ``stages_0.x`` for ``stages.0.x``."""
    dotted = {key.replace("_", "."): value for key, value in state.items()}
    names = {key: key.removeprefix("model.").replace("_", ".") for key in body.state_dict()}
    return {**{key: dotted[name] for key, name in names.items() if name in dotted}, **state}


def _channels(trunk: Backbone, name: str) -> int:
    """Channels of the feature map; they do not change with the size of the image, unlike rows and columns."""
    was_training = trunk.training
    trunk.eval()
    try:
        with torch.no_grad():
            shapes = [tuple(trunk(torch.zeros(1, 3, *size)).shape) for size in TRIAL_SIZES]
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{name} does not take images of any size ({_first_line(error)}): choose another network or cut."
        ) from error
    trunk.train(was_training)
    if {len(shape) for shape in shapes} != {4} or shapes[0][1] != shapes[1][1]:
        raise InputError(
            f"{name} gives features of shape {shapes[0]}, not a map (B, C, h, w): choose another network or cut."
        )
    return int(shapes[0][1])


def _imagenet_state(name: str) -> Mapping[str, Tensor]:
    # The paper is of 2019: the first ImageNet weights that torchvision published, not the later recipes.
    weights = next(iter(tv.get_model_weights(name)))
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if cached.is_file():
        try:
            return read_weights(cached)
        except InputError as error:
            raise InputError(f"{error} It is in torch's cache: delete it, and it is fetched again.") from error
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a server's refusal, a hash that differs: libraries share no base class
        raise InputError(
            f"The ImageNet weights of {name} cannot be fetched ({_first_line(error)}). {WAYS_OUT}"
        ) from error
    return {_current_name(key): value for key, value in state.items()}


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
        state = load_file(path) if path.suffix == ".safetensors" else load_plain(path)
    except Exception as error:  # torch raises a dozen kinds for damaged files, and UnpicklingError for code
        said = str(error).lower()
        if "unsupported global" in said or "torchscript" in said or _is_bare_pickle(path):
            raise InputError(
                f"{path} is refused: it is not plain tensors, but a pickle that could execute code when loaded. "
                "Nothing in it was run. Save it again as a state dict (torch.save(network.state_dict(), path))."
            ) from error
        # torch's text for what it cannot unpickle advises to switch the protection off: not passed on.
        reason = "no tensors that torch can read" if isinstance(error, UnpicklingError) else _first_line(error)
        raise InputError(
            f"The weights file {path} is damaged or not a state dict ({reason}). Nothing in it was run."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not _is_state_dict(state):
        raise InputError(f"The weights file {path} holds no state dict (names and tensors).")
    return {_current_name(key): value for key, value in state.items()}


def _is_bare_pickle(path: Path) -> bool:
    """A pickle of protocol 2 or later that lies open, as ``pickle.dump`` writes it: the PROTO opcode comes first."""
    with path.open("rb") as stream:
        return stream.read(1) == b"\x80"


def _is_state_dict(state: object) -> bool:
    return (
        isinstance(state, dict)
        and len(state) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())
    )


def _current_name(key: str) -> str:
    """Torchvision's published DenseNet files name layers as releases before 0.4 did: ``denselayer1.norm.1.weight``."""
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
        raise InputListError(f"{source} does not fit the backbone", problems, remedy)
    body.load_state_dict({key: state.get(key, value) for key, value in needed.items()})


def _first_line(error: Any) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
