"""Ensembles and tables of synthetic architectures, against numbers computed another way."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.curves import roc_panels
from liverattn.comparison.members import candidates
from liverattn.comparison.results import Comparison, compare
from liverattn.comparison.scored import Scored, rank, read
from liverattn.comparison.tables import pooled, protocols, table_2, table_3
from liverattn.errors import InputError
from liverattn.reporting.results import Number, ResultTable
from tests.finished_runs import PAPER_TASKS, TWO_TASKS, Cohort, write_architecture

SMALL = Cohort(counts=(8, 0, 4, 0, 4, 0), tasks=TWO_TASKS, repeats=2, folds=2)
SEVEN = Cohort(counts=(6, 3, 1, 3, 3, 3), repeats=1)  # one hcc: two of three folds cannot define it


@functools.cache  # AUCs are computed once for all tests
def scored(outputs: Path, *, inner: bool = False) -> list[Scored]:
    architectures = group_architectures(finished_runs(outputs))
    return read(candidates(architectures, None, inner=inner, repeats=None))


def compared(outputs: Path, members: Sequence[str], protocol: str = "paper", **more: object) -> Comparison:
    ranking = rank(scored(outputs, inner=protocol == "inner"), protocol)
    return compare(ranking, members, None, protocol, **{"are_named": True, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three architectures with two outputs; ``a`` and ``b`` with inner runs as well, of one repeat."""
    outputs = tmp_path_factory.mktemp("small")
    for name, noise in (("a", 0.7), ("b", 0.3), ("c", 4)):
        write_architecture(outputs, name, SMALL, [0, 1], noise=noise, backbone__name=name)
    for name in "ab":
        write_architecture(outputs, name, SMALL, [0], noise=0.8, inner_folds=4, backbone__name=name)
    return outputs


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two architectures with the paper's outputs; one is a row of Table 2, the other is called like one."""
    outputs = tmp_path_factory.mktemp("seven")
    write_architecture(outputs, "resnet_240", SEVEN, [0], noise=0.5)
    write_architecture(outputs, "densenet_240", SEVEN, [0], noise=2.0, backbone__name="mobilenet_v2")
    return outputs


def raw(outputs: Path, name: str, task: str, protocol: str, *, inner: bool = False) -> pd.DataFrame:
    """Truth and probability of a task's output, by repeat, fold and image, straight from the files."""
    parts = []
    for run in finished_runs(outputs):
        if run.experiment == name and run.is_inner == inner:
            table = run.folder.read_predictions().query(f"task == '{task}' and protocol == '{protocol}'")
            parts.append(table.assign(repeat=run.cell[0], fold=run.cell[1]))
    table = pd.concat(parts).set_index(["repeat", "fold", "image_id"]).sort_index()
    chance = 1 / (1 + np.exp(-table[f"logit_{task}"].astype(float)))
    found = pd.DataFrame({"truth": table[f"truth_{task}"], "chance": chance})
    return found[table["truth_lesion"] == 1] if task != "lesion" else found


def fold_aucs(table: pd.DataFrame, keys: Sequence[str] = ("repeat", "fold")) -> list[float]:
    return [float(roc_auc_score(part["truth"], part["chance"])) for _, part in table.groupby(list(keys))]


def test_one_repeat_is_what_one_network_says(small: Path) -> None:
    whole = next(one for one in scored(small) if one.label.startswith("a"))
    for repeat in (0, 1):
        part = whole.of_repeat(repeat)
        assert part.cells(inner=False) == [cell for cell in whole.cells(inner=False) if cell[0] == repeat]
        held_out = part.held_out[False]
        assert held_out.trained == whole.held_out[False].trained / 2 and len(held_out.keys) == 16
        expected = raw(small, "a", "lesion", "paper")["chance"].loc[repeat].droplevel("fold")
        np.testing.assert_allclose(held_out.probabilities["paper"][:, 0], expected[held_out.keys["image_id"]])


