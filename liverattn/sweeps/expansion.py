"""From a command line to the cells of a sweep."""

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from liverattn.configuration import identity, plain
from liverattn.errors import InputError
from liverattn.files import digest
from liverattn.provenance import architecture_labels, architecture_settings, run_tags
from liverattn.sweeps.record import Cell, Sweep, known_or_new

# What the tags of a cell say already.
TAGGED = (
    "+experiment", "experiment", "backbone", "data", "protocol", "protocol.name", "protocol.repeat", "protocol.fold",
    "model.attention.lambdas", "model.attention.alpha", "seed",
)  # fmt: skip


def described_sweep(combinations: Sequence[Sequence[str]], configs: Sequence[DictConfig], config: DictConfig) -> Sweep:
    """What a sweep consists of.

    Args:
        combinations: Overrides of each cell.
        configs: Composed for each cell.
        config: Composed for the sweep itself.

    Raises:
        InputError: A cell asks for several processes, or its folder lies where later commands do not look.
    """
    refuse_ddp(configs)
    common = set.intersection(*(set(overrides) for overrides in combinations))
    outputs = Path(config.paths.outputs)
    trained = [plain(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])) for cfg in configs]
    labels = architecture_labels([(cfg["name"], architecture_settings(identity(cfg))) for cfg in trained])
    parts = zip(combinations, configs, trained, labels, strict=True)
    cells = [_cell(*part, common, outputs) for part in parts]
    refuse_elsewhere(cells, outputs)
    preset = config.hydra.runtime.choices.get("sweep")
    experiments = ", ".join(dict.fromkeys(cell.tags["experiment"] for cell in cells))
    return known_or_new(
        outputs,
        cells,
        name=experiments if preset is None else f"{preset} ({experiments})",
        command=shlex.join(["python", "-m", "liverattn.train", *sys.argv[1:]]),
        started=time.time(),
        jobs=min(_jobs(config.hydra.launcher), len(cells)),
    )


def _cell(
    overrides: Sequence[str],
    cfg: DictConfig,
    trained: Mapping[str, Any],
    label: str,
    common: set[str],
    outputs: Path,
) -> Cell:
    tags = run_tags(trained, {})
    del tags["git_commit"]  # of each run, when it is worked on
    other = [text for text in overrides if text not in common and text.split("=", 1)[0] not in TAGGED]
    return Cell(
        overrides=tuple(overrides),
        # Relative, so that the outputs can be moved.
        folder=os.path.relpath(Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir, outputs),
        epochs=cfg.trainer.max_epochs,
        tags={**tags, "settings": " ".join(map(_unnamed, other))},
        label=label,
    )


def _unnamed(override: str) -> str:
    # Settings become names of rows and of metrics in MLflow, which is not to have those of images.
    option = override.partition("=")[0]
    return f"{option}={digest(override)[:8]}" if option.lstrip("+") == "data.exclude" else override


def _jobs(launcher: DictConfig) -> int:
    if "n_jobs" in launcher:
        from joblib import effective_n_jobs

        return int(effective_n_jobs(launcher.n_jobs))
    if "submitit_folder" in launcher:
        return int(launcher.get("array_parallelism", sys.maxsize))
    return 1


def refuse_elsewhere(cells: Sequence[Cell], outputs: Path) -> None:
    """Refuse cells whose folders lie where later commands do not look for runs.

    Raises:
        InputError: A folder does.
    """
    for cell in cells:
        if Path(cell.folder).parts[0] != "runs":
            raise InputError(
                f"Expected the runs of a sweep to lie below {outputs / 'runs'}, where later commands look for them, "
                f"but got {os.path.normpath(outputs / cell.folder)}. Leave out hydra.sweep.dir and hydra.sweep.subdir; "
                "to have everything elsewhere: paths.outputs=..."
            )


def refuse_ddp(configs: Sequence[DictConfig]) -> None:
    """Refuse cells that are trained by several processes.

    Raises:
        InputError: A cell asks for them.
    """
    for cfg in configs:
        devices = OmegaConf.select(cfg, "trainer.devices", default=1)
        strategy = str(OmegaConf.select(cfg, "trainer.strategy", default="auto"))
        if devices != 1 or strategy.startswith("ddp"):
            raise InputError(
                "A sweep cannot train a cell with several processes, but got "
                f"trainer.devices={devices}, trainer.strategy={strategy}: each further process would begin the whole "
                "sweep again. Run the cells one by one, without -m; or keep trainer.devices=1 and work on several "
                "cells at once with hydra/launcher=joblib or hydra/launcher=slurm."
            )
