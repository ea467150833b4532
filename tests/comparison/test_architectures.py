"""Finished runs: what is found, what belongs together, and what it is called."""

from pathlib import Path

import pytest
import yaml

from liverattn.comparison.architectures import (
    Architecture,
    choose_data,
    finished_runs,
    group_architectures,
    kept_together,
)
from liverattn.errors import InputError
from tests.finished_runs import TWO_TASKS, Cohort, write_architecture, write_run

COHORT = Cohort()


def grouped(outputs: Path) -> list[Architecture]:
    return group_architectures(finished_runs(outputs / "runs"))


def labels(outputs: Path) -> list[str]:
    return [architecture.label for architecture in grouped(outputs)]


def test_what_a_finished_run_is(tmp_path: Path) -> None:
    write_run(tmp_path, "resnet_240", COHORT, 1, 2, inner_folds=6)
    write_run(tmp_path, "unfinished", COHORT).metrics.unlink()
    (run,) = finished_runs(tmp_path / "runs")
    assert (run.experiment, run.data_name, run.cell, run.is_inner) == ("resnet_240", "phantom", (1, 2), True)
    assert (run.repeats, run.folds, run.size, run.backbone, run.lambdas) == (3, 3, (240, 345), "resnet50", (1.0,))
    assert run.assignment == COHORT.assignment
    assert [task.name for task in run.tasks] == ["lesion", "malignancy", "type"]
    assert run.tasks[2].outputs == ("angioma", "hcc", "fnh", "cyst", "metastasis")


def test_a_task_that_is_switched_off_is_none(tmp_path: Path) -> None:
    write_run(tmp_path, "a", Cohort(tasks=TWO_TASKS))
    (run,) = finished_runs(tmp_path)
    assert [task.name for task in run.tasks] == ["lesion", "malignancy"]


def test_no_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no finished run in .*runs. Train some .*paths.outputs=... or runs=..."):
        finished_runs(tmp_path / "runs")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.yaml", "a: [", "config.yaml .* is absent, damaged"),
        ("config.yaml", "name: x", "KeyError: 'data'"),
        ("config.yaml", "[]", "TypeError"),
        ("config.yaml", None, "FileNotFoundError"),
        ("run.json", "{", "run.json is damaged"),
        ("run.json", "{}", "KeyError: 'assignment'"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    run = write_run(tmp_path, "resnet_240", COHORT)
    if content is None:
        (run.path / name).unlink()
    else:
        (run.path / name).write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        finished_runs(tmp_path)
    assert str(run.path) in str(caught.value) and "Remove" in str(caught.value)


def test_all_damaged_runs_are_named_at_once(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "resnet_240", COHORT, 0, fold) for fold in range(3)]
    for run in runs[1:]:
        (run.path / "run.json").write_text("{")
    with pytest.raises(InputError) as caught:
        finished_runs(tmp_path)
    assert [line.partition(" is damaged")[0] for line in str(caught.value).splitlines()] == [
        str(run.path / "run.json") for run in runs[1:]
    ]


def test_an_architecture_is_everything_but_cell_and_selection_and_place(tmp_path: Path) -> None:
    write_run(tmp_path, "resnet_240", COHORT, 0, 0)
    write_run(tmp_path, "resnet_240", COHORT, 0, 1, root="/elsewhere")
    write_run(tmp_path, "resnet_240", COHORT, 1, 2, trainer__num_workers=4, protocol__name="last")
    write_run(tmp_path, "resnet_240", COHORT, 0, 0, inner_folds=6)
    write_run(tmp_path, "other_name", COHORT, 2, 2, protocol__split_file="/some/split.json")
    (architecture,) = grouped(tmp_path)
    assert architecture.cells(inner=False) == {(0, 0), (0, 1), (1, 2), (2, 2)}
    assert architecture.cells(inner=True) == {(0, 0)}


def test_labels_are_experiments_where_these_tell_architectures_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "resnet_480", COHORT, data__preprocessing__height=480, data__preprocessing__width=690)
    write_run(tmp_path, "resnet_240", COHORT)
    assert labels(tmp_path) == ["resnet_240", "resnet_480"]


def test_labels_hold_the_fewest_settings_that_differ(tmp_path: Path) -> None:
    write_run(tmp_path, "resnet_240", COHORT)
    write_run(tmp_path, "resnet_240", COHORT, model__attention__lambdas=[0.25, 1.0])
    write_run(tmp_path, "gap_240", COHORT, seed=7)
    assert labels(tmp_path) == ["gap_240", "resnet_240 lambdas=0.25,1", "resnet_240 lambdas=1"]
    write_run(tmp_path, "resnet_240", COHORT, seed=1)
    assert labels(tmp_path) == [
        "gap_240",
        "resnet_240 lambdas=0.25,1 seed=0",
        "resnet_240 lambdas=1 seed=0",
        "resnet_240 lambdas=1 seed=1",
    ]


def test_settings_that_always_differ_together_are_told_by_one(tmp_path: Path) -> None:
    for height, width in ((240, 345), (480, 690), (120, 172)):
        write_run(tmp_path, "a", COHORT, data__preprocessing__height=height, data__preprocessing__width=width)
    assert labels(tmp_path) == ["a height=120", "a height=240", "a height=480"]


