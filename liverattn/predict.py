"""A bundle on new images: ``python -m liverattn.predict bundle=... images=...``. Research use only."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig

from liverattn.bundle.containers import expect_outside
from liverattn.configuration import path_of, plain, verb
from liverattn.errors import InputError, expect_boolean
from liverattn.files import forget_unfinished, usable_folder

if TYPE_CHECKING:
    from liverattn.prediction.job import PredictionJob


@verb("predict")
def main(cfg: DictConfig) -> None:
    """Predict on all images, or go on with it; write tables, pictures and the report."""
    from liverattn.locks import locked

    folder = path_of(cfg.out, "out")
    expect_outside(folder, path_of(cfg.bundle, "bundle"))
    usable_folder(folder)
    with locked(folder / ".lock"):  # two that write one journal would each miss what the other did
        forget_unfinished(folder)
        job = opened(cfg, folder)
        work(job)
        tables = job.write_tables()
        page, sheet = report(job, cfg), job.write_sheet()
    show(job)
    print(f"Table:   {tables[0]} (and .parquet)\nLook at: {page}{'' if sheet is None else f' and {sheet}'}")


def opened(cfg: DictConfig, folder: Path) -> "PredictionJob":
    """Load the bundle, find the images and what is done of them."""
    import cv2

    import liverattn
    from liverattn.prediction.images import cases_of
    from liverattn.prediction.job import JobOptions, PredictionJob
    from liverattn.training.hardware import keep_freed_memory

    keep_freed_memory()
    cv2.setNumThreads(1)  # the network needs the cores
    expect_boolean("names", cfg.names)
    names = ("operating_point", "threshold", "overlays", "maps", "pictures")
    options = JobOptions(**{name: cfg[name] for name in names})
    bundle = path_of(cfg.bundle, "bundle")
    root = None if cfg.root is None else path_of(cfg.root, "root")
    cases, notes = cases_of(_images(cfg.images), root=root, frames=cfg.frames)
    predictor = liverattn.load(bundle, device=cfg.device, precision=cfg.precision, batch_size=cfg.batch_size)
    job = PredictionJob(folder, predictor, cases, options)
    contents = predictor.contents
    print(
        f"Bundle:  {contents.name}, {len(contents.networks)} networks, {job.predictor.digest[:12]}. Research use only."
    )
    for note in notes:
        print(f"Note:    {note}")
    return job


def _images(images: Any) -> Path | list[Path]:
    """A path, or a list of them."""
    if not isinstance(images, ListConfig):
        return path_of(images, "images")
    if not images:
        raise InputError("images=[] names no image. Give an image, a folder, a table or a DICOM file.")
    return [path_of(one, "images") for one in plain(images)]


def work(job: "PredictionJob") -> None:
    """Predict on what is left, with the number of images per second."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    left = len(job.left)
    if left < len(job.cases):
        print(f"Done:    {len(job.cases) - left} of {len(job.cases)} images already")
    speed = TextColumn("{task.fields[speed]:.1f} images/s")
    started = time.perf_counter()
    with Progress(
        TextColumn("Predicting"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn(), transient=True
    ) as bar:
        task = bar.add_task("", total=left, speed=0.0)

        def advance(count: int) -> None:
            done = bar.tasks[0].completed + count
            bar.update(task, advance=count, speed=done / (time.perf_counter() - started))

        job.run(advance)
    seconds = time.perf_counter() - started
    if left:
        print(f"Speed:   {left} images in {seconds:.1f} s, {left / seconds:.1f} images/s")


def report(job: "PredictionJob", cfg: DictConfig) -> Path:
    """Write ``report.html``, and scores where labels are known."""
    from rich.console import Console

    from liverattn.prediction.scoring import scored
    from liverattn.reporting.prediction import PredictionReport, ReportedImage, write_prediction_report

    contents, point = job.predictor.contents, job.options.operating_point
    thresholds = contents.thresholds(point)
    known = scored(job)
    tables = [] if known is None else [known.aucs(), known.rates(point, thresholds)]
    if known is None:
        _forget_scores(job)
    for table in tables:
        table.write(job.folder)
        Console().print(table.terminal())
    content = PredictionReport(
        title=f"{contents.name} ({job.predictor.digest[:12]})",
        outputs=contents.outputs,
        point=point,
        thresholds=thresholds,
        counts=job.counts(),
        tables=tables,
        figures=[] if known is None else known.draw(job.folder),
        show_names=cfg.names,
    )
    page = job.folder / "report.html"
    images = (ReportedImage(row.number, row.values, job.picture(row.number)) for row in job.rows())
    write_prediction_report(content, images, page)
    return page


def _forget_scores(job: "PredictionJob") -> None:
    """Those of labels that are no longer given; labels that give none are not passed over silently."""
    for name in ("aucs", "rates", "roc", "calibration"):
        for suffix in ("md", "csv", "tex", "png"):
            (job.folder / f"{name}.{suffix}").unlink(missing_ok=True)
    if any(case.truth for case in job.cases.values()):
        print("Note:    labels are known, but no output has both a positive and a negative image: no AUC")


def show(job: "PredictionJob") -> None:
    """Print what was found, and what is wrong or odd about which images."""
    counts = job.counts()
    print(f"Images:  {', '.join(f'{count} {name}' for name, count in counts.items()).replace(' images', '', 1)}")
    for start, column in (("Error:  ", "error"), ("Warning:", "warnings")):
        shown = [f"{row.values['image_id']}: {row.values[column]}" for row in job.rows() if row.values[column]]
        for line in shown[:10]:
            print(f"{start} {line}")
        if len(shown) > 10:
            print(f"{start} ... and {len(shown) - 10} more in the table")


if __name__ == "__main__":
    main()
