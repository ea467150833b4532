"""What a run is, in texts: its settings, what people filter by, and the versions that its results depend on."""

import functools
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
