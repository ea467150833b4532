"""What a run is, in texts: its settings, what people filter by, and the versions that its results depend on."""

import functools
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "liverattn", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "mlflow", "albumentations",
    "opencv-python-headless", "timm", "scikit-learn", "numpy", "pandas", "pillow",
)  # fmt: skip
LONGEST_PARAMETER = 500
NOT_RECORDED = "not recorded"
# Of the data, an architecture has how images are shown to it and what it is asked; where they come from, and how they
# were imported, is decided by the hash of the fold assignment. Phantoms of all seeds have the same names.
NOT_ARCHITECTURE = ("protocol.", "data.")
OF_DATA = ("lesion_free", "reduction", "tasks.", "preprocessing.", "augmentation.", "seed", "counts.")


def flat_parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as ``a.b.c`` names with text values, short enough for MLflow."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flat_parameters(value, f"{name}."))
        else:
            flat[name] = str(value)[:LONGEST_PARAMETER]
    return flat


def architecture_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What determines an architecture, flat, as text.

    Args:
        config: What determines a fold run's training (:func:`liverattn.configuration.identity`).
    """
    of_data = tuple(f"data.{name}" for name in OF_DATA)
    kept = {
        name: value
        for name, value in flat_parameters(config).items()
        if name.startswith(of_data) or not name.startswith(NOT_ARCHITECTURE)
    }
    if "backbone.weights" in kept:  # the same file in another folder
        kept["backbone.weights"] = Path(kept["backbone.weights"]).name
    return kept


def architecture_labels(runs: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """The experiment of each run, with the fewest settings that tell architectures of one experiment apart.

    Args:
        runs: Experiment and settings of each.
    """
    namesakes: dict[str, list[Mapping[str, str]]] = {}
    for experiment, settings in runs:
        group = namesakes.setdefault(experiment, [])
        if settings not in group:
            group.append(settings)
    keys = {experiment: _telling_settings(group) for experiment, group in namesakes.items()}
    return [_label(experiment, settings, keys[experiment]) for experiment, settings in runs]


def _label(experiment: str, settings: Mapping[str, str], keys: Sequence[str]) -> str:
    short = [key.rpartition(".")[2] for key in keys]
    shown = [key if short.count(name) > 1 else name for key, name in zip(keys, short, strict=True)]
    values = [_short(settings.get(key, "-")) for key in keys]
    return " ".join([experiment, *(f"{name}={value}" for name, value in zip(shown, values, strict=True))])


def has_setting(settings: Mapping[str, str], said: str) -> bool:
    """Whether an architecture has a setting, as it stands in labels: ``lambdas=0.25,1``."""
    name, _, value = said.partition("=")
    return any(f".{key}".endswith(f".{name}") and _short(text) == value for key, text in settings.items())


def _telling_settings(groups: Sequence[Mapping[str, str]]) -> list[str]:
    differing = sorted({key for group in groups for key in group if any(g.get(key) != group[key] for g in groups)})
    chosen: list[str] = []

    def told_apart(keys: Sequence[str]) -> int:
        return len({tuple(group.get(key) for key in keys) for group in groups})

    while told_apart(chosen) < len(groups):
        chosen.append(max(differing, key=lambda key: told_apart([*chosen, key])))
    return chosen


def _short(value: str) -> str:
    """``[0.25, 1.0]`` as ``0.25,1``: readable, and typed without quotes inside."""
    return re.sub(r"\.0(?!\d)", "", value.strip("[]").replace(", ", ","))


def run_tags(config: Mapping[str, Any], fingerprints: Mapping[str, str]) -> dict[str, str]:
    """What people filter fold runs by, and the hashes of what the numbers rest on.

    Args:
        config: The composed configuration of ``liverattn.train``, plain.
        fingerprints: Of data and fold assignment.
    """
    size, protocol, attention = config["data"]["preprocessing"], config["protocol"], config["model"]["attention"]
    return {
        "experiment": config["name"],
        "architecture": config["backbone"]["name"],
        "lambda": ",".join(f"{scale:g}" for scale in attention["lambdas"]),
        "alpha": f"{attention['alpha']:g}",
        "resolution": f"{size['height']}x{size['width']}",
        "data": config["data"]["name"],
        "protocol": protocol["name"],
        "repeat": str(protocol["repeat"]),
        "fold": str(protocol["fold"]),
        "seed": str(config["seed"]),
        "git_commit": versions()["git_commit"],
        **{f"{name}_hash": value for name, value in fingerprints.items()},
    }


def versions() -> dict[str, str]:
    """Versions of what results depend on, and the project's git commit where it runs from a checkout."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "git_commit": _git_commit()}


def environment_since(record: Mapping[str, Any], now: Mapping[str, str]) -> dict[str, str]:
    """What a run trains with: what it was begun with, and what it goes on with where that changed.

    Args:
        record: ``run.json``, of a new run or of one that goes on.
        now: :func:`versions`, and ``machine``.
    """
    before = record.get("environment", dict.fromkeys(now, NOT_RECORDED) if "data" in record else now)
    changes = {name: [*before.get(name, NOT_RECORDED).split(" then "), value] for name, value in now.items()}
    return {
        name: " then ".join(values[:-1] if values[-2] == values[-1] else values) for name, values in changes.items()
    }


def environment_of(recorded: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What several fold runs trained with; where they differ, each with the number of runs that have it.

    Args:
        recorded: Of each run; empty where it is of an older program that recorded none.

    Returns:
        Empty if no run recorded any.
    """
    found = {}
    for package in dict.fromkeys(name for one in recorded for name in one):
        counts = Counter(one.get(package, NOT_RECORDED) for one in recorded)
        each = [f"{value} ({count} of {len(recorded)} fold runs)" for value, count in counts.most_common()]
        found[package] = next(iter(counts)) if len(counts) == 1 else ", ".join(each)
    return found


@functools.cache
def _git_commit() -> str:
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return "unknown (not a git checkout)"
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (git failed)"
