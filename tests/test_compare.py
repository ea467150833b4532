"""Paired tests from finished fold runs, as a user asks for them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from liverattn import compare
from liverattn.evaluation.comparisons import corrected_t_test
from liverattn.evaluation.delong import delong_test
from liverattn.runs import find_runs
from tests.conftest import Result
from tests.finished_runs import TWO_TASKS, Cohort, write_run

Command = Callable[..., Result]
COHORT = Cohort(counts=(60, 0, 0, 0, 20, 20), tasks=TWO_TASKS)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for name, noise in (("good", 0.6), ("fair", 1.2), ("poor", 2.5)):
        for repeat in range(3):
            for fold in range(3):
                write_run(tmp_path, name, COHORT, repeat, fold, noise=noise, optim__trunk_rate=noise)
    return tmp_path


def ranked(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """Of one fold run: (rank - 1/2) / n among the images that a task is judged on."""
    judged = table if task == "lesion" else table[table["truth_lesion"] == 1]
    ranks = rankdata(judged[f"logit_{task}"].to_numpy(np.float64))
    return judged.assign(p=(ranks - 0.5) / len(judged))


def out_of_fold(outputs: Path, name: str, task: str) -> pd.DataFrame:
    """By image: truth and the mean over repeats of its rank within the fold run, from the files."""
    tables = [
        ranked(table[(table["protocol"] == "paper") & (table["task"] == task)], task)
        for run in find_runs(outputs / "runs")
        if f"/{name}/" in str(run.path)
        for table in [run.read_predictions()]
    ]
    return pd.concat(tables).groupby("image_id")[["truth_lesion", "truth_malignancy", "p"]].mean()


def test_two_architectures(outputs: Path, command: Command) -> None:
    result = command(compare.main, "a=good", "b=poor", f"paths.outputs={outputs}", "draws=300")
    assert result.status == 0, result.err
    folder = outputs / "comparisons" / "compare"
    (pair,) = json.loads((folder / "compare.json").read_text())["pairs"]
    good, poor = (out_of_fold(outputs, name, "lesion") for name in ("good", "poor"))
    lesion = pair["quantities"]["lesion"]
    assert lesion["first"]["value"] == pytest.approx(roc_auc_score(good["truth_lesion"], good["p"]))
    expected = delong_test(good["truth_lesion"], good["p"], poor["p"])
    assert lesion["tests"]["DeLong"]["p"] == pytest.approx(expected.p)
    assert lesion["tests"]["DeLong"]["difference"] == pytest.approx(expected.difference)
    assert lesion["tests"]["bootstrap"]["p"] < 0.05 and lesion["tests"]["corrected t"]["p"] < 0.05
    malignancy = out_of_fold(outputs, "good", "malignancy")
    assert pair["quantities"]["malignancy"]["first"]["value"] == pytest.approx(
        roc_auc_score(malignancy["truth_malignancy"], malignancy["p"])
    )
    assert "DeLong" not in pair["quantities"]["score"]["tests"]
    for suffix in ("md", "csv", "tex"):
        assert (folder / f"compare.{suffix}").exists()
    assert "protocol=last" in result.out and "Detectable" in result.out


def test_fold_differences_are_those_of_the_same_fold_runs(outputs: Path, command: Command) -> None:
    command(compare.main, "a=good", "b=fair", f"paths.outputs={outputs}", "draws=20")
    (pair,) = json.loads((outputs / "comparisons" / "compare" / "compare.json").read_text())["pairs"]
    aucs: dict[str, list[float]] = {}
    for run in find_runs(outputs / "runs"):
        table = run.read_predictions()
        rows = table[(table["protocol"] == "paper") & (table["task"] == "lesion")]
        aucs.setdefault(run.path.parent.name, []).append(roc_auc_score(rows["truth_lesion"], rows["logit_lesion"]))
    expected = corrected_t_test(np.subtract(aucs["good"], aucs["fair"]), 1 / 2)
    found = pair["quantities"]["lesion"]["tests"]["corrected t"]
    assert found["difference"] == pytest.approx(expected.difference) and found["p"] == pytest.approx(expected.p)


def test_against_all_others_with_holm(outputs: Path, command: Command) -> None:
    result = command(compare.main, "a=good", f"paths.outputs={outputs}", "draws=50", "name=all", "protocol=last")
    assert result.status == 0, result.err
    pairs = json.loads((outputs / "comparisons" / "all" / "compare.json").read_text())["pairs"]
    assert [pair["second"] for pair in pairs] == ["fair", "poor", "metadata alone"]
    raw = [pair["quantities"]["lesion"]["tests"]["DeLong"]["p"] for pair in pairs]
    adjusted = [pair["quantities"]["lesion"]["tests"]["DeLong"]["p_holm"] for pair in pairs]
    expected = multipletests(raw, method="holm")[1]
    assert adjusted == pytest.approx(expected) and min(adjusted) == pytest.approx(3 * min(raw))
    assert "protocol=last as well" not in result.out and "Holm: over the 3 comparisons" in result.out
    table = pd.read_csv(outputs / "comparisons" / "all" / "compare.csv")  # every row says what it is
    assert set(table["against"]) == {"fair", "poor", "metadata alone"} and table["AUC"].notna().all()
    assert table["first_mean"].notna().all() and not {"first", "second"} & set(table.columns)


def judged_per_trained(outputs: Path, judged: str) -> float:
    splits = [json.loads(run.split.read_text()) for run in find_runs(outputs / "runs")]
    return sum(len(split[judged]) for split in splits) / sum(len(split["train"]) for split in splits)


@pytest.mark.parametrize("protocol", ["inner", "last"])
def test_cases_put_aside_by_an_inner_split_were_not_trained_on(tmp_path: Path, command: Command, protocol: str) -> None:
    for name, noise in (("good", 0.6), ("poor", 2.5)):
        for fold in range(3):
            write_run(tmp_path, name, COHORT, 0, fold, noise=noise, optim__trunk_rate=noise, inner_folds=4)
    result = command(compare.main, "a=good", "b=poor", f"protocol={protocol}", f"paths.outputs={tmp_path}", "draws=20")
    assert result.status == 0, result.err
    (pair,) = json.loads((tmp_path / "comparisons" / "compare" / "compare.json").read_text())["pairs"]
    aucs: dict[str, list[float]] = {}
    for run in find_runs(tmp_path / "runs"):
        table = run.read_predictions()
        rows = table[(table["protocol"] == protocol) & (table["task"] == "lesion")]
        aucs.setdefault(run.path.parent.name, []).append(roc_auc_score(rows["truth_lesion"], rows["logit_lesion"]))
    ratio = judged_per_trained(tmp_path, "held_out")
    assert ratio == pytest.approx(1 / 2 / (3 / 4), rel=0.05)  # not 1 / 2: a quarter chose the epoch
    expected = corrected_t_test(np.subtract(aucs["good"], aucs["poor"]), ratio)
    assert pair["quantities"]["lesion"]["tests"]["corrected t"]["p"] == pytest.approx(expected.p)


@pytest.mark.parametrize("protocol", ["inner", "last"])
def test_settings_are_chosen_on_the_inner_splits(tmp_path: Path, command: Command, protocol: str) -> None:
    for name, noise in (("good", 0.6), ("poor", 2.5)):
        for fold in range(3):
            write_run(tmp_path, name, COHORT, 0, fold, noise=noise, optim__trunk_rate=noise, inner_folds=4)
    arguments = ["a=good", "cases=selection", f"protocol={protocol}", f"paths.outputs={tmp_path}", "draws=50"]
    result = command(compare.main, *arguments)
    assert result.status == 0, result.err
    content = json.loads((tmp_path / "comparisons" / "compare" / "compare.json").read_text())
    (pair,) = content["pairs"]  # metadata are of the held-out cases only
    assert content["cases"] == "selection" and "inner splits" in result.out
    tables = {run.path.parent.name: [] for run in find_runs(tmp_path / "runs")}
    for run in find_runs(tmp_path / "runs"):
        table = run.read_selection()
        assert table is not None
        tables[run.path.parent.name].append(table[(table["protocol"] == protocol) & (table["task"] == "lesion")])
    aucs = {name: [roc_auc_score(t["truth_lesion"], t["logit_lesion"]) for t in own] for name, own in tables.items()}
    ratio = judged_per_trained(tmp_path, "selection")
    assert ratio == pytest.approx(1 / 3, rel=0.1)  # one in four was judged
    expected = corrected_t_test(np.subtract(aucs["good"], aucs["poor"]), ratio)
    found = pair["quantities"]["lesion"]["tests"]["corrected t"]
    assert found["p"] == pytest.approx(expected.p) and found["difference"] == pytest.approx(expected.difference)
    by_image = pd.concat([ranked(table, "lesion") for table in tables["good"]])
    by_image = by_image.groupby("image_id")[["truth_lesion", "p"]].mean()
    value = roc_auc_score(by_image["truth_lesion"], by_image["p"])
    assert pair["quantities"]["lesion"]["first"]["value"] == pytest.approx(value)


def test_the_last_epochs_of_runs_with_an_inner_split(tmp_path: Path, command: Command) -> None:
    for name, noise in (("good", 0.6), ("poor", 2.5)):
        for fold in range(3):
            write_run(tmp_path, name, COHORT, 0, fold, noise=noise, optim__trunk_rate=noise, inner_folds=4)
    result = command(compare.main, "a=good", "protocol=last", f"paths.outputs={tmp_path}", "draws=50")
    assert result.status == 0, result.err
    assert "their last epochs are compared" in result.out and "metadata alone" in result.out
    pairs = json.loads((tmp_path / "comparisons" / "compare" / "compare.json").read_text())["pairs"]
    lines = []
    for run in find_runs(tmp_path / "runs" / "good"):
        table = run.read_predictions()
        lines.append(ranked(table[(table["protocol"] == "last") & (table["task"] == "lesion")], "lesion"))
    found = pd.concat(lines)
    assert pairs[0]["quantities"]["lesion"]["first"]["value"] == pytest.approx(
        roc_auc_score(found["truth_lesion"], found["p"])
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=nobody"], "No architecture is called 'nobody'"),
        (["a=good", "b=good"], "The architecture 'good' is given twice"),
        (["a=good", "b=3"], "Expected b to be a name, a list of names, or null, but got 3"),
        (["a=good", "b=poor", "draws=0"], "Expected draws to be a whole number of at least 1, but got 0"),
        (["a=good", "b=poor", "protocol=inner"], "No architecture has all fold runs"),
        (["a=good", "b=poor", "cases=selection"], "Expected cases to be held_out, or selection with protocol=inner"),
        (["a=good", "b=poor", "cases=train"], "but got cases=train with protocol=paper"),
        (["a=good", "b=poor", "runs=nowhere"], "There is no finished run in nowhere"),
    ],
)
def test_what_a_user_can_get_wrong(outputs: Path, command: Command, arguments: list[str], message: str) -> None:
    result = command(compare.main, *arguments, f"paths.outputs={outputs}")
    assert result.status == 1
    assert message in result.err and "Traceback" not in result.err


def test_alone_there_is_nothing_to_compare(tmp_path: Path, command: Command) -> None:
    for fold in range(3):
        write_run(tmp_path, "one", COHORT, 0, fold)
    with_metadata = command(compare.main, "a=one", f"paths.outputs={tmp_path}", "draws=20")
    assert with_metadata.status == 0 and "metadata alone" in with_metadata.out
    for path in tmp_path.rglob("cases.parquet"):  # as runs of an older version
        path.unlink()
    result = command(compare.main, "a=one", f"paths.outputs={tmp_path}")
    assert result.status == 1 and "There is nothing to compare 'one' with" in result.err
