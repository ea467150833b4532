"""Everything that a comparison says, together: one page, the checklist's facts, and what older runs cannot say."""

from pathlib import Path

import pytest
from markupsafe import escape

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.evidence import (
    CHOSEN_BY_THESE,
    SECTIONS,
    claim_facts,
    evidence_files,
    evidence_tables,
    write_evidence,
)
from liverattn.comparison.members import candidates
from liverattn.comparison.pairs import auc_intervals
from liverattn.comparison.results import Comparison, compare
from liverattn.comparison.scored import rank, read
from liverattn.provenance import versions
from liverattn.runs import find_runs
from tests.finished_runs import TWO_TASKS, Cohort, write_architecture

COHORT = Cohort(counts=(30, 0, 0, 0, 15, 15), tasks=TWO_TASKS, repeats=2)


def compared(outputs: Path, protocol: str = "last", members: list[str] | None = None) -> Comparison:
    found = candidates(group_architectures(finished_runs(outputs)), None, inner=protocol == "inner", repeats=None)
    ranking = rank(read(found), protocol)
    chosen = [one.label for one in ranking] if members is None else members
    return compare(ranking, chosen, None, protocol, are_named=members is not None)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    outputs = tmp_path_factory.mktemp("evidence")
    for name, noise in (("a", 0.5), ("b", 1.0)):
        write_architecture(outputs, name, COHORT, [0, 1], noise=noise, inner_folds=4, backbone__name=name)
    return compared(outputs, "inner")


def test_one_page_holds_every_table_and_figure(comparison: Comparison, tmp_path: Path) -> None:
    tables = evidence_tables(comparison)
    write_evidence(comparison, tables, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(evidence_files(tables))
    page = (tmp_path / "evidence.html").read_text()
    shown = [name for _, _, names, _ in SECTIONS for name in names]
    assert sorted(shown) == sorted({*(table.name for table in tables), "table3"})  # no types here
    assert all(page.count(str(escape(table.title))) == 1 for table in tables)
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 3 and "://" not in page
    assert "metadata alone" in page and "center prior" in page and "Research use only" in page
    claim = (tmp_path / "claim.md").read_text()
    assert "intervals.md" in claim and "| 44 |" in claim
    assert not any(image in page + claim for image in COHORT.images)  # nothing here names an image


def test_the_ensemble_is_tested_against_all_that_it_is_not(comparison: Comparison, tmp_path: Path) -> None:
    table = next(table for table in evidence_tables(comparison) if table.name == "compare")
    assert {row.cells[0] for row in table.rows} == {"a", "b", "metadata alone"}
    assert CHOSEN_BY_THESE in table.notes
    write_architecture(tmp_path, "a", COHORT, [0, 1], inner_folds=4)
    for path in tmp_path.rglob("cases.parquet"):
        path.unlink()  # no metadata: the ensemble of one has nothing beside it
    assert "compare" not in {table.name for table in evidence_tables(compared(tmp_path, "inner", ["a"]))}


def test_the_checklist_is_told_the_numbers_of_the_tables(comparison: Comparison) -> None:
    tables = evidence_tables(comparison)
    facts = claim_facts(comparison, tables)
    assert facts["images"] == facts["patients"] == 60 and facts["kept_together"] == "patients"
    assert facts["positives"] == {"lesion": 30, "malignancy": 15}
    assert (facts["folds"], facts["repeats"], facts["fold_runs"], facts["inner_folds"]) == (3, 2, 6, 4)
    assert [one["backbone"] for one in facts["architectures"]] == ["a", "b"] and "ema" not in facts["architectures"][0]
    assert facts["intervals"]["lesion"] == vars(auc_intervals(comparison.ensemble, "inner")["lesion"])
    row = next(r for t in tables if t.name == "calibration" for r in t.rows if r.cells[:2] == ["lesion", "ensemble"])
    assert facts["calibration"]["lesion"]["brier"] == row.cells[4].mean  # type: ignore[union-attr]


def test_a_training_on_a_part_of_its_cases_is_told(tmp_path: Path) -> None:
    changes = {"trainer.limit_batches": 3, "data.exclude": ["x"], "protocol.split_file": "folds.csv"}
    write_architecture(tmp_path, "a", COHORT, [0, 1], **{name.replace(".", "__"): v for name, v in changes.items()})
    facts = claim_facts(compared(tmp_path), [])
    assert facts["architectures"][0]["limit_batches"] == 3
    assert facts["excluded"] == 1 and facts["split_file"] is True


def test_versions_are_those_of_the_runs(tmp_path: Path) -> None:
    write_architecture(tmp_path, "a", COHORT, [0, 1])
    first, *others = find_runs(tmp_path)
    facts = claim_facts(compared(tmp_path), [])
    assert facts["versions"] == {} and facts["unrecorded"] == 6 and facts["evaluated"] == versions()
    for run in others:
        run.update_record(environment={"torch": "2.0", "git_commit": "abc"})
    facts = claim_facts(compared(tmp_path), [])
    assert facts["versions"]["torch"] == "2.0 (5 of 6 fold runs), not recorded (1 of 6 fold runs)"
    assert facts["unrecorded"] == 1
    first.update_record(environment={"torch": "2.0", "git_commit": "def"})
    facts = claim_facts(compared(tmp_path), [])
    assert facts["versions"] == {"torch": "2.0", "git_commit": "abc (5 of 6 fold runs), def (1 of 6 fold runs)"}
    assert facts["unrecorded"] == 0 and facts["machine"] is None and facts["architectures"][0]["parameters"] is None
    for run in (first, *others):
        run.update_record(environment={"torch": "2.0", "machine": "a laptop, 2 threads"}, parameters=12)
    facts = claim_facts(compared(tmp_path), [])
    assert facts["machine"] == "a laptop, 2 threads" and facts["versions"] == {"torch": "2.0"}
    assert facts["architectures"][0]["parameters"] == 12


def test_runs_of_an_older_version_say_what_they_can(tmp_path: Path) -> None:
    write_architecture(tmp_path, "a", COHORT, [0, 1])
    for path in tmp_path.rglob("cases.parquet"):
        path.unlink()
    (tmp_path / "there").mkdir()
    for stale in ("subgroups.md", "table3.csv"):
        (tmp_path / "there" / stale).write_text("of other data, under the same name")
    older = compared(tmp_path)
    tables = evidence_tables(older)
    assert {table.name for table in tables}.isdisjoint({"subgroups", "table3"})
    write_evidence(older, tables, tmp_path / "there")
    assert {path.name for path in (tmp_path / "there").iterdir()} == set(evidence_files(tables))
    assert "metadata alone" not in (tmp_path / "there" / "intervals.md").read_text()
