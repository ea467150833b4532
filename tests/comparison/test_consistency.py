"""Fold runs that contradict each other are refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from liverattn.comparison.architectures import finished_runs
from liverattn.comparison.consistency import check_folds
from liverattn.errors import InputError
from liverattn.runs import RunFolder
from tests.comparison.held_out_runs import COHORT, change, change_split, read_all
from tests.finished_runs import write_architecture


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
