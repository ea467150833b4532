"""Everything that a comparison says, for a reader who doubts: tables, figures, one page of them, and the checklist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from liverattn.comparison.architectures import kept_together
from liverattn.comparison.curves import roc_panels
from liverattn.comparison.held_out import out_of_fold
from liverattn.comparison.measured_attention import attention_by_architecture, detection_table
from liverattn.comparison.metadata_baseline import metadata_baseline, what_it_is
from liverattn.comparison.pairs import auc_intervals, compare_pairs, comparison_table, interval_table
from liverattn.comparison.probabilities import (
    calibration_panels,
    calibration_table,
    decision_panels,
    judged,
    operating_table,
)
from liverattn.comparison.results import Comparison
from liverattn.comparison.scored import Scored
from liverattn.comparison.subgroups import subgroup_table
from liverattn.comparison.tables import pooled, protocols, table_2, table_3
from liverattn.evaluation.calibration import calibration_line, reliability
from liverattn.evaluation.intervals import DRAWS
from liverattn.files import replacing
from liverattn.provenance import environment_of, versions
from liverattn.reporting.claim import claim_checklist
from liverattn.reporting.evidence import EvidenceSection, write_evidence_page
from liverattn.reporting.figures import roc_folds_figure
from liverattn.reporting.probability_figures import calibration_figure, decision_figure
from liverattn.reporting.results import ResultTable

FIGURES = {
    "figure5.png": "ROC curves (Fig. 5)",
    "calibration.png": "Reliability of the ensemble",
    "decision.png": "Decision curves",
}
# Title, question, tables and figures of each section of the page.
SECTIONS = (
    (
        "How good are they?",
        "AUCs on held-out cases, the intervals that patients leave, and what image metadata reach without any network.",
        ("table2", "table3", "intervals"),
        ("figure5.png",),
    ),
    (
        "Is the ensemble better?",
        "Paired tests on the same images; the last column is the smallest difference that could have been seen.",
        ("compare",),
        (),
    ),
    (
        "What does selection add?",
        "The same trainings scored three ways, and the scales that fold runs have of their own.",
        ("protocols", "pooled"),
        (),
    ),
    (
        "Where do the networks look?",
        "Attention that is no better than the center prior has not found the lesion.",
        ("attention", "detection"),
        (),
    ),
    (
        "Can the probabilities be trusted?",
        "Slope 1 and intercept 0 are calibrated; thresholds come from cases that they are not judged on.",
        ("calibration", "operating_points"),
        ("calibration.png", "decision.png"),
    ),
    ("For whom does it work?", "The ensemble in parts of the cases.", ("subgroups",), ()),
)
# Options of the training loop that change what is trained, by the names that the checklist knows them by, too.
OF_TRAINER = ("balanced", "devices", "ema", "gradient_clip", "limit_batches", "mixup", "overfit_batches")
CHOSEN_BY_THESE = (
    "The members are the best by the same held-out cases, which flatters the ensemble against what was left out. Name "
    "them beforehand (members=[...]) for a test without this."
)


def evidence_tables(comparison: Comparison) -> list[ResultTable]:
    """All tables that the recorded numbers allow."""
    protocol, tasks, baseline = comparison.protocol, comparison.tasks, metadata_baseline(comparison.ensemble)
    beside: list[Scored] = [] if baseline is None else [baseline]
    intervals = interval_table([*comparison.rows, *beside], protocol, tasks)
    made = [
        table_2(comparison),
        table_3(comparison),
        intervals if baseline is None else intervals.with_note(what_it_is(baseline)),
        paired_tests(comparison, beside),
        protocols(comparison),
        pooled(comparison),
        attention_by_architecture(comparison.ranking, protocol, tasks),
        detection_table(comparison.ranking, protocol, tasks),
        calibration_table(comparison.rows, protocol),
        operating_table(comparison.rows, protocol),
        subgroup_table([comparison.ensemble, *beside], protocol, tasks),
    ]
    return [table for table in made if table is not None]


def paired_tests(comparison: Comparison, beside: Sequence[Scored]) -> ResultTable | None:
    """The ensemble against every architecture that it is not itself, and against ``beside``; None without any."""
    others = [scored for scored in comparison.ranking if (scored.label,) != comparison.members]
    others += beside
    if not others:
        return None
    pairs = compare_pairs(comparison.ensemble, others, comparison.protocol, draws=DRAWS, seed=0)
    table = comparison_table(pairs, comparison.tasks, comparison.protocol)
    return table if comparison.are_named else table.with_note(CHOSEN_BY_THESE)


def write_evidence(comparison: Comparison, tables: Sequence[ResultTable], folder: Path) -> None:
    """Write the tables, the figures, ``evidence.html`` with all of them, and ``claim.md``.

    Args:
        comparison: That the tables were made of.
        tables: See :func:`evidence_tables`.
        folder: What an earlier comparison left there and this one does not have is removed.
    """
    for name in {name for _, _, names, _ in SECTIONS for name in names} - {table.name for table in tables}:
        for path in folder.glob(f"{name}.*"):
            path.unlink()
    for table in tables:
        table.write(folder)
    roc_folds_figure(roc_panels(comparison), folder / "figure5.png")
    calibration_figure(calibration_panels(comparison.ensemble, comparison.protocol), folder / "calibration.png")
    rows = [row for row in (comparison.ensemble, metadata_baseline(comparison.ensemble)) if row is not None]
    decision_figure(decision_panels(rows, comparison.protocol), folder / "decision.png")
    facts = claim_facts(comparison, tables)
    with replacing(folder / "claim.md") as temporary:
        temporary.write_text(claim_checklist(facts))
    write_evidence_page(
        f"{folder.name}, {facts['data']}", _shown(facts), _sections(tables, folder), folder / "evidence.html"
    )


def evidence_files(tables: Sequence[ResultTable]) -> list[str]:
    """Names of all files that :func:`write_evidence` leaves."""
    of_tables = [f"{table.name}.{suffix}" for table in tables for suffix in ("md", "csv", "tex")]
    return [*of_tables, *FIGURES, "evidence.html", "claim.md"]


def _sections(tables: Sequence[ResultTable], folder: Path) -> list[EvidenceSection]:
    by_name = {table.name: table for table in tables}
    return [
        EvidenceSection(
            title,
            question,
            [by_name[name] for name in names if name in by_name],
            [(FIGURES[name], folder / name) for name in figures],
        )
        for title, question, names, figures in SECTIONS
    ]


def _shown(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    positives = ", ".join(f"{count} {name}" for name, count in facts["positives"].items())
    runs = f"{facts['fold_runs']} of each architecture: {facts['repeats']} x {facts['folds']} folds"
    return [
        ("cases", f"{facts['images']} images of {facts['patients']} {facts['kept_together']}; {positives}"),
        ("fold runs", f"{runs}, protocol {facts['protocol']}"),
        ("ensemble", "; ".join(facts["members"])),
        ("score", f"{facts['score_weights']} (Eq. 4)"),
    ]


def claim_facts(comparison: Comparison, tables: Sequence[ResultTable]) -> dict[str, Any]:
    """What :func:`~liverattn.reporting.claim.claim_checklist` is told."""
    found = out_of_fold(comparison.shown, comparison.protocol)
    intervals = auc_intervals(comparison.ensemble, comparison.protocol)
    architecture = comparison.ranking[0].architecture
    assert architecture is not None
    config = yaml.safe_load(architecture.any_run.folder.config.read_text())
    total = sum(task.weight for task in comparison.tasks)
    trained = [run.environment for label in comparison.members for run in comparison.fold_runs(label).values()]
    environment = environment_of(trained)
    return {
        "data": architecture.any_run.data_name,
        "images": len(found.images),
        "patients": len(set(found.patients.tolist())),
        "kept_together": kept_together(architecture.any_run),
        "positives": {name: int((found.truth[:, k] == 1).sum()) for k, name in enumerate(comparison.outputs)},
        "tasks": [vars(task) for task in comparison.tasks],
        "score_weights": " + ".join(f"{task.weight / total:.3g} {task.name}" for task in comparison.tasks),
        "folds": len({fold for _, fold in comparison.cells}),
        "repeats": len({repeat for repeat, _ in comparison.cells}),
        "fold_runs": len(comparison.cells),
        "inner_folds": config["protocol"].get("inner_folds"),
        "split_file": config["protocol"].get("split_file") is not None,
        "excluded": len(config["data"].get("exclude") or []),
        "protocol": comparison.protocol,
        "near_duplicates_grouped": config["data"].get("group_duplicates"),
        "architectures": [_architecture(scored) for scored in comparison.ranking if scored.label in comparison.members],
        "members": list(comparison.members),
        "intervals": {name: vars(one) for name, one in intervals.items()},
        "calibration": _calibration_facts(comparison),
        "files": evidence_files(tables),
        "versions": {name: value for name, value in environment.items() if name != "machine"},
        "unrecorded": sum(not one for one in trained),
        "evaluated": versions(),
        "machine": environment.get("machine"),
    }


def _architecture(scored: Scored) -> dict[str, Any]:
    assert scored.architecture is not None
    run = scored.architecture.any_run
    config = yaml.safe_load(run.folder.config.read_text())
    trunk, trainer = config["backbone"], config["trainer"]
    facts: dict[str, Any] = {
        "label": scored.label,
        "backbone": run.backbone,
        "library": trunk.get("library"),
        "cut": trunk.get("cut"),
        "weights": trunk.get("weights"),
        "height": run.size[0],
        "width": run.size[1],
        "lambdas": list(run.lambdas),
        "alpha": config["model"]["attention"].get("alpha"),
        "parameters": run.parameters,
        "epochs": trainer.get("max_epochs"),
        "batch_size": trainer.get("batch_size"),
        "optimizer": _plain(config["optim"]),
        "augmentation": _plain(config["data"].get("augmentation") or {}),
        "preprocessing": _plain(config["data"]["preprocessing"]),
        "lesion_free": config["data"].get("lesion_free"),
        "reduction": config["data"].get("reduction"),
        "mirror": config["model"].get("mirror"),
        "seed": config["seed"],
        "precision": run.folder.record().get("precision"),
    }
    return facts | {name: trainer[name] for name in OF_TRAINER if name in trainer}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "_target_"}


def _calibration_facts(comparison: Comparison) -> dict[str, Any]:
    found, facts = out_of_fold(comparison.shown, comparison.protocol), {}
    for output in comparison.outputs:
        cases = judged(found, found.probability, comparison.tasks, output)
        curve = reliability(cases.truth, cases.probability)
        line = calibration_line(cases.truth, cases.probability)
        if curve is not None and line is not None:
            facts[output] = {"brier": curve.brier, "slope": line.slope.value, "intercept": line.intercept.value}
    return facts
