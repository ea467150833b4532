import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from liverattn import ensemble, train
from liverattn.bundle.bundle import Bundle
from liverattn.comparison.bundling import bundle, one_run
from liverattn.errors import InputError
from liverattn.provenance import versions
from liverattn.runs import RunFolder, find_runs
from liverattn.training.copies import read_copy, read_last
from tests.conftest import Result
from tests.finished_runs import Cohort, write_run

Command = Callable[..., Result]

SMALL = Cohort(counts=(4, 0, 0, 0, 2, 2), repeats=1, folds=2)
FOLDS, MIRROR = ("protocol.folds=2", "protocol.repeats=1"), "model.mirror=true"


@pytest.fixture
def outputs(tmp_path: Path, tiny: list[str], command: Command) -> Path:
    """Two folds of one architecture, really trained."""
    for fold in (0, 1):
        result = command(train.main, *tiny, *FOLDS, f"protocol.fold={fold}", "name=tiny", "tracking=none", MIRROR)
        assert result.status == 0, result.err
    return tmp_path / "outputs"


@pytest.mark.slow
def test_bundles_of_an_ensemble_and_of_a_run(outputs: Path, command: Command) -> None:
    """One training serves all: it takes seconds."""
    for choice, folds in (("one", 1), ("all", 2)):
        result = command(
            ensemble.main, f"paths.outputs={outputs}", f"bundle={choice}", f"name={choice}", "tracking=none"
        )
        assert result.status == 0, result.err
        assert "ms per image" in result.out
        found = Bundle(outputs / "ensembles" / choice / "bundle")
        assert [member.fold for member in found.contents.members] == list(range(folds))
        assert sum(member.weight for member in found.contents.members) == pytest.approx(1)
        assert found.contents.costs["all"].passes == 2 * found.contents.costs["one"].passes
        assert found.contents.architectures[0].mirror and " and mirrored |" in found.card
        assert "Research use only" in found.card
        assert re.search(r"\bnan\b", found.card) is None
        check_against_runs(found, outputs)
    check_single_run(outputs)
    check_versions(outputs)
    check_without_checkpoints(outputs, command)


def check_against_runs(found: Bundle, outputs: Path) -> None:
    networks = found.networks()
    for run in find_runs(outputs / "runs"):
        fold = int(run.path.name.split("-f")[1][0])
        members = [member for member in found.contents.members if member.fold == fold]
        for member in members:
            for task, one in member.copies.items():
                copy = read_copy(run.copy(task))
                assert one.epoch == copy.epoch
                for name, value in networks[one.network].state_dict().items():
                    torch.testing.assert_close(value, copy.weights[name], rtol=0, atol=0)


def check_single_run(outputs: Path) -> None:
    run = find_runs(outputs / "runs")[0]
    paper = bundle(one_run(run, None), "one", "run", outputs / "paper")
    table = run.read_predictions()
    again = bundle(one_run(run, None), "one", "run", outputs / "again")
    assert again.digest == paper.digest
    rows = table[(table["protocol"] == "paper") & (table["task"] == "lesion")]
    points = {point.name: point for point in paper.contents.operating_points["lesion"]}
    called = expit(rows["logit_lesion"].to_numpy(np.float64)) >= points["sensitivity_90"].threshold
    truth = rows["truth_lesion"].to_numpy() == 1
    assert called[truth].mean() == points["sensitivity_90"].sensitivity.value
    assert paper.contents.metrics.auc["score"].value == pytest.approx(run.read_metrics()["protocols"]["paper"]["score"])
    last = bundle(one_run(run, "last"), "one", "run", outputs / "last")
    assert len(last.contents.networks) == 1
    weights = read_last(run.last).weights
    (network,) = last.networks().values()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    with pytest.raises(InputError, match="without an inner split"):
        one_run(run, "inner")
    with pytest.raises(InputError, match="not the folder of a finished fold run"):
        one_run(RunFolder(outputs), None)
    unfinished = RunFolder(outputs / "unfinished")
    unfinished.path.mkdir()
    unfinished.update_record(state="running")
    with pytest.raises(InputError, match=r"unfinished is not .* It is interrupted: the command that began it goes on"):
        one_run(unfinished, None)


def check_versions(outputs: Path) -> None:
    run = find_runs(outputs / "runs")[0]
    environment = run.record()["environment"]
    assert environment.pop("machine").endswith(" threads") and environment == versions()
    run.update_record(environment={"liverattn": "0.0.7", "torch": "1.0"})
    other = bundle(one_run(run, None), "one", "run", outputs / "other")
    assert other.contents.versions == {"liverattn": "0.0.7", "torch": "1.0"}
    assert "version 0.0.7; made on" in other.card and "- torch 1.0\n" in other.card
    run.update_record(environment={})
    older = bundle(one_run(run, None), "one", "run", outputs / "other")
    assert "version not recorded; made on" in older.card and older.card.endswith("- not recorded\n")


@pytest.mark.parametrize("asked", ["paper", None])
def test_copies_that_were_not_kept_are_refused(asked: str | None, tmp_path: Path) -> None:
    # The checkpoints of a run with an inner split are those of protocol=inner, whatever else is scored.
    named: dict[str, Any] = {"protocol.name": "paper"}
    run = write_run(tmp_path, "a", SMALL, inner_folds=4, **named)
    with pytest.raises(InputError, match=r"not those that protocol=paper would choose\. Choose protocol=inner or"):
        one_run(run, asked)
    assert one_run(run, "inner").protocol == "inner" and one_run(run, "last").protocol == "last"


@pytest.mark.parametrize(("name", "inner_folds"), [("paper", None), ("last", None), ("inner", 4), ("last", 4)])
def test_a_run_is_bundled_by_its_own_protocol(name: str, inner_folds: int | None, tmp_path: Path) -> None:
    named: dict[str, Any] = {"protocol.name": name}
    run = write_run(tmp_path, "a", SMALL, inner_folds=inner_folds, **named)
    assert one_run(run, None).protocol == name


def check_without_checkpoints(outputs: Path, command: Command) -> None:
    for run in find_runs(outputs / "runs"):
        run.copy("lesion").unlink()
    result = command(ensemble.main, f"paths.outputs={outputs}", "name=bare", "tracking=none")
    assert result.status == 0
    assert "Bundle:  none. No fold run has a copy of the task lesion" in result.out
    assert (outputs / "ensembles" / "bare" / "table2.md").exists()
