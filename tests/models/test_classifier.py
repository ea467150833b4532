"""The network as a whole: sizes, normalization, what asking for the grid may not change."""

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from liverattn.errors import InputError
from liverattn.models.attention import attention_pool
from liverattn.models.backbones import Backbone, build_backbone
from liverattn.models.classifier import LesionClassifier, Standardization


class Recorder(nn.Module):
    """A body that keeps its input and gives it back at a third of the size."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.seen = image
        return {"map": nn.functional.avg_pool2d(image, 3)}


def small_trunk(channels: int = 6) -> Backbone:
    body = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2), nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout(0.5))
    return Backbone(TakesLast(body), channels)


class TakesLast(nn.Module):
    """As timm's extractors: a list of maps."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image, self.body(image)]


def gray_images(cases: int = 3, size: tuple[int, int] = (21, 30)) -> Tensor:
    return 255 * torch.rand(cases, 1, *size, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def network() -> LesionClassifier:
    torch.manual_seed(0)
    network = LesionClassifier(small_trunk(), lambdas=(0.25, 1.0), outputs=7)
    nn.init.normal_(network.attention.weight)  # it starts at zero
    return network


def head_parameters(network: LesionClassifier) -> int:
    return sum(parameter.numel() for parameter in network.head.parameters())


@pytest.mark.parametrize(
    ("name", "channels", "lambdas", "count"),
    [("resnet50", 2048, (1,), 14_343), ("densenet121", 1024, (0.25, 1), 14_343), ("densenet121", 1024, (0,), 7_175)],
)
def test_sizes_of_the_paper_s_heads(name: str, channels: int, lambdas: tuple[float, ...], count: int) -> None:
    network = LesionClassifier(build_backbone(name=name, weights=None), lambdas=lambdas, outputs=7)
    assert head_parameters(network) == count == 7 * channels * len(lambdas) + 7
    assert sum(parameter.numel() for parameter in network.attention.parameters()) == channels + 1


def test_a_mirrored_view_is_averaged_outside_training_only(network: LesionClassifier) -> None:
    image = gray_images(size=(24, 32))
    with torch.no_grad():
        for _ in range(3):
            network(image)  # running means
        network.eval()
        logits, scores = network(image)
        other_logits, other_scores = network(image.flip(-1))
        assert (logits - other_logits).abs().max() > 1e-4  # the trunk has no such symmetry by itself
        network.mirror = True
        mean_logits, mean_scores = network(image)
        torch.testing.assert_close(mean_logits, (logits + other_logits) / 2)
        torch.testing.assert_close(mean_scores, (scores + other_scores.flip(-1)) / 2)
        same_logits, same_scores = network(image.flip(-1))
        torch.testing.assert_close(same_logits, mean_logits)
        torch.testing.assert_close(same_scores, mean_scores.flip(-1))
        views = []
        network.trunk.register_forward_hook(lambda trunk, images, features: views.append(len(images[0])))
        network.train()(image)
        assert views == [len(image)]


def test_mirror_is_a_choice_of_two() -> None:
    with pytest.raises(InputError, match=r"Expected model\.mirror to be true or false, but got yes\."):
        LesionClassifier(small_trunk(), lambdas=[1.0], outputs=1, mirror="yes")  # type: ignore[arg-type]


def test_normalization_is_that_of_torchvision() -> None:
    recorder = Recorder()
    network = LesionClassifier(Backbone(recorder, 3), lambdas=(1.0,), outputs=2)
    image = gray_images()
    network(image)
    three = (image / 255).expand(-1, 3, -1, -1)
    expected = transforms.normalize(three, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    torch.testing.assert_close(recorder.seen, expected)
    network(torch.full((1, 1, 6, 6), 255.0))
    assert recorder.seen[0, :, 0, 0].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_logits_by_hand() -> None:
    network = LesionClassifier(Backbone(Recorder(), 3), lambdas=(1.0,), outputs=1).eval()
    length = math.sqrt(3)  # that standardization divides by; mean 0 and deviation 1 so far
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]) * length)
        network.head.bias.fill_(0.5)
        network.attention.weight[0, 0, 0, 0] = length * 0.229 / 0.485  # s = -1 on black, -1 + 1 / 0.485 on white
    image = torch.zeros(1, 1, 3, 6)
    image[..., 3:] = 255
    logits, scores = network(image)
    bright = -1 + 1 / 0.485
    torch.testing.assert_close(scores, torch.tensor([[[[-1.0, bright]]]]), rtol=1e-4, atol=1e-4)
    p = [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-bright))]
    share = p[1] / sum(p)  # of white, the same in all channels
    color = [(share - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert logits.item() == pytest.approx(color[0] + 10 * color[1] + 100 * color[2] + 0.5, rel=1e-4)


def test_standardized_features_have_a_squared_length_of_one() -> None:
    features = (
        5 + torch.randn(4, 8, 6, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 9)[:, None, None]
    )
    standardized = Standardization(8)(features)
    assert standardized.square().sum(dim=1).mean().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(standardized.mean(dim=(0, 2, 3)), torch.zeros(8), rtol=0, atol=1e-6)
    assert not list(Standardization(8).parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Standardization(8)(features.bfloat16()).dtype == torch.float32


def test_standardization_can_be_multiplied_into_the_heads(network: LesionClassifier) -> None:
    network.train()
    network(gray_images())  # its running statistics are no longer 0 and 1
    network.eval()
    features = network.trunk((gray_images() / 255 - network.mean) / network.std)
    logits, scores = network(gray_images())
    statistics, channels = network.standardization, features.shape[1]
    assert statistics.running_mean is not None and statistics.running_var is not None
    gain = 1 / ((statistics.running_var + statistics.eps) * channels).sqrt()
    weight = network.attention.weight[0, :, 0, 0] * gain
    bias = network.attention.bias - weight @ statistics.running_mean
    torch.testing.assert_close(scores[:, 0], torch.einsum("bchw,c->bhw", features, weight) + bias)
    pooled = attention_pool(features, scores, network.lambdas)  # of the paper's own features
    whole = network.head.weight * gain.repeat(2)
    torch.testing.assert_close(
        logits, pooled @ whole.T + network.head.bias - whole @ statistics.running_mean.repeat(2), rtol=1e-4, atol=1e-5
    )


def test_grid_is_read_from_the_map_and_changes_nothing(network: LesionClassifier) -> None:
    network.train()
    frozen = network.trunk.body.body[1]  # type: ignore[index, union-attr]
    frozen.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    assert network.grid(21, 30) == (10, 14)
    assert network.grid(240, 345) == (119, 172)
    assert [module.training for module in network.modules()] == modes
    assert (network.training, frozen.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_batch_equals_case_by_case_in_any_memory_format(network: LesionClassifier) -> None:
    network.eval()
    image = gray_images()
    with torch.inference_mode():
        logits, scores = network(image)
        assert (logits.shape, scores.shape) == ((3, 7), (3, 1, 10, 14))
        assert logits.std(dim=0).min() > 1e-4  # the cases do differ
        for i in range(3):
            alone = network(image[i : i + 1])
            torch.testing.assert_close(alone[0], logits[i : i + 1])
            torch.testing.assert_close(alone[1], scores[i : i + 1])
        network.to(memory_format=torch.channels_last)
        for found, expected in zip(network(image.to(memory_format=torch.channels_last)), (logits, scores), strict=True):
            torch.testing.assert_close(found, expected)


def test_bfloat16_autocast_gives_float32(network: LesionClassifier) -> None:
    network.eval()
    with torch.inference_mode():
        exact = network(gray_images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(gray_images())
    for found, expected in zip(rough, exact, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    assert not torch.equal(rough[1], exact[1])  # autocast did reach the trunk


def test_losses_reach_every_part(network: LesionClassifier) -> None:
    logits, scores = network(gray_images())
    (logits.square().sum() + scores.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert network.attention.weight.grad is not None
    assert network.attention.weight.grad.abs().sum() > 0


def test_state_dict_holds_what_is_learned_only(network: LesionClassifier) -> None:
    names = network.state_dict().keys()
    assert not {"mean", "std"} & names
    assert {name.split(".")[0] for name in names} == {"trunk", "standardization", "attention", "head"}
    assert network.to(torch.float64).mean.dtype == torch.float64  # yet they follow the network


def test_illegal_input_is_refused(network: LesionClassifier) -> None:
    for shape in ((2, 3, 21, 30), (2, 21, 30)):
        with pytest.raises(ValueError, match=r"\(B, 1, H, W\), but got \(2"):
            network(torch.zeros(shape))
    for lambdas in ((), (1.0, -0.5), (math.nan,), (1e9,), (1, 1.0)):
        with pytest.raises(InputError, match=r"model\.attention\.lambdas"):
            LesionClassifier(small_trunk(), lambdas=lambdas, outputs=7)