@pytest.mark.parametrize(("protocol", "members"), [("paper", "abc"), ("last", "ab"), ("inner", "ab")])
def test_an_ensemble_is_what_the_files_give(small: Path, protocol: str, members: str) -> None:
    inner = protocol == "inner"
    comparison = compared(small, list(members), protocol)
    values = {}
    for task in ("lesion", "malignancy"):
        tables = [raw(small, member, task, protocol, inner=inner) for member in members]
        mean = tables[0].assign(chance=sum(table["chance"] for table in tables) / len(tables))
        values[task] = fold_aucs(mean)
        found = comparison.ensemble.summaries(protocol)
        assert found is not None
        assert found[task].mean == pytest.approx(np.mean(values[task]), abs=1e-12)
        assert found[task].deviation == pytest.approx(np.std(values[task], ddof=1), abs=1e-12)
        whole = comparison.ensemble.pooled(protocol)[task]
        assert whole.mean == pytest.approx(np.mean(fold_aucs(mean, ["repeat"])), abs=1e-12)
    scores = [(0.5 * lesion + 0.3 * malignancy) / 0.8 for lesion, malignancy in zip(*values.values(), strict=True)]
    assert found["score"].mean == pytest.approx(np.mean(scores), abs=1e-12)
    assert found["score"].deviation == pytest.approx(np.std(scores, ddof=1), abs=1e-12)


def test_weights_and_one_member(small: Path) -> None:
    ranking = rank(scored(small), "paper")
    weighted = compare(ranking, ["a", "b"], [3, 1], "paper", are_named=True).predictions()
    expected = 0.75 * weighted["a/probability_lesion"] + 0.25 * weighted["b/probability_lesion"]
    np.testing.assert_allclose(weighted["probability_lesion"], expected, rtol=1e-12)
    alone = compare(ranking, ["c"], None, "paper", are_named=True)
    assert alone.ensemble.summaries("paper") == alone.ranking[-1].summaries("paper")
    with pytest.raises(InputError, match=r"weights for 2 members \(a, b\), but got 1"):
        compare(ranking, ["a", "b"], [1], "paper", are_named=True)


def test_the_ranking_is_by_the_mean_score_of_the_protocol(small: Path) -> None:
    found = {name: np.mean(fold_aucs(raw(small, name, "lesion", "paper"))) for name in "abc"}
    assert found["b"] > found["a"] > found["c"]
    assert [one.label for one in rank(scored(small), "paper")] == ["b", "a", "c"]


def test_an_experiment_cannot_be_called_as_the_ensemble(small: Path) -> None:
    one = scored(small)[0]
    with pytest.raises(InputError, match="called 'ensemble'"):
        compare(
            [Scored("ensemble", one.architecture, one.tasks, one.held_out)], ["ensemble"], None, "paper", are_named=True
        )


def test_predictions_have_one_row_per_image_and_repeat(small: Path) -> None:
    table = compared(small, ["b", "a"]).predictions()
    assert list(table) == [
        *["image_id", "patient_id", "repeat", "fold", "truth_lesion", "truth_malignancy"],
        *["probability_lesion", "probability_malignancy"],
        *["b/probability_lesion", "b/probability_malignancy", "a/probability_lesion", "a/probability_malignancy"],
    ]
    assert len(table) == 2 * 16 and not table.duplicated(["image_id", "repeat"]).any()
    assert not table.isna().any().any()
    for repeat, rows in table.groupby("repeat"):
        assert dict(zip(rows["image_id"], rows["fold"], strict=True)) == SMALL.fold_of(int(repeat))
    expected = table[["b/probability_lesion", "a/probability_lesion"]].mean(axis=1)
    np.testing.assert_allclose(table["probability_lesion"], expected, rtol=1e-12)


