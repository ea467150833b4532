"""One fold run: ``python -m liverattn.train +experiment=resnet_240``. A sweep multiplies this."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from liverattn.configuration import build, plain, verb
from liverattn.files import write_json
from liverattn.prepare import prepared_data
from liverattn.runs import RunFolder

if TYPE_CHECKING:
    from liverattn.data.manifest import Manifest
    from liverattn.data.splits import Folds
    from liverattn.training.fold_run import FoldRun


@verb("train")
def main(cfg: DictConfig) -> None:
    """Train one fold, or go on with it, or show it if it is finished."""
    run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    if run.is_finished:
        print(f"This run is finished. To run it again, remove {run.path}")
    else:
        compose(cfg, run).execute()
    show(run, Path(cfg.paths.outputs))


def compose(cfg: DictConfig, run: RunFolder) -> "FoldRun":
    """Build all parts of a fold run from its configuration."""
    import pytorch_lightning as pl

    from liverattn.data.labels import case_labels
    from liverattn.evaluation.scores import Task
    from liverattn.models.classifier import LesionClassifier
    from liverattn.tracking import run_tags
    from liverattn.training.fold_run import FoldRun, begin

    settings = build(cfg.trainer)
    chosen = {name: task for name, task in cfg.data.tasks.items() if task is not None}
    tasks = [Task(name, tuple(task.outputs), task.weight, task.conditional) for name, task in chosen.items()]
    outputs = [name for task in tasks for name in task.outputs]
    manifest, cases = prepared_data(cfg)
    folds = assigned_folds(cfg, manifest)
    train_rows, held_out_rows = folds.split(cfg.protocol.repeat, cfg.protocol.fold)
    labels = case_labels(manifest, outputs, cfg.data.lesion_free)
    pl.seed_everything(cfg.seed, verbose=False)
    model = LesionClassifier(build(cfg.backbone), lambdas=plain(cfg.model.attention.lambdas), outputs=len(outputs))
    config = plain(cfg)
    fingerprints = {"data": cases.fingerprint, "assignment": folds.hash}
    hardware = begin(run, config, settings, fingerprints)
    ids = manifest.table["image_id"]
    held_out, training = ids[held_out_rows].tolist(), ids[train_rows].tolist()
    write_json(run.split, {"assignment": folds.hash, "held_out": held_out, "train": training})
    print(f"{len(training)} cases to train on, {len(held_out)} held out; {hardware.accelerator}, {hardware.precision}")
    return FoldRun(
        run=run,
        manifest=manifest,
        cases=cases,
        labels=labels,
        truth=case_labels(manifest, outputs),
        tasks=tasks,
        train_rows=train_rows,
        held_out_rows=held_out_rows,
        model=model,
        alpha=cfg.model.attention.alpha,
        recipe=build(cfg.optim),
        augmentation=build(cfg.data.augmentation),
        reduction=cfg.data.reduction,
        clip=cfg.data.preprocessing.clip,
        settings=settings,
        hardware=hardware,
        tracking=build(cfg.tracking),
        tags=run_tags(config, fingerprints),
        config=config,
        seed=cfg.seed,
    )


def assigned_folds(cfg: DictConfig, manifest: "Manifest") -> "Folds":
    """The fold assignment: the user's file, or one drawn and saved beside the runs."""
    from liverattn.data.splits import make_folds, read_folds, write_folds

    if cfg.protocol.split_file is not None:
        return read_folds(Path(cfg.protocol.split_file), manifest)
    folds = make_folds(manifest, cfg.protocol.repeats, cfg.protocol.folds, cfg.protocol.seed)
    path = Path(cfg.paths.outputs) / "splits" / f"{folds.hash[:12]}.json"
    if path.exists():
        return read_folds(path, manifest)
    write_folds(folds, path)
    return folds


def show(run: RunFolder, outputs: Path) -> None:
    """Print the results and where they are."""
    from rich.console import Console

    from liverattn.reporting.tables import attention_table, metrics_table

    metrics, console = run.read_metrics(), Console()
    console.print(metrics_table(metrics))
    if metrics["attention"]["cases_with_boxes"]:
        console.print(attention_table(metrics))
    print(f"Run folder: {run.path}\nLook at:    {run.path / 'attention.png'} and {run.path / 'roc.png'}")
    print("Runs:       make ui" + ("" if outputs == Path("outputs") else f" OUTPUTS={outputs}"))


if __name__ == "__main__":
    main()