def test_where_data_come_from_is_no_part_of_an_architecture(tmp_path: Path) -> None:
    for fold, (export, reduction) in enumerate((("a.json", "area"), ("b.json", "any"))):
        write_run(tmp_path, "a", COHORT, fold=fold, data__annotations=export, data__unlisted=export)
        write_run(tmp_path, "b", COHORT, fold=fold, data__reduction=reduction)
    assert labels(tmp_path) == ["a", "b reduction=any", "b reduction=area"]


def test_settings_of_the_same_name_are_written_out(tmp_path: Path) -> None:
    for seed, data_seed in ((0, 0), (1, 0), (1, 1)):
        write_run(tmp_path, "a", COHORT, seed=seed, data__seed=data_seed)
    assert labels(tmp_path) == ["a data.seed=0 seed=0", "a data.seed=0 seed=1", "a data.seed=1 seed=1"]


def test_a_setting_that_older_runs_do_not_have(tmp_path: Path) -> None:
    write_run(tmp_path, "a", COHORT)
    write_run(tmp_path, "a", COHORT, trainer__devices=2)
    assert labels(tmp_path) == ["a devices=-", "a devices=2"]


def test_weights_are_told_apart_by_file_not_by_folder(tmp_path: Path) -> None:
    for fold, weights in enumerate(("/a/x.pth", "/b/x.pth", "/a/y.pth")):
        write_run(tmp_path, "a", COHORT, 0, fold, backbone__weights=weights)
    assert labels(tmp_path) == ["a weights=x.pth", "a weights=y.pth"]


def test_two_runs_of_one_cell_are_refused_by_name(tmp_path: Path) -> None:
    first = write_run(tmp_path, "resnet_240", COHORT, 0, 1)
    second = write_run(tmp_path, "resnet_240", COHORT, 0, 1, root="/elsewhere", suffix="-again")
    with pytest.raises(InputError, match=r"the same training \(resnet_240, repeat 0, fold 1\), whatever") as caught:
        grouped(tmp_path)
    assert str(first.path) in str(caught.value) and str(second.path) in str(caught.value)


def test_fold_runs_from_changed_data_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "resnet_240", COHORT, 0, 0)
    write_run(tmp_path, "resnet_240", COHORT, 0, 1).update_record(data="f00d" * 16)
    with pytest.raises(InputError, match=r"different images or labels: .*f0-.* from f00df00df00d. Run the older"):
        grouped(tmp_path)


def test_fold_runs_with_different_inner_splits_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "a", COHORT, 0, 0, inner_folds=6)
    write_run(tmp_path, "a", COHORT, 0, 1, inner_folds=5)
    with pytest.raises(InputError, match=r"a have different inner splits: protocol.inner_folds=6 in .*inner_folds=5"):
        grouped(tmp_path)


def test_data_are_chosen_by_name_or_hash(tmp_path: Path) -> None:
    phantom, aul = Cohort(), Cohort(name="aul", tasks=TWO_TASKS)
    write_architecture(tmp_path, "a", phantom, [0])
    write_run(tmp_path, "b", aul)
    runs = finished_runs(tmp_path)
    assert len(choose_data(runs, "phantom", None)) == 3
    assert [run.data_name for run in choose_data(runs, None, aul.assignment[:6])] == ["aul"]
    with pytest.raises(InputError, match=r"No finished run is of data=ault. Found: aul \(.*\), phantom \("):
        choose_data(runs, "ault", None)
    with pytest.raises(InputError, match="No finished run is of assignment=x"):
        choose_data(runs, "aul", "x")
    with pytest.raises(InputError, match=r"several data or fold assignments") as caught:
        choose_data(runs, None, None)
    lines = str(caught.value).splitlines()
    assert f"aul, assignment {aul.assignment[:12]}: 1 architecture(s) (b), 1 fold run(s)" in lines[1]
    assert f"phantom, assignment {phantom.assignment[:12]}: 1 architecture(s) (a), 3 fold run(s)" in lines[2]
    assert lines[-1] == "Choose one: data=NAME or assignment=HASH"


def test_one_data_set_with_two_assignments_needs_the_hash(tmp_path: Path) -> None:
    first, second = Cohort(seed=0), Cohort(seed=1)
    write_run(tmp_path, "a", first)
    write_run(tmp_path, "a", second, suffix="-other")
    runs = finished_runs(tmp_path)
    assert len(choose_data(runs, "phantom", second.assignment)) == 1
    with pytest.raises(InputError, match="several data or fold assignments"):
        choose_data(runs, "phantom", None)


def test_the_builder_writes_what_the_contract_says(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", COHORT, 0, 1, inner_folds=6)
    table = run.read_predictions()
    assert set(table["protocol"]) == {"paper", "last", "inner"}
    assert yaml.safe_load(run.config.read_text())["protocol"]["fold"] == 1
    assert run.is_finished


@pytest.mark.parametrize(("grouped", "words"), [(False, "patients"), (True, "patients or groups of near-duplicates")])
def test_groups_of_near_duplicates_are_no_patients(tmp_path: Path, grouped: bool, words: str) -> None:
    write_run(tmp_path, "a", COHORT, data__group_duplicates=grouped)
    (run,) = finished_runs(tmp_path)
    assert kept_together(run) == words
