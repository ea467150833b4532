"""Finished run folders by the contract of ``liverattn.runs``, without training: synthetic logits of known quality."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from liverattn.data.shortcuts import METADATA
from liverattn.files import digest
from liverattn.runs import RunFolder, write_table

PAPER_TASKS: Mapping[str, Any] = {
    "lesion": {"outputs": ["lesion"], "weight": 0.5, "conditional": False},
    "malignancy": {"outputs": ["malignancy"], "weight": 0.3, "conditional": True},
    "type": {"outputs": ["angioma", "hcc", "fnh", "cyst", "metastasis"], "weight": 0.2, "conditional": True},
}
TWO_TASKS = {**{name: PAPER_TASKS[name] for name in ("lesion", "malignancy")}, "type": None}
KINDS = ("none", "angioma", "hcc", "fnh", "cyst", "metastasis")


@dataclass(frozen=True)
class Cohort:
    """Cases with labels and a fold assignment.

    Attributes:
        counts: Cases per kind.
        repeats: Of the cross-validation.
        folds: Of the cross-validation.
        tasks: As in the configuration.
        name: Of the data.
        seed: Of the assignment.
    """

    counts: Sequence[int] = (12, 3, 3, 3, 3, 6)
    repeats: int = 3
    folds: int = 3
    tasks: Mapping[str, Any] = field(default_factory=lambda: PAPER_TASKS)
    name: str = "phantom"
    seed: int = 0

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, count in zip(KINDS, self.counts, strict=True) for _ in range(count)]

    @property
    def images(self) -> list[str]:
        return [f"{self.name}-{i:03d}" for i in range(len(self.kinds))]

    @property
    def outputs(self) -> list[str]:
        return [name for task in self.tasks.values() if task is not None for name in task["outputs"]]

    @property
    def truth(self) -> pd.DataFrame:
        """0 and 1 by image; zeros for lesion-free images."""
        columns = {
            "lesion": [kind != "none" for kind in self.kinds],
            "malignancy": [kind in ("hcc", "metastasis") for kind in self.kinds],
            **{name: [kind == name for kind in self.kinds] for name in KINDS[1:]},
        }
        return pd.DataFrame(columns, index=self.images).astype(float)[self.outputs]

    def fold_of(self, repeat: int) -> dict[str, int]:
        """Stratified: the cases of each kind in turn, from a random one on."""
        random = np.random.default_rng([self.seed, repeat])
        folds = {}
        for kind in KINDS:
            members = [image for image, other in zip(self.images, self.kinds, strict=True) if other == kind]
            for position, member in enumerate(random.permutation(members)):
                folds[str(member)] = position % self.folds
        return folds

    @property
    def assignment(self) -> str:
        return digest([self.fold_of(repeat) for repeat in range(self.repeats)])


def configuration(cohort: Cohort, name: str, repeat: int, fold: int, inner_folds: int | None, root: str) -> Any:
    """As ``liverattn.train`` composes it, shortened."""
    return {
        "name": name,
        "seed": 0,
        "data": {
            "name": cohort.name,
            "root": root,
            "source": {"_target_": "liverattn.data.sources.phantom.PhantomSource", "root": root},
            "tasks": dict(cohort.tasks),
            "preprocessing": {"height": 240, "width": 345},
        },
        "backbone": {"name": "resnet50", "weights": f"{root}/resnet50.pth"},
        "model": {"attention": {"lambdas": [1.0], "alpha": 1.0}},
        "optim": {"trunk_rate": 0.003},
        "trainer": {"max_epochs": 60, "num_workers": None},
        "protocol": {
            "name": "paper" if inner_folds is None else "inner",
            "repeats": cohort.repeats,
            "folds": cohort.folds,
            "repeat": repeat,
            "fold": fold,
            "seed": cohort.seed,
            "split_file": None,
            "inner_folds": inner_folds,
        },
        "paths": {"outputs": root, "cache": f"{root}/prepared"},
        "tracking": {"experiment": "liverattn"},
    }


def merged(config: Any, changes: Mapping[str, Any]) -> Any:
    """Set ``a.b.c`` entries."""
    for name, value in changes.items():
        node = config
        *parents, last = name.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def write_run(
    outputs: Path,
    name: str,
    cohort: Cohort,
    repeat: int = 0,
    fold: int = 0,
    *,
    inner_folds: int | None = None,
    noise: float = 1.0,
    root: str = "/data",
    suffix: str = "",
    **changes: Any,
) -> RunFolder:
    """Write a finished run. Logits are truth plus noise; each task's copy and each protocol has noise of its own.

    Args:
        outputs: Where ``runs/`` lies.
        name: Of the experiment.
        cohort: Cases and folds.
        repeat: Of the run.
        fold: Held out.
        inner_folds: Of the inner split; None: a full run.
        noise: Its standard deviation; 0.1 is nearly perfect.
        root: Where data, weights and outputs are said to lie.
        suffix: Of the folder, to have several runs of one cell.
        changes: Entries of the configuration, with ``__`` for dots.
    """
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    config = merged(configuration(cohort, name, repeat, fold, inner_folds, root), changes)
    settings = digest([name, sorted((key, str(value)) for key, value in changes.items())])[:6] + suffix
    kind = "" if inner_folds is None else "inner-"
    run = RunFolder(outputs / "runs" / name / f"{cohort.name}-{kind}r{repeat}-f{fold}-{settings}")
    run.path.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(config))
    run.update_record(state="finished", assignment=cohort.assignment, data=digest([cohort.name, cohort.truth.shape]))

    fold_of = cohort.fold_of(repeat)
    held_out = [image for image in cohort.images if fold_of[image] == fold]
    training = [image for image in cohort.images if fold_of[image] != fold]
    selection = [] if inner_folds is None else training[::inner_folds]
    parts = {"held_out": held_out, "train": [i for i in training if i not in selection], "selection": selection}
    run.split.write_text(json.dumps({"assignment": cohort.assignment, **parts}))

    protocols = ("paper", "last") if inner_folds is None else ("inner", "paper", "last")
    draw = np.random.default_rng(list(f"{name} {settings} {repeat} {fold} {inner_folds}".encode()))
    run.write_predictions(predictions(cohort, held_out, protocols, noise, draw))
    write_table(case_table(cohort, held_out), run.cases)
    if selection:
        write_table(predictions(cohort, selection, ["inner", "last"], noise, draw), run.selection)
    run.metrics.write_text("{}")
    return run


def predictions(
    cohort: Cohort, held_out: Sequence[str], protocols: Sequence[str], noise: float, draw: np.random.Generator
) -> pd.DataFrame:
    """Rows of ``predictions.parquet``."""
    truth = cohort.truth.loc[list(held_out)]
    parts = []
    for protocol in protocols:
        # Selecting on the scored fold looks better than it is.
        spread = noise * (1.0 if protocol == "paper" else 1.6)
        for task, wanted in cohort.tasks.items():
            if wanted is None or (protocol != "last" and not any(truth[o].sum() > 0 for o in wanted["outputs"])):
                continue
            logits = truth.to_numpy() - 0.5 + spread * draw.standard_normal(truth.shape)
            part = pd.DataFrame(
                {"protocol": protocol, "task": task, "image_id": truth.index, "patient_id": truth.index, "epoch": 3}
            )
            part[[f"truth_{name}" for name in truth]] = truth.to_numpy().astype(np.float32)
            part[[f"logit_{name}" for name in truth]] = logits.astype(np.float32)
            parts.append(part.assign(**quality(cohort, held_out)))
    return pd.concat(parts, ignore_index=True)


def share(cohort: Cohort, images: Sequence[str]) -> np.ndarray:
    """Of each image that boxes cover, made up: larger for later images; NaN on lesion-free ones."""
    lesion = cohort.truth["lesion"].reindex(images).to_numpy()
    places = np.array([cohort.images.index(image) for image in images])
    return np.where(lesion == 1, 0.01 + 0.1 * places / len(cohort.images), np.nan)


def quality(cohort: Cohort, images: Sequence[str]) -> dict[str, np.ndarray]:
    """Attention that finds large lesions only."""
    chance = share(cohort, images)
    known = ~np.isnan(chance)
    return {
        "energy": 3 * chance,
        "lift": np.where(known, 3.0, np.nan),
        "pointing": np.where(known, chance > 0.06, np.nan),
        "chance": chance,
        "average_precision": np.where(known, 0.5, np.nan),
        "iou": chance / 2,
        "peak": np.where(known, 0.9, 0.2),
        "entropy": np.full(len(images), 0.7),
    }


def case_table(cohort: Cohort, images: Sequence[str]) -> pd.DataFrame:
    """Rows of ``cases.parquet``: lesion images are wider; odd images come from another site."""
    chance = share(cohort, images)
    places = np.array([cohort.images.index(image) for image in images])
    table = pd.DataFrame({"image_id": list(images), "site": np.where(places % 2, "odd", "even")})
    width = np.where(np.isnan(chance), 640, 800) + places % 7
    measured = dict(zip(METADATA, (width, 600, 0.1, 60.0, 40.0 + places), strict=True))
    table = table.assign(**measured)
    center = {"energy": 2 * chance, "lift": 0 * chance + 2, "pointing": 0 * chance, "chance": chance}
    table = table.assign(touched=2 * chance, **{f"center_{name}": value for name, value in center.items()})
    return table.assign(center_average_precision=chance, center_iou=chance * 0)


def write_architecture(
    outputs: Path, name: str, cohort: Cohort, repeats: Sequence[int] = (0, 1, 2), **more: Any
) -> None:
    """All fold runs of some repeats."""
    for repeat in repeats:
        for fold in range(cohort.folds):
            write_run(outputs, name, cohort, repeat, fold, **more)
