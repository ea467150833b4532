"""A local page to box lesions fast: ``python -m liverattn.annotate data.manifest=...``."""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from liverattn.commands import option
from liverattn.configuration import build, check_text, verb
from liverattn.errors import InputError, expect_boolean
from liverattn.runs import RunFolder

if TYPE_CHECKING:
    from liverattn.annotation.session import Session
    from liverattn.annotation.suggestions import Suggester


@verb("annotate")
def main(cfg: DictConfig) -> None:
    """Open the table, serve the page until Ctrl-C, and say what is done."""
    from liverattn.annotation.page import Desk
    from liverattn.annotation.server import address, bound_socket, serve

    suggester = None
    for name, value in {
        "data.manifest": cfg.data.manifest,
        "data.root": cfg.data.root,
        "suggest": cfg.suggest,
    }.items():
        if value is not None:
            check_text(name, value)
    for name in ("advance", "open"):
        expect_boolean(name, cfg[name])
    if cfg.suggest is not None:
        import torch

        suggester = suggesting(RunFolder(Path(cfg.suggest).expanduser()), cfg.threshold)
        torch.set_num_threads(1)  # plenty for one image, and 20 times faster than sharing busy cores
    with bound_socket(cfg.port) as listener, closing(opened(cfg.data.manifest, cfg.data.root)) as session:
        progress = session.progress()
        for note in session.notes:
            print(f"Note: {note}")
        print(f"{session.table.path}: {progress.cases} images, {progress.left} left")
        desk = Desk(session, advance=cfg.advance, suggester=suggester)
        print(f"Annotate at {address(desk, listener)} (Ctrl-C ends; everything is saved at once)", flush=True)
        serve(desk, listener, open_browser=cfg.open)
        show(session)


def opened(manifest: str | None, root: str | None) -> "Session":
    """Open the table, or begin one for a folder of images."""
    from liverattn.annotation.session import Session
    from liverattn.annotation.table import create_table

    if manifest is None and root is None:
        raise InputError("Nothing to annotate. Give a table, data.manifest=..., or a folder of images, data.root=...")
    folder = None if root is None else Path(root).expanduser()
    path = Path(manifest).expanduser() if manifest is not None else Path(str(folder)) / "cases.csv"
    is_there = path.exists()
    if folder is not None and not is_there:
        for line in create_table(folder, path):
            print(f"Left out: {line}")
    session = Session(path, folder)
    if manifest is None and is_there:  # a table of one's own may leave images out
        session.add_new_images()
    return session


def suggesting(run: RunFolder, threshold: float) -> "Suggester":
    """The network of a finished fold run, as a source of suggestions."""
    from liverattn.annotation.suggestions import Suggester
    from liverattn.models.classifier import LesionClassifier
    from liverattn.training.copies import read_copy

    copies = [run.copy(task) for task in ("lesion", "malignancy", "type") if run.copy(task).exists()]
    if not run.is_finished or not copies:
        raise InputError(f"{run.path} is not the folder of a finished fold run. Give one as suggest=...")
    copy = read_copy(copies[0])
    config = OmegaConf.create(dict(copy.config))
    config.backbone.weights = config.backbone.sha256 = None  # the copy holds them
    outputs = [name for task in config.data.tasks.values() if task is not None for name in task.outputs]
    network = LesionClassifier(
        build(config.backbone),
        lambdas=list(config.model.attention.lambdas),
        outputs=len(outputs),
        mirror=config.model.get("mirror", False),  # runs of an older version do not say
    )
    network.load_state_dict(dict(copy.weights))
    preprocessing = build(config.data.preprocessing)
    parts = json.loads(run.split.read_text())
    seen = [*parts["train"], *parts.get("selection", [])]
    return Suggester(network, preprocessing, clip=preprocessing.clip, threshold=threshold, seen=seen)


def show(session: "Session") -> None:
    """Print what is done, what is left, and what to run next."""
    progress, path = session.progress(), session.table.path
    speed = "" if progress.seconds is None else f", {progress.seconds:.1f} seconds per image (median)"
    print(f"\nLabeled: {progress.complete} of {progress.cases}{speed}\nTable:   {path}")
    if progress.left:
        print(
            f"Left:    {progress.left} (blank lesion, or a lesion without boxes); the same command goes on from here."
        )
    else:
        root = "" if session.table.root == path.parent else f" {option('data.root', session.table.root)}"
        print(f"Next:    python -m liverattn.prepare data=manifest {option('data.manifest', path)}{root}")


if __name__ == "__main__":
    main()
