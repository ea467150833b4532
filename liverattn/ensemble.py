"""Finished fold runs to Tables 2 and 3, Figure 5 and an ensemble: ``python -m liverattn.ensemble``. Needs no model."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from liverattn.commands import option
from liverattn.configuration import build, check_name, plain, verb
from liverattn.errors import expect_choice
from liverattn.files import replacing, write_json

# Of the tables, those that are printed; all are written.
SHOWN = ("table2", "table3", "intervals", "protocols", "pooled", "attention")

if TYPE_CHECKING:
    from liverattn.comparison.results import Comparison
    from liverattn.reporting.results import ResultTable
    from liverattn.tracking import Tracking


@verb("ensemble")
def main(cfg: DictConfig) -> None:
    """Compare all architectures of one data set, average the best, write and show the results."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    check(cfg)
    comparison, tracking = compared(cfg), build(cfg.tracking)
    tracking.check()
    tables = write(comparison, folder)
    show(tables, SHOWN)
    track(tracking, cfg.name, comparison, tables, folder)
    print(f"Folder:  {folder}\nLook at: {folder / 'figure5.png'} and {folder / 'evidence.html'}")
    more = [table.name for table in tables if table.name not in SHOWN]
    print(f"Also:    {', '.join(more)} (.md, .csv, .tex), calibration.png, decision.png, claim.md")
    print(f"Runs:    {tracking.shown_by}", flush=True)
    pack(comparison, cfg.bundle, folder)


def check(cfg: DictConfig) -> None:
    """Refuse a name and a choice of bundle that cannot be used, before anything is computed."""
    check_name("name", cfg.name)
    expect_choice("bundle", cfg.bundle, ("one", "all", None))


def compared(cfg: DictConfig) -> "Comparison":
    """Find the fold runs, group and check them, rank the architectures and average the members."""
    from liverattn.comparison.architectures import choose_data, finished_runs, group_architectures
    from liverattn.comparison.members import PROTOCOLS, best_members, candidates, named_members
    from liverattn.comparison.results import compare
    from liverattn.comparison.scored import rank, read

    data = None if cfg.get("data") is None else cfg.data.name
    settings = plain(OmegaConf.masked_copy(cfg, ["members", "repeats", "weights"]))
    protocol = cfg.protocol.name
    expect_choice("protocol", protocol, PROTOCOLS)
    runs = choose_data(finished_runs(Path(cfg.runs)), data, cfg.assignment)
    architectures = group_architectures(runs)
    named = named_members(architectures, settings["members"])
    found = candidates(architectures, named, inner=protocol == "inner", repeats=settings["repeats"])
    ranking = rank(read(found), protocol)
    chosen = best_members([scored.label for scored in ranking], named, cfg.best)
    notes = list(found.notes)
    if named is None and len(chosen) < cfg.best:
        notes.append(f"Fewer architectures than best={cfg.best} are complete: the ensemble is made of {len(chosen)}.")
    return compare(ranking, chosen, settings["weights"], protocol, are_named=named is not None, notes=notes)


def write(comparison: "Comparison", folder: Path) -> list["ResultTable"]:
    """Write tables, figures, pages and predictions, and last ``metrics.json`` with all numbers."""
    from liverattn.comparison.evidence import evidence_tables, write_evidence

    tables, epochs = evidence_tables(comparison), comparison.epochs()
    write_evidence(comparison, tables, folder)
    with replacing(folder / "predictions.parquet") as temporary:
        comparison.predictions().to_parquet(temporary, index=False)
    if epochs is None:
        (folder / "epochs.csv").unlink(missing_ok=True)  # of an earlier comparison
    else:
        with replacing(folder / "epochs.csv") as temporary:
            epochs.to_csv(temporary, index=False)
    write_json(folder / "metrics.json", comparison.record())
    return tables


def pack(comparison: "Comparison", choice: Literal["one", "all"] | None, folder: Path) -> None:
    """Write the bundle beside the tables, which need no checkpoints and stay without it, whatever keeps it from it."""
    earlier = bundles_of(folder)
    if choice is None:
        print_earlier(earlier, folder)
        return
    from liverattn.comparison.bundling import NoCopiesError, bundle  # which needs torch and the networks

    try:
        written = bundle(comparison, choice, f"{folder.name}-{comparison.record()['data']}", folder / "bundle")
    except NoCopiesError as error:
        print(f"Bundle:  none. {error}")
        return
    finally:
        print_earlier(earlier, folder)
    shown = {
        name: f"{cost.passes} forward passes, {cost.milliseconds:.0f} ms per image"
        for name, cost in written.contents.costs.items()
    }
    print(f"Bundle:  {written.path} and .zip: {shown[choice]}")
    print("".join(f"         (bundle={name}: {text})\n" for name, text in shown.items() if name != choice), end="")
    print(f"Use it:  python -m liverattn.predict {option('bundle', written.path)} images=...")


def bundles_of(folder: Path) -> dict[Path, int]:
    """Whole bundles in the folder of an ensemble, and when they were written; the zip need not be the folder's."""
    last = {folder / "bundle": folder / "bundle" / "SHA256SUMS", folder / "bundle.zip": folder / "bundle.zip"}
    return {path: written.stat().st_mtime_ns for path, written in last.items() if written.exists()}


def print_earlier(earlier: Mapping[Path, int], folder: Path) -> None:
    """Name bundles that an earlier call left beside the new tables; their networks may be nowhere else."""
    now = bundles_of(folder)
    if left := [str(path) for path, written in earlier.items() if now.get(path) == written]:
        print(f"Caution: {' and '.join(left)} of an earlier call: not what these tables describe")


def show(tables: Sequence["ResultTable"], names: Collection[str] | None = None) -> None:
    """Print the tables (of these names), as wide as they are where the output is not a terminal, each note once."""
    from rich.console import Console

    tables = [table for table in tables if names is None or table.name in names]
    for table in tables:
        shown = table.terminal()
        console, natural = Console(), Console(width=1000).measure(shown).maximum
        (console if console.is_terminal else Console(width=natural)).print(shown)
    print("\n".join(f"- {note}" for note in dict.fromkeys(note for table in tables for note in table.notes)))


def track(
    tracking: "Tracking", name: str, comparison: "Comparison", tables: Sequence["ResultTable"], folder: Path
) -> None:
    """Publish the results as one MLflow run, in the place of the one that an earlier call published."""
    from liverattn.comparison.evidence import evidence_files
    from liverattn.provenance import versions

    files = [folder / name for name in evidence_files(tables)]
    with TemporaryDirectory() as upload:
        shared = Path(upload) / "predictions.parquet"
        tracking.shared_predictions(comparison.predictions()).to_parquet(shared, index=False)
        tracking.publish(
            name,
            {**comparison.tags(), "git_commit": versions()["git_commit"]},
            [*files, folder / "metrics.json", shared],
            comparison.tracked_numbers(),
            folder / "mlflow.json",
        )


if __name__ == "__main__":
    main()
