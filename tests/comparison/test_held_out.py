"""Held-out predictions: read as they are, and refused by name where they contradict themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from liverattn.comparison.architectures import finished_runs
from liverattn.comparison.consistency import check_folds
from liverattn.comparison.held_out import join, on_one_scale
from liverattn.errors import InputError
from liverattn.evaluation.scores import auc
from liverattn.runs import RunFolder, write_table
from tests.comparison.held_out_runs import COHORT, change, change_split, read_all
from tests.finished_runs import write_architecture


def test_outputs_come_from_the_copy_of_their_task(tmp_path: Path, run: RunFolder) -> None:
    folds = read_all(tmp_path)
    assert [fold.cell for fold in folds] == [(0, 0), (0, 1), (0, 2)]
    held_out, table = folds[1].held_out, run.read_predictions()
    assert set(held_out.probabilities) == {"paper", "last"}
    for k, task in enumerate(("lesion", "malignancy")):
        for protocol in ("paper", "last"):
            rows = table[(table["task"] == task) & (table["protocol"] == protocol)].set_index("image_id")
            logits = rows.loc[held_out.keys["image_id"], f"logit_{task}"].to_numpy(np.float64)
            expected = 1 / (1 + np.exp(-logits))
            np.testing.assert_allclose(held_out.probabilities[protocol][:, k], expected, rtol=1e-12)
    assert held_out.probabilities["paper"].dtype == np.float64
    np.testing.assert_array_equal(held_out.truth, COHORT.truth.loc[held_out.keys["image_id"]].to_numpy())
    assert folds[1].trained_on == {image for image in COHORT.images if COHORT.fold_of(0)[image] != 1}


def test_float64_keeps_large_logits_apart(tmp_path: Path, run: RunFolder) -> None:
    change(run, lambda table: table.assign(logit_lesion=np.linspace(18, 22, len(table), dtype=np.float32)))
    for protocol in ("paper", "last"):
        lesion = read_all(tmp_path)[1].held_out.probabilities[protocol][:, 0]
        assert len(np.unique(lesion)) == len(lesion) and (lesion < 1).all()


def test_order_of_rows_does_not_matter(tmp_path: Path, run: RunFolder) -> None:
    before = read_all(tmp_path)[1].held_out
    change(run, lambda table: table.sample(frac=1, random_state=3))
    after = read_all(tmp_path)[1].held_out
    pd.testing.assert_frame_equal(before.keys, after.keys)
    np.testing.assert_array_equal(before.probabilities["last"], after.probabilities["last"])


def test_folds_are_joined(tmp_path: Path, run: RunFolder) -> None:
    folds = read_all(tmp_path)
    whole = join(folds)
    assert list(whole.keys) == ["repeat", "fold", "image_id", "patient_id"]
    assert sorted(whole.keys["image_id"]) == COHORT.images
    assert whole.probabilities["paper"].shape == whole.truth.shape == (12, 2)
    check_folds(folds)


def test_a_task_without_a_copy_is_nan(tmp_path: Path, run: RunFolder) -> None:
    gone = "task == 'malignancy' and protocol == 'paper'"
    change(run, lambda table: table.drop(table.query(gone).index))
    held_out = read_all(tmp_path)[1].held_out
    assert np.isnan(held_out.probabilities["paper"][:, 1]).all()
    assert not np.isnan(held_out.probabilities["paper"][:, 0]).any()
    assert not np.isnan(held_out.probabilities["last"]).any()


def test_inner_runs_serve_three_protocols_and_have_seen_the_selection(tmp_path: Path) -> None:
    write_architecture(tmp_path, "a", COHORT, [0], inner_folds=4)
    folds = read_all(tmp_path, inner=True)
    assert set(folds[0].held_out.probabilities) == {"inner", "paper", "last"}
    assert folds[0].trained_on == {image for image in COHORT.images if COHORT.fold_of(0)[image] != 0}
    check_folds(folds)


def nan_logit(table: pd.DataFrame) -> None:
    table.loc[table.index[0], "logit_lesion"] = np.nan


def infinite_logit(table: pd.DataFrame) -> None:
    table.loc[table.index[0], "logit_lesion"] = -np.inf


def half_label(table: pd.DataFrame) -> None:
    table["truth_lesion"] = 0.5


def two_labels(table: pd.DataFrame) -> None:
    table.loc[table["protocol"] == "last", "truth_lesion"] = np.nan


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (nan_logit, r"repeat 0, fold 1 .*: predictions.parquet holds logit_lesion=nan for the image 'phantom-0"),
        (infinite_logit, "logit_lesion=-inf"),
        (half_label, "the label 0.5, not 0, 1 or unknown"),
        (two_labels, r"gives the image 'phantom-0\d\d' different labels"),
        (lambda table: table.drop(columns=["truth_malignancy", "logit_lesion"]), r"logit_lesion, truth_malignancy"),
        (lambda table: table.drop(table.index[0]), "every held-out image once for the task lesion"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "every held-out image once for the task lesion"),
        (lambda table: table.assign(image_id=table["image_id"] + "x"), r"differ in 8 image\(s\): 'phantom"),
        (lambda table: table.iloc[:0], r"differ in 4 image\(s\)"),
        (lambda table: table.drop(columns="protocol"), r"lacks the column\(s\) protocol"),
    ],
)
def test_predictions_that_cannot_be_are_refused_by_name(
    tmp_path: Path, run: RunFolder, edit: Callable[[pd.DataFrame], Any], said: str
) -> None:
    change(run, edit)
    with pytest.raises(InputError, match=said) as caught:
        read_all(tmp_path)
    assert str(run.path) in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"PAR1 not a table", None])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, run: RunFolder, damage: bytes | None) -> None:
    if damage is None:
        run.predictions.unlink()
    else:
        run.predictions.write_bytes(damage)
    with pytest.raises(InputError, match=r"f1-.*predictions.parquet cannot be read"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "JSONDecodeError"), ('{"held_out": []}', "KeyError: 'train'"), (None, "FileNotFoundError")],
)
def test_a_damaged_split_is_refused_by_name(tmp_path: Path, run: RunFolder, content: str | None, said: str) -> None:
    if content is None:
        run.split.unlink()
    else:
        run.split.write_text(content)
    with pytest.raises(InputError, match=f"f1-.*split.json cannot be used .{said}"):
        read_all(tmp_path)


def test_split_and_predictions_must_hold_out_the_same(tmp_path: Path, run: RunFolder) -> None:
    held_out = json.loads(run.split.read_text())["held_out"]
    change_split(run, held_out=held_out[1:])
    said = rf"predictions.parquet and the held_out of split.json differ in 1 image\(s\): '{held_out[0]}'"
    with pytest.raises(InputError, match=said):
        read_all(tmp_path)


def test_a_split_of_another_assignment_is_refused(tmp_path: Path, run: RunFolder) -> None:
    change_split(run, assignment="f00d" * 16)
    said = f"split.json is of the fold assignment f00df00df00d, but run.json beside it of {COHORT.assignment[:12]}"
    with pytest.raises(InputError, match=said):
        read_all(tmp_path)


def test_what_else_is_known_of_each_case_stands_beside_it(tmp_path: Path, run: RunFolder) -> None:
    held_out = join(read_all(tmp_path))
    cases, table = held_out.cases, run.read_predictions()
    assert cases is not None and len(cases) == len(held_out.keys)
    rows = (held_out.keys["fold"] == 1).to_numpy()
    images = held_out.keys["image_id"][rows]
    known = run.read_cases()
    assert known is not None
    assert cases["m"][rows].tolist() == known.loc[images, "m"].tolist()
    of_lesion = table[(table["task"] == "lesion") & (table["protocol"] == "last")].set_index("image_id")
    np.testing.assert_array_equal(held_out.quality["last"]["energy"][rows], of_lesion.loc[images, "energy"])
    assert held_out.selection is None
    run.cases.unlink()  # one run of an older version: nothing is known of all cases
    assert join(read_all(tmp_path)).cases is None


def test_predictions_of_the_inner_splits(tmp_path: Path) -> None:
    write_architecture(tmp_path, "a", COHORT, [0], inner_folds=4)
    folds = read_all(tmp_path, inner=True)
    selection = join(folds).selection
    assert selection is not None and set(selection.probabilities) == {"inner", "last"}
    for fold in folds:
        own = fold.held_out.selection
        assert own is not None and set(own.keys["image_id"]) < fold.trained_on
    first = next(path for path in tmp_path.rglob("selection.parquet"))
    table = pd.read_parquet(first)
    write_table(table[table["image_id"] != table["image_id"][0]], first)
    with pytest.raises(InputError, match=r"selection.parquet and the selection of split.json differ"):
        read_all(tmp_path, inner=True)
    first.unlink()
    assert join(read_all(tmp_path, inner=True)).selection is None


def test_ranks_put_fold_runs_on_one_scale(tmp_path: Path, run: RunFolder) -> None:
    before = join(read_all(tmp_path))
    tasks = finished_runs(tmp_path)[0].tasks
    # One fold run whose probabilities are all higher changes nothing: order within the runs is all that counts.
    change(run, lambda table: table.assign(logit_lesion=3 * table["logit_lesion"] + 9))
    after = join(read_all(tmp_path))
    ranks, again = (on_one_scale(held_out, tasks).probabilities["last"] for held_out in (before, after))
    np.testing.assert_array_equal(ranks, again)
    assert auc(before.truth[:, 0], after.probabilities["last"][:, 0]) != auc(before.truth[:, 0], ranks[:, 0])
    for fold in range(3):
        rows = (before.keys["fold"] == fold).to_numpy()
        assert sorted(ranks[rows, 0]) == [0.125, 0.375, 0.625, 0.875]  # four images
        lesion = before.truth[rows, 0] == 1
        assert sorted(ranks[rows, 1][lesion]) == [0.25, 0.75] and np.isnan(ranks[rows, 1][~lesion]).all()
        within = auc(before.truth[rows, 0], before.probabilities["last"][rows, 0])
        assert auc(before.truth[rows, 0], ranks[rows, 0]) == within