def test_epochs_of_the_compared_fold_runs_are_put_together(tmp_path: Path) -> None:
    for name in "ab":
        write_architecture(tmp_path, name, SMALL, [0], inner_folds=4, backbone__name=name)
    assert compared(tmp_path, ["a"], "inner").epochs() is None  # of a version that recorded none
    runs = [run for run in finished_runs(tmp_path) if run.experiment == "a"]
    for run in runs:
        curve = {"epoch": [0, 1], "cases": "selection", "lesion": [0.5, (1 + run.cell[1]) / 8], "score": [0.4, 0.6]}
        pd.DataFrame(curve).to_csv(run.folder.epochs, index=False)
    found = compared(tmp_path, ["a"], "inner").epochs()
    assert found is not None and len(found) == 2 * len(runs)
    assert set(found["architecture"]) == {"a"} and found["inner"].all()
    assert (found.loc[found["epoch"] == 1, "lesion"] == (1 + found.loc[found["epoch"] == 1, "fold"]) / 8).all()
    runs[0].folder.epochs.write_text("epoch,lesion\n0,0.5\n")
    with pytest.raises(InputError, match=r"epochs.csv lacks the column\(s\) cases, score"):
        compared(tmp_path, ["a"], "inner").epochs()


def cells(table: ResultTable) -> dict[tuple[str, ...], list[Number]]:
    """Numbers of every row by its texts."""
    return {
        tuple(str(cell) for cell in row.cells if not isinstance(cell, Number)): [
            cell for cell in row.cells if isinstance(cell, Number)
        ]
        for row in table.rows
    }


def means(numbers: Sequence[Number]) -> list[float]:
    return [number.mean for number in numbers]


def test_table_2_of_two_outputs(small: Path) -> None:
    comparison = compared(small, ["b", "a"], are_named=False, notes=["2 of 3 repeats."])
    table = table_2(comparison)
    assert list(table.columns) == ["architecture", "lesion", "malignancy", "score"]
    assert list(cells(table)) == [("b",), ("a",), ("c",), ("ensemble",)]  # no row of the paper: two outputs
    lesion = [fold_aucs(raw(small, name, "lesion", "paper")) for name in "bac"]
    assert [numbers[0].mean for numbers in cells(table).values()][:3] == pytest.approx([np.mean(one) for one in lesion])
    assert cells(table)["b",][0].deviations == {"deviation": pytest.approx(np.std(lesion[0], ddof=1))}
    for column in range(3):
        numbers = [row[column] for row in cells(table).values()]
        assert [number.bold for number in numbers] == [number.mean == max(means(numbers)) for number in numbers]
    assert table.title == "Table 2: AUC, mean (deviation) over 4 fold runs, protocol paper"
    notes = "\n".join(table.notes)
    for words in (
        "sample standard deviation over fold runs (ddof 1)",
        "Score (Eq. 4): 0.625 lesion + 0.375 malignancy (weights renormalized",
        "Ensemble: mean of the probabilities of b, a; same fold",
        "The members are the best 2 of 3 by these very folds.",
        "The held-out fold also selected the copies",
        "2 of 3 repeats.",
    ):
        assert words in notes
    assert "Schmauch" not in notes and "Not defined" not in notes
    assert table_3(comparison) is None


def test_weights_are_told_where_they_differ(small: Path) -> None:
    comparison = compare(rank(scored(small), "paper"), ["b", "a"], [3, 1], "paper", are_named=True)
    notes = "\n".join(table_2(comparison).notes)
    assert "probabilities of b (0.75), a (0.25)" in notes and "very folds" not in notes


def test_protocols_side_by_side(small: Path) -> None:
    table = protocols(compared(small, ["b", "a"]))
    found = cells(table)
    assert list(found) == [
        ("b", "paper", "4"), ("b", "inner", "2"), ("b", "last", "4"), ("b", "paper - last", "4"),
        ("b", "paper - inner (inner runs)", "2"), ("b", "paper - last (inner runs)", "2"),
        ("a", "paper", "4"), ("a", "inner", "2"), ("a", "last", "4"), ("a", "paper - last", "4"),
        ("a", "paper - inner (inner runs)", "2"), ("a", "paper - last (inner runs)", "2"),
        ("c", "paper", "4"), ("c", "last", "4"), ("c", "paper - last", "4"),
        ("ensemble", "paper", "4"), ("ensemble", "inner", "2"), ("ensemble", "last", "4"),
        ("ensemble", "paper - last", "4"), ("ensemble", "paper - inner (inner runs)", "2"),
        ("ensemble", "paper - last (inner runs)", "2"),
    ]  # fmt: skip
    full = {name: fold_aucs(raw(small, "b", "lesion", name)) for name in ("paper", "last")}
    inner = {name: fold_aucs(raw(small, "b", "lesion", name, inner=True)) for name in ("inner", "paper", "last")}
    assert found["b", "paper", "4"][0].mean == pytest.approx(np.mean(full["paper"]))
    assert found["b", "inner", "2"][0].mean == pytest.approx(np.mean(inner["inner"]))  # not of the full runs
    differences = np.subtract(full["paper"], full["last"])
    number = found["b", "paper - last", "4"][0]
    assert (number.mean, number.deviations["deviation"]) == pytest.approx((differences.mean(), differences.std(ddof=1)))
    assert number.signed and number.text()[0] in "+-"
    paired = found["b", "paper - inner (inner runs)", "2"][0]
    assert paired.mean == pytest.approx(np.mean(np.subtract(inner["paper"], inner["inner"])))
    assert not any("ensemble of them" in note for note in table.notes)


