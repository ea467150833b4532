"""The real images where ``LIVERATTN_AUL`` names them, else the phantoms."""

import os
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from liverattn.configuration import build, config_folder
from liverattn.data.manifest import Manifest


def settings(folder: Path, *overrides: str) -> DictConfig:
    """The configuration of ``liverattn.train`` with everything below ``folder``."""
    source = ["data=aul", f"data.root={os.environ['LIVERATTN_AUL']}"] if "LIVERATTN_AUL" in os.environ else []
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", [*source, f"paths.outputs={folder}", *overrides])


def cases(cfg: DictConfig) -> Manifest:
    """Read, or rendered, before anything is timed."""
    manifest: Manifest = build(cfg.data.source).manifest()
    return manifest
