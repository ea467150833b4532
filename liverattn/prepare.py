"""Any source to a checked manifest, prepared images and a report: ``python -m liverattn.prepare data=...``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from liverattn.commands import option
from liverattn.configuration import build, check_name, check_types, plain, verb
from liverattn.errors import InputError, UnlabeledError, expect_boolean, written

if TYPE_CHECKING:
    from liverattn.data.audit import Audit
    from liverattn.data.cache import PreparedCases
    from liverattn.data.manifest import Manifest
    from liverattn.reporting.check import CheckReport

MOST_LINES = 12  # of warnings, and of notes, in the terminal; the report has all
MOST_PAIRS = 60  # in the report, as pictures; duplicates.csv has all
MOST_IMAGES = 60


def prepared_data(cfg: DictConfig) -> tuple["Manifest", "PreparedCases"]:
    """Read and check the cases of ``cfg.data`` and prepare their images, as far as that is not done yet.

    With ``data.group_duplicates``, patients whose images are near-duplicates become one.
    """
    from liverattn.data.cache import prepare_cases
    from liverattn.data.duplicates import merge_patients, near_duplicates
    from liverattn.data.exclusion import leaving_out

    check_types(cfg.data.source)
    expect_boolean("data.group_duplicates", cfg.data.group_duplicates)
    with leaving_out(excluded(cfg)):
        manifest, cache = build(cfg.data.source).manifest(), Path(cfg.paths.cache)
    if cfg.data.group_duplicates:
        manifest = merge_patients(manifest, near_duplicates(manifest, cache))
    return manifest, prepare_cases(manifest, build(cfg.data.preprocessing), cache)


def excluded(cfg: DictConfig) -> list[Any]:
    """The names of ``data.exclude``, as Hydra read them."""
    from liverattn.data.exclusion import exclude_option

    names = cfg.data.exclude
    if not OmegaConf.is_list(names):
        remedy = exclude_option([] if names is None else [str(names)])
        raise InputError(f"Expected data.exclude to be a list of image_ids, but got {written(names)}. Write {remedy}")
    return list(names)


def show(manifest: "Manifest", audited: "Audit") -> None:
    """Print counts in the form of Table 1, distributions, what an import converted, and warnings."""
    from rich.console import Console

    from liverattn.reporting.tables import counts_table, distribution_table

    numbers, console = audited.numbers(), Console()
    console.print(counts_table(numbers["counts"]))
    console.print(distribution_table(numbers["distributions"]))
    for kind, lines in (("Import", manifest.notes), ("Warning", audited.warnings)):
        for line in lines[:MOST_LINES]:
            print(f"{kind}: {line}")
        if len(lines) > MOST_LINES:
            print(f"{kind}: ... and {len(lines) - MOST_LINES} more in the report")


def page(name: str, manifest: "Manifest", cases: "PreparedCases", audited: "Audit") -> "CheckReport":
    """The report of data that can be used."""
    from liverattn.data.audit import contact_sample
    from liverattn.reporting.check import CheckedImage, CheckedPair, CheckReport

    def image(row: int, caption: str = "") -> CheckedImage:
        name = f"{manifest.table.at[row, 'image_id']}{caption}"
        return CheckedImage(cases.image(row) * cases.factors[row], cases.boxes[row], name)

    return CheckReport(
        title=name,
        warnings=audited.warnings,
        notes=manifest.notes,
        counts=audited.counts,
        distributions=audited.distributions,
        shortcuts=[(s.output, s.positive, s.negative, s.size, s.metadata, s.is_suspicious) for s in audited.shortcuts],
        pairs=None
        if audited.pairs is None
        else [
            CheckedPair(image(pair.first), image(pair.second), pair.similarity, remarks)
            for pair, remarks in audited.remarked_pairs()[:MOST_PAIRS]
        ],
        pair_count=len(audited.pairs or ()),
        images=[image(row, f": {kind}") for row, kind in contact_sample(manifest, MOST_IMAGES)],
        image_count=len(manifest),
    )


@verb("prepare")
def main(cfg: DictConfig) -> None:
    """Prepare the data of ``cfg.data`` and report on them; the exit status is 0 unless they cannot be used."""
    from liverattn.reporting.check import refusal, write_check

    check_name("data.name", cfg.data.name)
    name, folder = cfg.data.name, Path(cfg.paths.outputs) / "checked" / cfg.data.name
    expect_boolean("audit", cfg.audit)
    if not OmegaConf.is_list(cfg.export):
        raise InputError(
            f"Expected export to be a list, such as 'export=[coco,labelstudio]', but got {written(cfg.export)}."
        )
    try:
        manifest, cases = prepared_data(cfg)
    except UnlabeledError as awaited:
        print(awaited)
        return
    except InputError as error:
        write_check(refusal(name, error), folder / "check.html")
        print(f"Report: {folder / 'check.html'}", flush=True)
        raise
    from liverattn.data.audit import audit
    from liverattn.data.exports import write_exports
    from liverattn.data.manifest import write_manifest

    audited = audit(manifest, cases, Path(cfg.paths.cache) if cfg.audit else None)
    show(manifest, audited)
    audited.write(folder)
    write_check(page(name, manifest, cases, audited), folder / "check.html")
    table = folder / "cases.csv"
    if table.resolve() != Path(cfg.data.get("manifest") or "").resolve():  # never over what was read
        write_manifest(manifest, table)
    for line in write_exports(manifest, cfg.export, folder):
        print(line)
    print(f"Prepared images: {cfg.paths.cache} (data fingerprint {cases.fingerprint[:12]})")
    print(f"Look at:         {folder / 'check.html'}")
    options = f"data=manifest {option('data.manifest', table)} {option('data.root', manifest.root)}"
    print(f"Table of cases:  {table} ({options})")
    if manifest.table["lesion"].any():  # else nothing can be learned from them
        print(f"Next: {next_command(cfg, manifest)}")


def next_command(cfg: DictConfig, manifest: "Manifest") -> str:
    """What trains on the same data, without the outputs that they cannot teach."""
    from liverattn.data.labels import without_positives
    from liverattn.evaluation.scores import chosen_tasks

    given = [typed for typed in HydraConfig.get().overrides.task if typed.lstrip("+~").startswith(("data", "paths."))]
    tasks = chosen_tasks(plain(cfg)["data"]["tasks"])
    left_out = without_positives(manifest.table, {task.name: task.outputs for task in tasks})
    return shlex.join(["python", "-m", "liverattn.train", "+experiment=resnet_240", *given, *left_out])


if __name__ == "__main__":
    main()