def test_an_ensemble_has_only_the_protocols_that_all_members_serve(small: Path) -> None:
    table = protocols(compared(small, ["b", "c"]))
    assert ("ensemble", "last", "4") in cells(table) and ("ensemble", "inner", "2") not in cells(table)
    assert "Not all members have the same runs with protocol=inner: no ensemble of them." in table.notes


def test_pooled_beside_the_fold_mean(small: Path) -> None:
    table = pooled(compared(small, ["b", "a"]))
    found = cells(table)
    by_repeat = fold_aucs(raw(small, "a", "malignancy", "paper"), ["repeat"])
    whole = found["a", "pooled, mean over repeats"][1]
    assert whole.mean == pytest.approx(np.mean(by_repeat))
    assert whole.deviations["deviation"] == pytest.approx(np.std(by_repeat, ddof=1))
    assert [found["a", f"pooled, repeat {repeat}"][1].mean for repeat in (0, 1)] == pytest.approx(by_repeat)
    assert found["a", "mean over fold runs"][1].mean == pytest.approx(
        np.mean(fold_aucs(raw(small, "a", "malignancy", "paper")))
    )
    assert [row.is_detail for row in table.rows] == [False, False, True, True] * 4


def test_table_2_beside_the_paper(seven: Path) -> None:
    table = table_2(compared(seven, ["resnet_240", "densenet_240"]))
    assert list(cells(table)) == [
        ("resnet_240",),
        ("resnet_240 (paper)",),
        ("densenet_240",),  # another trunk than the paper's, whatever its name
        ("ensemble",),
        ("ensemble (paper)",),
    ]
    theirs = cells(table)["resnet_240 (paper)",]
    assert [number.text() for number in theirs] == ["0.913 (0.027)", "0.930 (0.040)", "0.895 (0.060 / -)", "0.9145"]
    assert [row.ours for row in table.rows] == [True, False, True, True, False]
    assert any("Schmauch et al. 2019" in note for note in table.notes)


def type_aucs(outputs: Path, name: str) -> Mapping[str, list[float]]:
    """By type: AUC of every fold, NaN where one class is absent."""
    found: dict[str, list[float]] = {kind: [] for kind in PAPER_TASKS["type"]["outputs"]}
    for run in sorted(finished_runs(outputs), key=lambda run: run.cell):
        if run.experiment == name:
            table = run.folder.read_predictions().query("task == 'type' and protocol == 'paper' and truth_lesion == 1")
            for kind, aucs in found.items():
                truth = table[f"truth_{kind}"]
                aucs.append(roc_auc_score(truth, table[f"logit_{kind}"]) if truth.nunique() == 2 else math.nan)
    return found


