"""Explain the failures of a finished run or of an ensemble: ``python -m liverattn.report run=...``. Needs no model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from liverattn.configuration import path_of, verb
from liverattn.ensemble import show
from liverattn.errors import InputError, expect_boolean, expect_share, expect_whole
from liverattn.files import replacing, usable_folder
from liverattn.formulas import without_formulas
from liverattn.prepare import prepared_data

if TYPE_CHECKING:
    import pandas as pd

    from liverattn.comparison.explained import Data
    from liverattn.comparison.subjects import Member, Subject
    from liverattn.reporting.failures import FailureReport


@verb("report")
def main(cfg: DictConfig) -> None:
    """Read the recorded outputs, find what is called wrongly, measure the attention, write and show it."""
    from liverattn.comparison.attention_quality import attention_table
    from liverattn.comparison.explained import explain
    from liverattn.comparison.failed_cases import failure_report, find_failures
    from liverattn.comparison.vessels import known_vessels, vessel_table

    check(cfg)
    subject = chosen(cfg)
    explained = explain(subject, [data_of(member, cfg) for member in subject.members])
    vessels = known_vessels(explained)
    failures = find_failures(
        explained, count=cfg.cases, threshold=cfg.threshold, vessels=vessels, identifiers=cfg.identifiers
    )
    tables = [attention_table(explained)]
    if vessels is not None and (found := vessel_table(explained, vessels, cfg.threshold)) is not None:
        tables.append(found)
    folder = subject.folder / "report" if cfg.out is None else usable_folder(path_of(cfg.out, "out"))
    page = failure_report(failures, tables, cfg.threshold)
    write(page, failures.table(), folder)
    for task in page.tasks:
        print(f"{task.title}: {task.summary}")
    show(tables)
    print(f"Folder:  {folder}\nLook at: {folder / 'report.html'}")


def check(cfg: DictConfig) -> None:
    """Refuse options that cannot be used, before anything is read."""
    if (cfg.run is None) == (cfg.ensemble is None):
        given = "neither" if cfg.run is None else "both"
        raise InputError(f"Expected exactly one of run=FOLDER and ensemble=FOLDER, but got {given}.")
    expect_whole("cases", cfg.cases, 1)
    expect_share("threshold", cfg.threshold)
    expect_boolean("identifiers", cfg.identifiers)


def chosen(cfg: DictConfig) -> "Subject":
    """The run or the ensemble."""
    from liverattn.comparison.subjects import one_ensemble, one_run

    protocol = None if cfg.get("protocol") is None else str(cfg.protocol.name)
    if cfg.run is not None:
        return one_run(path_of(cfg.run, "run"), protocol)
    return one_ensemble(path_of(cfg.ensemble, "ensemble"), protocol)


def data_of(member: "Member", cfg: DictConfig) -> "Data":
    """The images of a member, from where they lay when it was trained or where they are said to lie now."""
    from liverattn.comparison.explained import Data

    if cfg.root is not None and not Path(cfg.root).expanduser().is_dir():
        raise InputError(f"root={cfg.root} is not a folder. Name the one that holds the images now.")
    config = member.configuration()
    config["data"]["source"] = _changed(config["data"]["source"], {"root": cfg.root, "path": cfg.manifest})
    config["paths"] = _changed(config["paths"], {"cache": cfg.cache})
    try:
        return Data(*prepared_data(OmegaConf.create(config)))
    except InputError as error:
        said = re.sub(r"\b(?:data|paths)\.(root|manifest|cache)=", r"\1=", str(error))  # as these are called here
        raise InputError(
            f"{said}\nThe report shows the images that {member.any_run.folder.path} was made from. If they were "
            "moved, say where they are: root=... (the folder), manifest=... (a table), cache=... (prepared images)."
        ) from error


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, **{key: value for key, value in changes.items() if value is not None and key in values}}


def write(page: "FailureReport", failures: "pd.DataFrame", folder: Path) -> None:
    """Write the tables, the wrong calls and last the page."""
    from liverattn.reporting.failures import write_failures

    for suffix in ("md", "csv", "tex"):  # other images may have taken the place of phantoms
        (folder / f"vessels.{suffix}").unlink(missing_ok=True)
    for table in page.tables:
        table.write(folder)
    with replacing(folder / "failures.csv") as temporary:
        without_formulas(failures).to_csv(temporary, index=False)
    write_failures(page, folder / "report.html")


if __name__ == "__main__":
    main()
