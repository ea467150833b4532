"""A bundle, or one fold run, for other programs: ``python -m liverattn.export bundle=...``. Research use only."""

import functools
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from liverattn.bundle.containers import expect_outside
from liverattn.commands import option
from liverattn.configuration import build, path_of, plain, verb
from liverattn.errors import InputError
from liverattn.files import usable_folder

if TYPE_CHECKING:
    from liverattn.bundle.bundle import Bundle
    from liverattn.exporting.folder import ExportFolder
    from liverattn.tracking import MlflowTracking


@verb("export")
def main(cfg: DictConfig) -> None:
    """Bundle a run if one is given, then write the bundle in every format and show where it is."""
    formats = checked(cfg)
    bundled = bundler(cfg)
    registry = tracked(cfg) if "mlflow" in formats else None  # a server that is gone costs no bundle
    bundle = bundled()
    contents = bundle.contents
    print(f"Bundle:  {contents.name}, {len(contents.networks)} networks, {bundle.digest[:12]}. Research use only.")
    print(f"         {bundle.path}")
    if not formats:
        print(f"Use it:  python -m liverattn.predict {option('bundle', bundle.path)} images=...")
        return
    from liverattn.exporting.folder import ExportFolder

    folder = ExportFolder(place(cfg, bundle), bundle)
    write_graphs(folder, formats)
    if "mlflow" in formats:
        write_model(folder, registry)
    print(f"Folder:  {folder.path}")


def checked(cfg: DictConfig) -> list[str]:
    """The formats; options that cannot be used are refused before anything is read.

    Raises:
        InputError: What is to be exported is not said, or a format cannot be written here.
    """
    from liverattn.exporting.folder import check_formats

    if (cfg.bundle is None) == (cfg.run is None):
        given = "neither" if cfg.run is None else "both"
        raise InputError(f"Expected exactly one of bundle=FOLDER and run=RUN_FOLDER, but got {given}.")
    if cfg.run is None and cfg.get("protocol") is not None:
        raise InputError("protocol chooses the copies of a run (run=RUN_FOLDER); those of a bundle are chosen already.")
    formats: list[str] = [cfg.formats] if isinstance(cfg.formats, str) else plain(cfg.formats)
    check_formats(formats)
    if not formats and cfg.run is None:
        raise InputError("formats is empty: nothing is done with a bundle. Give one, such as formats=[onnx].")
    return formats


def place(cfg: DictConfig, bundle: "Bundle") -> Path:
    """The folder of what is written.

    Raises:
        InputError: It cannot be used, or lies in the bundle, which would be refused from then on.
    """
    beside = Path(os.path.abspath(bundle.path)).parent if cfg.run is None else path_of(cfg.run, "run")
    folder = beside / "export" if cfg.out is None else path_of(cfg.out, "out")
    expect_outside(folder, bundle.path)
    return usable_folder(folder)


def bundler(cfg: DictConfig) -> "Callable[[], Bundle]":
    """What makes the bundle of a run, or gives the one that is there. Both are read at once, nothing is written.

    Raises:
        InputError: The run or the bundle cannot be used.
    """
    from liverattn.bundle.bundle import Bundle

    if cfg.run is None:
        found = Bundle(path_of(cfg.bundle, "bundle"))
        return lambda: found
    from liverattn.comparison.bundling import bundle, one_run
    from liverattn.runs import RunFolder

    run = RunFolder(path_of(cfg.run, "run"))
    protocol = None if cfg.get("protocol") is None else str(cfg.protocol.name)
    name = run.path.resolve().name
    return functools.partial(bundle, one_run(run, protocol), "one", name, run.path / "bundle")


def tracked(cfg: DictConfig) -> "MlflowTracking | None":
    """Where the MLflow model is registered; None: nowhere.

    Raises:
        InputError: The tracking server or database cannot be used.
    """
    from liverattn.tracking import MlflowTracking

    tracking = build(cfg.tracking)
    if not isinstance(tracking, MlflowTracking):
        return None
    tracking.check()
    return tracking


def write_graphs(folder: "ExportFolder", formats: Sequence[str]) -> None:
    """Write the ensemble and each network, and say how far each lies from what it was made from."""
    from rich.progress import track

    from liverattn.exporting.folder import SUFFIXES
    from liverattn.exporting.programs import graphs

    if not set(formats) & set(SUFFIXES):
        return
    count = 1 + len(folder.bundle.contents.networks)
    for graph in track(graphs(folder.bundle), "Exporting", total=count, transient=True):
        for written in folder.write_graph(graph, formats):
            if written.problem is not None:
                print(f"None:    {written.file}: {written.problem}")
                continue
            difference = written.difference
            tried = "not tried: onnxruntime is not installed" if difference is None else f"within {difference:.0e}"
            print(f"Graph:   {written.file} ({tried})")


def write_model(folder: "ExportFolder", tracking: "MlflowTracking | None") -> None:
    """Write the MLflow model, register it where runs are tracked, and say how it is served."""
    from liverattn.exporting.pyfunc import model_name, register

    path = folder.write_model()
    if tracking is not None:
        address = register(folder.bundle, tracking, model_name(folder.bundle.contents), path)
        print(f"Model:   {address} in {tracking.address}")
    model = shlex.quote(str(path))
    print(f"Serve:   MLFLOW_DISABLE_TELEMETRY=true mlflow models serve -m {model} --env-manager local -p 5001")


if __name__ == "__main__":
    main()