def test_table_3_with_an_output_that_most_folds_cannot_define(seven: Path) -> None:
    comparison = compared(seven, ["resnet_240"])
    table = table_3(comparison)
    assert table is not None
    assert list(table.columns) == ["type", "ensemble", "paper"]
    found, aucs = cells(table), type_aucs(seven, "resnet_240")
    assert np.isnan(aucs["hcc"]).sum() == 2
    for kind, values in aucs.items():
        ours = found[kind,][0]
        assert ours.mean == pytest.approx(np.nanmean(values))
        if kind == "hcc":
            assert math.isnan(ours.deviations["deviation"])
        else:
            assert ours.deviations["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert [found[kind,][1].text() for kind in ("hcc", "cyst")] == ["0.931 (0.072)", "0.954 (0.017)"]
    deviations = [np.std(values, ddof=1) for kind, values in aucs.items() if kind != "hcc"]
    fold_means = np.nanmean(list(aucs.values()), axis=0)
    of_outputs, of_mean = found["type, mean of the deviations",], found["type, deviation of the mean",]
    assert of_outputs[0].mean == of_mean[0].mean == pytest.approx(fold_means.mean())
    assert of_outputs[0].deviations["deviation"] == pytest.approx(np.mean(deviations))
    assert of_mean[0].deviations["deviation"] == pytest.approx(np.std(fold_means, ddof=1))
    assert (of_outputs[1].text(), of_mean[1].text()) == ("0.916 (0.058)", "0.916 (-)")
    assert any(note.startswith("Not defined by some fold runs") and "hcc in 2 of 3" in note for note in table.notes)
    in_table_2 = cells(table_2(comparison))["ensemble",][2]
    assert in_table_2.deviations == {
        "deviation_of_outputs": of_outputs[0].deviations["deviation"],
        "deviation": of_mean[0].deviations["deviation"],
    }


def test_a_single_fold_run_has_dashes_for_deviations(tmp_path: Path) -> None:
    one = Cohort(counts=(8, 0, 4, 0, 4, 0), tasks=TWO_TASKS, repeats=1, folds=1)
    write_architecture(tmp_path, "a", one, [0])
    comparison = compared(tmp_path, ["a"])
    table = table_2(comparison)
    assert table.title.endswith("over 1 fold run, protocol paper")
    assert cells(table)["a",][0].text().endswith(" (-)")
    assert ("a", "pooled, repeat 0") not in cells(pooled(comparison))
    assert "nan" not in (table.markdown() + table.latex()).replace("malignancy", "")


def test_figure_5_shows_lesion_images_only_where_a_task_is_conditional(seven: Path) -> None:
    panels = roc_panels(compared(seven, ["resnet_240"]))
    assert [panel.title for panel in panels] == ["lesion", "malignancy", "type"]
    assert list(panels[2].curves) == ["angioma", "hcc", "fnh", "cyst", "metastasis"]
    folds = panels[0].curves["lesion"]
    assert len(folds) == 3 and sum(len(truth) for truth, _ in folds) == 19
    assert sum(len(truth) for truth, _ in panels[1].curves["malignancy"]) == 13
    for (truth, chance), expected in zip(panels[2].curves["cyst"], type_aucs(seven, "resnet_240")["cyst"], strict=True):
        assert roc_auc_score(truth, chance) == pytest.approx(expected)


def test_the_record_holds_every_number(small: Path) -> None:
    comparison = compared(small, ["b", "a"])
    record = comparison.record()
    assert (record["protocol"], record["members"], record["weights"]) == ("paper", ["b", "a"], [0.5, 0.5])
    assert record["cells"] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (record["data"], record["assignment"]) == ("phantom", SMALL.assignment)
    found = record["results"]["b"]["protocols"]["paper"]["over_folds"]["lesion"]
    assert found["values"] == pytest.approx(fold_aucs(raw(small, "b", "lesion", "paper")))
    assert found["mean"] == pytest.approx(np.mean(found["values"]))
    assert set(record["results"]["b"]["protocols"]) == {"paper", "last", "inner"}
    assert set(record["results"]["ensemble"]["optimism"]) == {
        "paper - last",
        "paper - inner (inner runs)",
        "paper - last (inner runs)",
    }
    folders = record["results"]["b"]["runs"]
    assert len(folders) == 6 and sum(one["inner"] for one in folders) == 2
    assert all((Path(one["folder"]) / "predictions.parquet").exists() for one in folders)
    numbers = comparison.tracked_numbers()
    assert (
        numbers["final/auc_lesion"]
        == record["results"]["ensemble"]["protocols"]["paper"]["over_folds"]["lesion"]["mean"]
    )
    assert numbers["architectures/b/score"] > numbers["architectures/c/score"]
    assert comparison.tags()["members"] == "b; a"
