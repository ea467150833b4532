"""What a report is on, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from liverattn.comparison.subjects import one_ensemble, one_run
from liverattn.errors import InputError
from liverattn.files import write_json
from tests.finished_runs import Cohort, write_run

SMALL = Cohort(counts=(4, 0, 0, 0, 2, 2), repeats=1, folds=2)


def ensemble(folder: Path, **changes: Any) -> Path:
    """Two members over two cells, ``b`` counting three times as much; inner runs of ``a`` only."""
    results: dict[str, Any] = {}
    for name in "ab":
        runs = [(fold, None, write_run(folder, name, SMALL, 0, fold)) for fold in range(2)]
        if name == "a":
            runs.append((0, 4, write_run(folder, name, SMALL, 0, 0, inner_folds=4)))
        results[name] = {
            "runs": [
                {"repeat": 0, "fold": fold, "inner": inner is not None, "folder": str(run.path)}
                for fold, inner, run in runs
            ]
        }
    record = {"protocol": "last", "members": ["a", "b"], "weights": [1, 3], "cells": [[0, 0], [0, 1]]}
    write_json(folder / "mine" / "metrics.json", {**record, "results": results, **changes})
    return folder / "mine"


def test_a_run_is_one_member_of_one_cell(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", SMALL, 0, 1)
    subject = one_run(run.path)
    assert (subject.kind, subject.protocol, subject.cells) == ("run", "paper", [(0, 1)])
    (member,) = subject.members
    assert (member.label, member.weight) == ("a", 1.0)
    assert subject.outputs == SMALL.outputs
    assert one_run(run.path, "last").protocol == "last"
    inner = write_run(tmp_path, "b", SMALL, inner_folds=4)
    assert one_run(inner.path).protocol == "inner" and one_run(inner.path, "paper").protocol == "paper"


def test_a_run_that_cannot_be_reported_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run\.json.*ensemble="):
        one_run(tmp_path)
    run = write_run(tmp_path, "a", SMALL)
    with pytest.raises(InputError, match=r"no results of protocol=inner\. Choose one of paper, last"):
        one_run(run.path, "inner")
    run.config.write_text("{")
    with pytest.raises(InputError, match=r"config\.yaml or run\.json is absent, damaged"):
        one_run(run.path)
    run.metrics.unlink()
    with pytest.raises(InputError, match=r"not finished \(it is interrupted\)"):
        one_run(run.path)


def test_an_ensemble_has_its_members_weights_and_protocol(tmp_path: Path) -> None:
    subject = one_ensemble(ensemble(tmp_path))
    assert (subject.kind, subject.protocol, subject.cells) == ("ensemble", "last", [(0, 0), (0, 1)])
    assert [(member.label, member.weight) for member in subject.members] == [("a", 0.25), ("b", 0.75)]
    assert all(not run.is_inner for member in subject.members for run in member.runs.values())
    assert one_ensemble(tmp_path / "mine", "paper").protocol == "paper"


def test_a_member_without_weight_takes_no_part(tmp_path: Path) -> None:
    subject = one_ensemble(ensemble(tmp_path, weights=[0, 2]))
    assert [(member.label, member.weight) for member in subject.members] == [("b", 1.0)]


def test_an_ensemble_that_cannot_be_reported_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metrics\.json.*run="):
        one_ensemble(tmp_path)
    folder = ensemble(tmp_path)
    with pytest.raises(InputError, match=r"protocol=outer\. Choose one of paper, inner, last"):
        one_ensemble(folder, "outer")
    with pytest.raises(InputError, match="every cell that serves protocol=inner"):
        one_ensemble(folder, "inner")
    record = json.loads((folder / "metrics.json").read_text())
    gone = Path(record["results"]["b"]["runs"][1]["folder"])
    (gone / "metrics.json").rename(gone / "elsewhere")
    with pytest.raises(InputError, match=f"gone or not finished:\n  - {gone}"):
        one_ensemble(folder)


@pytest.mark.parametrize(
    "changes",
    [{"weights": [1]}, {"members": ["a", "x"]}, {"cells": [[0]]}, {"results": []}, {"weights": ["much", 1]}],
)
def test_a_damaged_record_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"metrics\.json is not that of an ensemble of this version, or damaged"):
        one_ensemble(ensemble(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"protocol": "paper"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        one_ensemble(tmp_path)


def test_cells_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not name a fold run of every cell"):
        one_ensemble(ensemble(tmp_path, cells=[[0, 0], [0, 1], [1, 0]]))
    with pytest.raises(InputError, match="does not name a fold run of every cell"):
        one_ensemble(ensemble(tmp_path / "again", cells=[]))
