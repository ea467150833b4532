"""Held-out predictions: read as they are, and refused by name where they contradict each other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.consistency import check_folds
from liverattn.comparison.held_out import FoldPredictions, join, read_folds
from liverattn.errors import InputError
from liverattn.runs import RunFolder
from tests.finished_runs import TWO_TASKS, Cohort, write_architecture, write_run

COHORT = Cohort(counts=(6, 0, 3, 0, 3, 0), tasks=TWO_TASKS)


def read_all(outputs: Path, *, inner: bool = False) -> list[FoldPredictions]:
    architectures = group_architectures(finished_runs(outputs))
    return [
        fold
        for architecture in architectures
        for fold in read_folds(architecture, architecture.cells(inner=inner), inner=inner)
    ]


def change(run: RunFolder, edit: Callable[[pd.DataFrame], Any]) -> None:
    table = run.read_predictions()
    run.write_predictions(table if (edited := edit(table)) is None else edited)


def change_split(run: RunFolder, **parts: Any) -> None:
    run.split.write_text(json.dumps({**json.loads(run.split.read_text()), **parts}))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Repeat 0, fold 1 of an architecture of which the two other folds are there as well."""
    for fold in (0, 2):
        write_run(tmp_path, "a", COHORT, 0, fold)
    return write_run(tmp_path, "a", COHORT, 0, 1)


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


def swapped(run: RunFolder, gone: str, come: str) -> None:
    """Hold another image out, in the split and in the predictions."""
    parts = json.loads(run.split.read_text())
    for name, ids in parts.items():
        if name != "assignment":
            parts[name] = [{gone: come, come: gone}.get(image, image) for image in ids]
    change_split(run, **parts)
    change(run, lambda table: table.replace({"image_id": {gone: come}, "patient_id": {gone: come}}))


def refused(outputs: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_folds(read_all(outputs))
    return str(caught.value).splitlines()


def test_members_with_other_held_out_sets_are_refused(tmp_path: Path, run: RunFolder) -> None:
    write_architecture(tmp_path, "b", COHORT, [0], backbone__name="b")
    other = next(one.folder for one in finished_runs(tmp_path) if one.experiment == "b" and one.cell == (0, 1))
    fold_of = COHORT.fold_of(0)
    mine, theirs = (next(image for image in COHORT.images if fold_of[image] == fold) for fold in (1, 2))
    swapped(other, mine, theirs)
    lines = refused(tmp_path)
    assert lines[0] == "These fold runs cannot be compared:"
    assert lines[1].startswith(
        f"  - b, repeat 0, fold 1 ({other.path}) holds out other images than a, repeat 0, fold 1"
    )
    assert lines[1].endswith("they differ in 2, such as 'phantom-000'") and len(lines) == 3


def test_an_image_held_out_twice_is_refused(tmp_path: Path, run: RunFolder) -> None:
    fold_of = COHORT.fold_of(0)
    mine, theirs = (next(image for image in COHORT.images if fold_of[image] == fold) for fold in (1, 2))
    swapped(run, mine, theirs)
    lines = refused(tmp_path)
    assert "a, repeat 0, fold 2" in lines[1] and f"holds out {theirs!r}, which a, repeat 0, fold 1" in lines[1]
    assert lines[2] == f"  - repeat 0: 1 image(s) are never held out, such as {mine!r}"


def test_a_training_on_a_held_out_image_is_refused(tmp_path: Path, run: RunFolder) -> None:
    parts = json.loads(run.split.read_text())
    change_split(run, train=[*parts["train"], parts["held_out"][2]])
    (_, line, remedy) = refused(tmp_path)
    assert line.startswith("  - a, repeat 0, fold 1 (") and remedy.startswith("Remove")
    assert line.endswith(f"was trained on the patient of {parts['held_out'][2]!r}, which it holds out")


def test_a_selection_by_a_held_out_image_is_refused(tmp_path: Path, run: RunFolder) -> None:
    change_split(run, selection=json.loads(run.split.read_text())["held_out"][:1])
    assert "was trained on the patient of" in refused(tmp_path)[1]


def test_a_training_on_another_image_of_a_held_out_patient_is_refused(tmp_path: Path, run: RunFolder) -> None:
    fold_of = COHORT.fold_of(0)
    mine, theirs = (next(image for image in COHORT.images if fold_of[image] == fold) for fold in (1, 2))
    patients = {mine: "anna", theirs: "anna"}
    for one in finished_runs(tmp_path):
        change(one.folder, lambda table: table.replace({"patient_id": patients}))
    lines = refused(tmp_path)
    # Each of the two holds one image of hers out and was trained on the other; fold 0 was trained on both.
    assert len(lines) == 4
    assert f"a, repeat 0, fold 1 ({run.path}) was trained on the patient of {mine!r}" in lines[1]
    assert "a, repeat 0, fold 2" in lines[2] and repr(theirs) in lines[2]


def test_one_patient_in_one_fold_is_fine(tmp_path: Path, run: RunFolder) -> None:
    fold_of = COHORT.fold_of(0)
    mine = [image for image in COHORT.images if fold_of[image] == 1][:2]
    change(run, lambda table: table.replace({"patient_id": dict.fromkeys(mine, "anna")}))
    check_folds(read_all(tmp_path))


@pytest.mark.parametrize(("column", "what"), [("truth_malignancy", "other labels"), ("patient_id", "another patient")])
def test_members_that_contradict_each_other_are_refused(tmp_path: Path, run: RunFolder, column: str, what: str) -> None:
    write_architecture(tmp_path, "b", COHORT, [0], backbone__name="b")
    other = next(one.folder for one in finished_runs(tmp_path) if one.experiment == "b" and one.cell == (0, 1))
    image = other.read_predictions()["image_id"][0]
    value = np.nan if column.startswith("truth") else "somebody"
    change(other, lambda table: table.assign(**{column: table[column].where(table["image_id"] != image, value)}))
    (_, line, _) = refused(tmp_path)
    assert line == (
        f"  - b, repeat 0, fold 1 ({other.path}) gives the image {image!r} {what} than a, repeat 0, fold 1 ({run.path})"
    )
