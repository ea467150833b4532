"""One fold run: ``python -m liverattn.train +experiment=resnet_240``. A sweep multiplies this."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from liverattn.commands import option
from liverattn.configuration import build, check_name, plain, verb
from liverattn.errors import expect_choice, expect_number, expect_whole
from liverattn.prepare import prepared_data
from liverattn.runs import RunFolder
from liverattn.sweeps.cell_job import work_on_cell
from liverattn.training.distributed import following, is_leader

if TYPE_CHECKING:
    from liverattn.models.classifier import LesionClassifier
    from liverattn.training.fold_run import FoldRun


@verb("train")
def main(cfg: DictConfig) -> str | None:
    """Train one fold, or go on with it, or show it if it is finished."""
    run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return work_on_cell(run, lambda: train(cfg, run))
    if run.is_finished:
        print(f"This run is finished. To run it again, remove {run.path}")
    train(cfg, run)
    if is_leader():
        show(run, cfg.protocol.name, build(cfg.tracking).shown_by)
    return None


def train(cfg: DictConfig, run: RunFolder) -> None:
    """Bring a run to its end, unless it is there."""
    if run.is_finished:
        return
    with run.working() if is_leader() else following():
        if not run.is_finished:  # by the process that this one waited for
            compose(cfg, run).execute()


def compose(cfg: DictConfig, run: RunFolder) -> "FoldRun":
    """Build all parts of a fold run from its configuration; what needs no data is refused before they are read."""
    from liverattn.data.labels import case_labels
    from liverattn.evaluation.scores import chosen_tasks
    from liverattn.models.backbones import IMAGENET
    from liverattn.provenance import run_tags
    from liverattn.training.beginning import begin
    from liverattn.training.fold_run import FoldRun
    from liverattn.training.hardware import keep_freed_memory
    from liverattn.training.probe import remembered_fastest

    keep_freed_memory()
    check(cfg)
    settings, config = build(cfg.trainer), plain(cfg)
    recipe, augmentation, protocol = build(cfg.optim), build(cfg.data.augmentation), build(cfg.protocol)
    tracking, tasks = build(cfg.tracking), chosen_tasks(config["data"]["tasks"])
    outputs = [name for task in tasks for name in task.outputs]
    hardware = settings.hardware()
    is_download = cfg.backbone.weights == IMAGENET  # which waits until the data are there
    model = network(cfg, len(outputs), **({"weights": None} if is_download else {}))
    recipe.stages(model)  # refuses frozen stages that are not there
    manifest, cases = prepared_data(cfg)
    if is_download:
        model = network(cfg, len(outputs))
    folds = protocol.assignment(manifest, Path(cfg.paths.outputs) / "splits")
    rows = protocol.rows(manifest, folds)
    labels = case_labels(manifest, outputs, cfg.data.lesion_free)
    fingerprints = {"data": cases.fingerprint, "assignment": folds.hash}
    ids = manifest.table["image_id"]
    parts = {part: ids[chosen].tolist() for part, chosen in vars(rows).items()}
    memory = Path(cfg.paths.outputs) / "fastest.json"
    fastest = functools.partial(remembered_fastest, model, cases.size, recipe, memory=memory)
    parameters = sum(one.numel() for one in model.parameters())
    hardware = begin(
        run, config, fingerprints, parts, parameters, hardware, fastest if settings.leaves_choice else None
    )
    counts = ", ".join(f"{len(names)} {part.replace('_', ' ')}" for part, names in parts.items() if names)
    print(f"Cases: {counts}; {hardware.accelerator}, {hardware.precision}")
    return FoldRun(
        run=run,
        manifest=manifest,
        cases=cases,
        labels=labels,
        truth=case_labels(manifest, outputs),
        tasks=tasks,
        rows=rows,
        protocol=cfg.protocol.name,
        model=model,
        alpha=cfg.model.attention.alpha,
        recipe=recipe,
        augmentation=augmentation,
        reduction=cfg.data.reduction,
        clip=cfg.data.preprocessing.clip,
        settings=settings,
        hardware=hardware,
        tracking=tracking,
        tags=run_tags(config, fingerprints),
        config=config,
        seed=cfg.seed,
        in_sweep=HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN,
    )


def network(cfg: DictConfig, outputs: int, **backbone: Any) -> "LesionClassifier":
    """The network of a run, as its seed initializes it.

    Args:
        cfg: Configuration.
        outputs: Their number.
        backbone: Options of the trunk that take the place of the configuration's.
    """
    import pytorch_lightning as pl

    from liverattn.models.classifier import LesionClassifier

    pl.seed_everything(cfg.seed, verbose=False)
    trunk, lambdas = build(cfg.backbone, **backbone), plain(cfg.model)["attention"]["lambdas"]
    return LesionClassifier(trunk, lambdas=lambdas, outputs=outputs, mirror=cfg.model.mirror)


def check(cfg: DictConfig) -> None:
    """Refuse options without a meaning that no part of a fold run refuses by itself, before anything is read."""
    from liverattn.data.targets import REDUCTIONS

    check_name("name", cfg.name)
    check_name("data.name", cfg.data.name)
    expect_whole("seed", cfg.seed, 0, 2**32 - 1)  # what numpy takes
    expect_number("model.attention.alpha", cfg.model.attention.alpha, 0)
    expect_choice("data.reduction", cfg.data.reduction, REDUCTIONS)


def show(run: RunFolder, protocol: str, shown_by: str) -> None:
    """Print the results and where they are, and what shows all runs."""
    from rich.console import Console

    from liverattn.reporting.tables import attention_table, metrics_table, number

    by_protocol, console = run.read_metrics()["protocols"], Console()
    metrics = by_protocol[protocol]
    console.print(metrics_table(metrics, protocol))
    if metrics["attention"]["cases_with_boxes"]:
        console.print(attention_table(metrics))
    for other in by_protocol.keys() - {protocol}:
        print(f"Score of the same training under protocol={other}: {number(by_protocol[other]['score'])}")
    print(f"Run folder: {run.path}\nLook at:    {run.path / 'attention.png'} and {run.path / 'roc.png'}")
    print(f"Runs:       {shown_by}\nNext:       python -m liverattn.report {option('run', run.path)}")


if __name__ == "__main__":
    main()
