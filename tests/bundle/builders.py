"""Small bundles: untrained networks with everything around them as it is in a real one."""

import math
from pathlib import Path

import torch

from liverattn.bundle.bundle import Bundle, blank_network, packed, write_bundle
from liverattn.bundle.contents import (
    ArchitecturePart,
    Contents,
    CopyPart,
    CostPart,
    DataPart,
    MemberPart,
    MetricsPart,
    PointPart,
    PreparationPart,
    RangePart,
    TaskPart,
    TrunkPart,
)
from liverattn.models.classifier import LesionClassifier

TASKS = (
    TaskPart(name="lesion", outputs=("lesion",), weight=0.625, conditional=False),
    TaskPart(name="malignancy", outputs=("malignancy",), weight=0.375, conditional=True),
)


def architecture(
    label: str = "small",
    *,
    cut: str = "layer1",
    height: int = 64,
    width: int = 92,
    lambdas: tuple[float, ...] = (1.0,),
    mirror: bool = False,
) -> ArchitecturePart:
    return ArchitecturePart(
        label=label,
        trunk=TrunkPart(name="resnet18", library="torchvision", cut=cut),
        lambdas=lambdas,
        mirror=mirror,
        preparation=PreparationPart(height=height, width=width, crop=True, aspect="pad", intensity="top", clip=False),
    )


def network(part: ArchitecturePart, seed: int, outputs: int = 2) -> LesionClassifier:
    """Random weights, the attention head too, so that maps are not flat."""
    built = blank_network(part, outputs)
    random = torch.Generator().manual_seed(seed)
    for weights in built.parameters():
        weights.copy_(torch.randn(weights.shape, generator=random) * (0.3 if weights.dim() == 1 else 0.1))
    for head in (built.attention, built.head):  # standardized features are short
        head.weight.mul_(math.sqrt(built.trunk.channels))
    return built


def point(name: str, threshold: float) -> PointPart:
    rate = RangePart(value=0.9, low=0.8, high=0.95)
    return PointPart(name=name, threshold=threshold, sensitivity=rate, specificity=rate, positives=20, negatives=30)


def write_small(
    folder: Path,
    *,
    parts: tuple[ArchitecturePart, ...] = (),
    folds: int = 1,
    shared: bool = False,
    card: str = "# Card\n",
) -> Bundle:
    """A bundle of ``folds`` fold runs of each architecture; ``shared``: one copy for both tasks."""
    parts = parts or (architecture(),)
    members, files = [], []
    for k, part in enumerate(parts):
        for fold in range(folds):
            copies = {}
            for number, task in enumerate(TASKS):
                digest, content = packed(network(part, 10 * k + 3 * fold + (0 if shared else number)).state_dict())
                files.append((digest, content))
                copies[task.name] = CopyPart(network=digest, epoch=number)
            members.append(
                MemberPart(architecture=k, repeat=0, fold=fold, weight=1 / (len(parts) * folds), copies=copies)
            )
    auc = {name: RangePart(value=0.9, low=0.8, high=0.95) for name in ("lesion", "malignancy", "score")}
    contents = Contents(
        name="small",
        created="2026-01-02",
        protocol="paper",
        tasks=TASKS,
        architectures=parts,
        members=tuple(members),
        operating_points={
            "lesion": (point("sensitivity_90", 0.4), point("specificity_90", 0.6)),
            "malignancy": (point("sensitivity_90", 0.5), point("specificity_90", 0.7)),
        },
        metrics=MetricsPart(protocol="paper", fold_runs=3, cases=50, auc=auc),
        data=DataPart(name="phantom", fingerprint="f" * 64, assignment="a" * 64, counts={"images": 50, "lesion": 20}),
        costs={"one": CostPart(passes=2, milliseconds=1.0, machine="test")},
        versions={"liverattn": "0.1.0"},
    )
    return write_bundle(folder, contents, files, card)
