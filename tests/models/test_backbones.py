"""Trunks: grids, weights from every way in, and what is refused."""

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models as tv

from liverattn.errors import InputError
from liverattn.models.backbones import Backbone, build_backbone, read_weights

State = Mapping[str, Tensor]


def feature_map(trunk: nn.Module, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        features: Tensor = trunk.eval()(torch.randn(1, 3, height, width, generator=generator))
    return features


def assert_same_features(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(feature_map(first, 64, 96), feature_map(second, 64, 96))


@pytest.fixture(scope="module")
def densenet() -> Backbone:
    return build_backbone(name="densenet121", weights=None)


@pytest.fixture(scope="module")
def resnet18_state() -> State:
    """A full torchvision network's state dict, classifier included, unlike any other network's."""
    torch.manual_seed(5)
    state: State = tv.resnet18(weights=None).state_dict()
    return state


@pytest.fixture(scope="module")
def resnet18(resnet18_state: State) -> nn.Module:
    """The trunk up to layer3, made without the code under test."""
    network = tv.resnet18(weights=None)
    network.load_state_dict(resnet18_state)
    return nn.Sequential(*list(network.children())[:7])


def cut_resnet(weights: str | Path | None, sha256: str | None = None) -> Backbone:
    path = None if weights is None else str(weights)
    return build_backbone(name="resnet18", cut="layer3", weights=path, sha256=sha256)


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def test_grids_of_resnet50() -> None:
    trunk = build_backbone(name="resnet50", weights=None)
    assert trunk.channels == 2048
    assert feature_map(trunk, 240, 345).shape == (1, 2048, 8, 11)
    assert feature_map(trunk, 480, 690).shape == (1, 2048, 15, 22)


def test_grids_of_densenet121_and_its_last_relu(densenet: Backbone) -> None:
    features = feature_map(densenet, 240, 345)
    assert densenet.channels == 1024
    assert features.shape == (1, 1024, 7, 10)
    assert feature_map(densenet, 480, 690).shape == (1, 1024, 15, 21)
    assert features.min() == 0  # the ReLU cuts something off, and lets something through
    assert features.max() > 0


def test_a_cut_trunk_is_the_network_up_to_that_stage(
    resnet18: nn.Module, resnet18_state: State, tmp_path: Path
) -> None:
    trunk = cut_resnet(saved(resnet18_state, tmp_path / "full.pth"))
    assert trunk.channels == 256
    assert feature_map(trunk, 240, 345).shape == (1, 256, 15, 22)
    assert not any("layer4" in name or "fc" in name for name, _ in trunk.named_parameters())
    assert_same_features(trunk, resnet18)


@pytest.mark.parametrize(
    ("name", "channels", "grid"),
    [
        ("mobilenet_v2", 1280, (8, 11)),
        ("squeezenet1_1", 512, (14, 21)),
        ("regnet_y_400mf", 440, (8, 11)),
        ("mnasnet0_5", 1280, (8, 11)),
        ("shufflenet_v2_x0_5", 1024, (8, 11)),
        ("swin_t", 768, (8, 11)),  # its own maps are (B, h, w, C)
    ],
)
def test_other_torchvision_families(name: str, channels: int, grid: tuple[int, int]) -> None:
    trunk = build_backbone(name=name, weights=None)
    assert trunk.channels == channels
    assert feature_map(trunk, 240, 345).shape == (1, channels, *grid)


def test_random_weights_are_random_and_follow_the_seed() -> None:
    networks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        networks.append(feature_map(cut_resnet(None), 64, 96))
    torch.testing.assert_close(networks[0], networks[1], rtol=0, atol=0)
    assert (networks[0] - networks[2]).abs().max() > 0.01


@pytest.mark.parametrize("form", ["plain", "safetensors", "state_dict", "model", "parallel", "without counters"])
def test_weights_by_path_in_every_form(form: str, resnet18: nn.Module, resnet18_state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(dict(resnet18_state), path)
    elif form in ("state_dict", "model"):
        saved({form: resnet18_state, "epoch": 3}, path)
    elif form == "parallel":
        saved({f"module.{key}": value for key, value in resnet18_state.items()}, path)
    else:
        counters = form == "plain"
        saved({k: v for k, v in resnet18_state.items() if counters or "num_batches_tracked" not in k}, path)
    assert_same_features(cut_resnet(path), resnet18)


def old_densenet_names(state: State) -> State:
    """As torchvision's published file still has them: ``denselayer1.norm.1.weight``."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
    return renamed


def test_old_densenet_names_by_path(densenet: Backbone, tmp_path: Path) -> None:
    path = saved(old_densenet_names(densenet.body.state_dict()), tmp_path / "densenet.pth")
    assert_same_features(build_backbone(name="densenet121", weights=str(path)), densenet)


def test_an_incomplete_file_is_refused_with_the_names_of_what_is_missing(resnet18_state: State, tmp_path: Path) -> None:
    missing = {"layer3.1.conv2.weight", "bn1.bias"}
    path = saved({k: v for k, v in resnet18_state.items() if k not in missing}, tmp_path / "part.pth")
    with pytest.raises(InputError, match="does not fit the backbone") as error:
        cut_resnet(path)
    assert str(path) in str(error.value)
    assert re.findall(r"- (\S+) is missing", str(error.value)) == ["bn1.bias", "layer3.1.conv2.weight"]
    # What lies behind the cut may be missing.
    ahead = {k: v for k, v in resnet18_state.items() if not k.startswith(("layer4", "fc"))}
    assert cut_resnet(saved(ahead, tmp_path / "ahead.pth")).channels == 256
    with pytest.raises(InputError, match="layer4"):
        build_backbone(name="resnet18", weights=str(tmp_path / "ahead.pth"))


def test_other_shapes_are_refused(resnet18_state: State, tmp_path: Path) -> None:
    path = saved({**resnet18_state, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "gray.pth")
    with pytest.raises(InputError, match=r"conv1.weight has the shape \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)"):
        cut_resnet(path)


def test_the_digest_is_checked(resnet18_state: State, tmp_path: Path) -> None:
    path = saved(resnet18_state, tmp_path / "weights.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert cut_resnet(path, digest.upper()).channels == 256
    with pytest.raises(InputError, match=f"SHA-256 {digest}, but backbone.sha256 expects {'0' * 64}"):
        cut_resnet(path, "0" * 64)
    with pytest.raises(InputError, match=r"backbone\.sha256 checks a local file"):
        cut_resnet("imagenet", digest)


def test_missing_and_damaged_files_are_refused(resnet18_state: State, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth does not exist.*Three ways out"):
        read_weights(tmp_path / "nowhere.pth")
    whole = saved(resnet18_state, tmp_path / "whole.pth").read_bytes()
    contents = {
        "empty.pth": b"",
        "cut.pth": whole[: len(whole) // 2],
        "page.pth": b"<html>404 not found</html>",
        "cut.safetensors": whole[:100],
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{re.escape(str(path))} is damaged or not a state dict") as error:
            read_weights(path)
        assert "weights_only" not in str(error.value)  # torch's advice to switch the protection off


@pytest.mark.parametrize("content", [[1, 2], {}, torch.zeros(3), {0: torch.zeros(3)}, {"state_dict": {"a": 1}}])
def test_files_without_a_state_dict_are_refused(content: object, tmp_path: Path) -> None:
    path = saved(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        read_weights(path)


class Harmful:
    """Unpickling this creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle", "pickle 4"])
def test_a_file_that_executes_code_is_refused_and_not_run(form: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "harmful.pth"
    content = {"conv1.weight": torch.zeros(2), "extra": Harmful(marker)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(Harmful(marker), protocol=4 if form == "pickle 4" else 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(InputError, match="could execute code"):
        read_weights(path)
    assert not marker.exists()
    torch.load(path, weights_only=False) if not form.startswith("pickle") else pickle.loads(path.read_bytes())
    assert marker.exists()  # the file really was harmful


def test_unknown_choices_list_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"no network 'resnet19'.*resnet18, resnet34, resnet50"):
        build_backbone(name="resnet19", weights=None)
    with pytest.raises(InputError, match=r"alexnet.*resnet50"):
        build_backbone(name="nothing", weights=None)
    with pytest.raises(InputError, match=r"no stage 'layer9'.*layer1, layer2, layer3, layer4"):
        build_backbone(name="resnet18", cut="layer9", weights=None)
    with pytest.raises(InputError, match="torchvision or timm, but got keras"):
        build_backbone(name="resnet18", library="keras", weights=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"timm has no network 'resnet19'.*resnet18"):
        build_backbone(name="resnet19", library="timm", weights=None)
    for cut in ("9", "layer3"):
        with pytest.raises(InputError, match=f"cannot be cut after stage '{cut}'"):
            build_backbone(name="resnet18", library="timm", cut=cut, weights=None)


def test_a_cut_that_gives_no_map_is_refused() -> None:
    with pytest.raises(InputError, match=r"resnet18 gives features of shape \(1, 512\)"):
        build_backbone(name="resnet18", cut="flatten", weights=None)
    with pytest.raises(InputError, match="swin_t gives features of shape"):
        build_backbone(name="swin_t", cut="features", weights=None)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of torch, and a network that is down. Returns the folder of cached files."""

    def down(*_: object, **__: object) -> None:
        raise URLError("network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", down)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", down)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_url", down)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_no_network_names_the_three_ways_out(library: str, offline: Path) -> None:
    with pytest.raises(InputError) as error:
        build_backbone(name="resnet18", library=library)  # type: ignore[arg-type]
    for part in ("cannot be fetched", "network is unreachable", "connect to the network once", "weights=/path/"):
        assert part in str(error.value)
    assert "backbone.weights=null" in str(error.value)
    assert list(offline.iterdir()) == []


def test_a_cached_file_serves_without_a_network(offline: Path, resnet18: nn.Module, resnet18_state: State) -> None:
    cached = saved(resnet18_state, offline / "resnet18-f37072fd.pth")
    assert_same_features(cut_resnet("imagenet"), resnet18)
    cached.write_bytes(cached.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth is damaged.*delete it, and it is fetched again"):
        cut_resnet("imagenet")


def test_published_densenet_weights_load_by_name(
    offline: Path, densenet: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_densenet_names(densenet.body.state_dict())
    path = saved(old, offline / "densenet121-a639ec97.pth")
    assert_same_features(build_backbone(name="densenet121"), densenet)
    path.unlink()
    enum = tv.DenseNet121_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **_: dict(old))  # as just fetched
    assert_same_features(build_backbone(name="densenet121"), densenet)


def test_timm_trunks_with_and_without_a_cut() -> None:
    whole = build_backbone(name="resnet18", library="timm", weights=None)
    assert (whole.channels, feature_map(whole, 240, 345).shape[2:]) == (512, (8, 11))
    cut = build_backbone(name="resnet18", library="timm", cut="3", weights=None)
    assert (cut.channels, feature_map(cut, 240, 345).shape[2:]) == (256, (15, 22))


def test_a_full_timm_file_fits_its_feature_extractor(tmp_path: Path) -> None:
    # timm's extractor knows ``stages.0.x`` as ``stages_0.x``.
    network = timm.create_model("convnext_atto")
    path = saved(network.state_dict(), tmp_path / "convnext.pth")
    trunk = build_backbone(name="convnext_atto", library="timm", weights=str(path))
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(trunk.eval()(image), network.eval().stages(network.stem(image)))
    saved({k: v for k, v in network.state_dict().items() if k != "stem.0.bias"}, path)
    with pytest.raises(InputError, match=r"stem_0\.bias is missing"):
        build_backbone(name="convnext_atto", library="timm", weights=str(path))


def test_a_network_of_one_image_size_is_refused() -> None:
    with pytest.raises(InputError, match="vit_tiny_patch16_224 does not take images of any size"):
        build_backbone(name="vit_tiny_patch16_224", library="timm", weights=None)


WEIGHTS = os.environ.get("LIVERATTN_WEIGHTS")


@pytest.mark.skipif(WEIGHTS is None, reason="LIVERATTN_WEIGHTS names no folder of pretrained weights")
@pytest.mark.parametrize(
    ("name", "cut", "file"),
    [
        ("mobilenet_v2", None, "mobilenet_v2-imagenet.pth"),
        ("resnet18", "layer3", "resnet18-imagenet-to-layer3.pth"),
    ],
)
def test_real_pretrained_weights_load(name: str, cut: str | None, file: str) -> None:
    assert WEIGHTS is not None
    path = Path(WEIGHTS) / file
    trunk = build_backbone(name=name, cut=cut, weights=str(path))
    first = next(parameter for parameter in trunk.parameters())
    torch.testing.assert_close(first.data, torch.load(path, weights_only=True)[next(iter(trunk.body.state_dict()))])
    features = feature_map(trunk, 240, 345)
    assert features.isfinite().all()
    random = feature_map(build_backbone(name=name, cut=cut, weights=None), 240, 345)
    assert (features - random).abs().mean() > 0.05
    with pytest.raises(InputError, match="does not fit the backbone"):
        build_backbone(name="resnet50", weights=str(path))


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert "conv1.weight" in read_weights(tmp_path / "plain.pth")
    with pytest.raises(InputError, match=r"bomb\.pth is damaged .*would unpack to 4 MB"):
        read_weights(tmp_path / "bomb.pth")
