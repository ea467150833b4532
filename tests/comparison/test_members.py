"""Which architectures are complete, over which cells, and who the members are."""

from pathlib import Path

import pytest

from liverattn.comparison.architectures import Architecture, finished_runs, group_architectures
from liverattn.comparison.members import QUOTED, best_members, candidates, named_members
from liverattn.errors import InputError
from tests.finished_runs import PAPER_TASKS, TWO_TASKS, Cohort, write_architecture, write_run

COHORT = Cohort(counts=(6, 0, 3, 0, 3, 0), tasks=TWO_TASKS)
ALL_CELLS = tuple((repeat, fold) for repeat in range(3) for fold in range(3))


def grouped(outputs: Path) -> list[Architecture]:
    return group_architectures(finished_runs(outputs))


def write_others(outputs: Path, names: str, repeats: list[int] | None = None) -> None:
    """Architectures ``a``, ``b``, ... that differ in their trunk."""
    for name in names:
        write_architecture(outputs, name, COHORT, [0, 1, 2] if repeats is None else repeats, backbone__name=name)


def test_complete_architectures_share_all_cells(tmp_path: Path) -> None:
    write_others(tmp_path, "ab")
    write_others(tmp_path, "c", [0, 1])
    write_run(tmp_path, "c", COHORT, 2, 1, backbone__name="c")
    found = candidates(grouped(tmp_path), None, inner=False, repeats=None)
    assert [architecture.label for architecture in found.architectures] == ["a", "b"]
    assert found.cells == ALL_CELLS
    assert found.notes == ("c is left out: missing 2/0, 2/2 (repeat/fold)",)


def test_one_repeat_of_three_is_complete_and_said(tmp_path: Path) -> None:
    write_others(tmp_path, "ab", [0])
    found = candidates(grouped(tmp_path), None, inner=False, repeats=None)
    assert len(found.architectures) == 2 and found.cells == ALL_CELLS[:3]
    assert found.notes == ("1 of 3 repeats: 0.",)


def test_a_repeat_that_nobody_has_finished_spoils_nothing(tmp_path: Path) -> None:
    write_others(tmp_path, "ab", [0])
    write_run(tmp_path, "a", COHORT, 1, 0, backbone__name="a")
    found = candidates(grouped(tmp_path), None, inner=False, repeats=None)
    assert len(found.architectures) == 2 and found.cells == ALL_CELLS[:3]


def test_repeats_can_be_chosen(tmp_path: Path) -> None:
    write_others(tmp_path, "a")
    write_others(tmp_path, "b", [1])
    architectures = grouped(tmp_path)
    assert len(candidates(architectures, None, inner=False, repeats=None).architectures) == 1
    found = candidates(architectures, None, inner=False, repeats=[1])
    assert len(found.architectures) == 2 and found.cells == ALL_CELLS[3:6]
    assert found.notes == ("1 of 3 repeats: 1.",)
    for wrong in (0, "0", ["x"]):
        with pytest.raises(InputError, match=r"repeats to be a list of whole numbers such as \[0\]"):
            candidates(architectures, None, inner=False, repeats=wrong)  # type: ignore[arg-type]


def test_nobody_complete_lists_what_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path, "a", COHORT, 0, 0)
    write_run(tmp_path, "b", COHORT, 0, 1, backbone__name="b")
    with pytest.raises(InputError) as caught:
        candidates(grouped(tmp_path), None, inner=False, repeats=None)
    lines = str(caught.value).splitlines()
    assert lines[:3] == [
        "No architecture has all fold runs:",
        "  - a: missing 0/1, 0/2 (repeat/fold)",
        "  - b: missing 0/0, 0/2 (repeat/fold)",
    ]
    assert "protocol=paper protocol.repeat=0 protocol.fold=1)" in lines[3] and "repeats=[...]" in lines[3]


def test_different_repeats_are_no_common_cells(tmp_path: Path) -> None:
    write_others(tmp_path, "a", [0])
    write_others(tmp_path, "b", [1])
    with pytest.raises(InputError, match=r"a: missing 1/0, 1/1, 1/2"):
        candidates(grouped(tmp_path), None, inner=False, repeats=None)
    with pytest.raises(InputError, match=r"b: missing 2/0, 2/1, 2/2"):
        candidates(grouped(tmp_path), None, inner=False, repeats=[2])


def test_runs_with_an_inner_split_are_cells_of_their_own(tmp_path: Path) -> None:
    write_others(tmp_path, "a")
    with pytest.raises(
        InputError, match=r"a: missing 0/0, 0/1, 0/2[^_]*Give protocol=paper for the 9 .* without an inner "
    ):
        candidates(grouped(tmp_path), None, inner=True, repeats=None)
    write_architecture(tmp_path, "a", COHORT, [0], inner_folds=6, backbone__name="a")
    assert candidates(grouped(tmp_path), None, inner=True, repeats=None).cells == ALL_CELLS[:3]
    assert candidates(grouped(tmp_path), None, inner=False, repeats=None).cells == ALL_CELLS


def test_runs_that_all_have_an_inner_split_are_pointed_to(tmp_path: Path) -> None:
    write_architecture(tmp_path, "a", COHORT, [0], inner_folds=6)
    with pytest.raises(
        InputError, match=r"\nGive protocol=inner for the 3 fold run\(s\) with an inner split, train them"
    ):
        candidates(grouped(tmp_path), None, inner=False, repeats=None)


def test_folds_beyond_the_configured_ones_count(tmp_path: Path) -> None:
    # A split file may have more folds than protocol.folds says.
    five = Cohort(counts=(10, 0, 5, 0, 5, 0), folds=5, tasks=TWO_TASKS)
    for fold in (0, 1, 4):
        write_run(tmp_path, "a", five, 0, fold, protocol__folds=3)
    with pytest.raises(InputError, match="a: missing 0/2, 0/3"):
        candidates(grouped(tmp_path), None, inner=False, repeats=None)


def test_a_named_member_with_missing_cells_is_refused(tmp_path: Path) -> None:
    write_others(tmp_path, "ab")
    write_others(tmp_path, "c", [0])
    architectures = grouped(tmp_path)
    named = named_members(architectures, ["b", "c"])
    with pytest.raises(InputError) as caught:
        candidates(architectures, named, inner=False, repeats=None)
    lines = str(caught.value).splitlines()
    assert lines[1:2] == ["  - c: missing 1/0, 1/1, 1/2, 2/0, 2/1, 2/2 (repeat/fold)"]
    assert "repeats=[...]" in lines[2]
    alone = candidates(architectures, named_members(architectures, ["c"]), inner=False, repeats=None)
    assert alone.cells == ALL_CELLS[:3]  # the others' further repeats do not matter
    assert len(alone.architectures) == 3


def test_architectures_with_other_outputs_are_not_compared(tmp_path: Path) -> None:
    write_others(tmp_path, "ab", [0])
    seven = Cohort(counts=COHORT.counts, tasks=PAPER_TASKS)
    write_architecture(tmp_path, "c", seven, [0], backbone__name="c")
    architectures = grouped(tmp_path)
    found = candidates(architectures, None, inner=False, repeats=None)
    assert [architecture.label for architecture in found.architectures] == ["a", "b"]
    assert found.notes[0] == (
        "c is left out: its tasks are others: lesion 0.5 (lesion); malignancy 0.3 (malignancy); "
        "type 0.2 (angioma, hcc, fnh, cyst, metastasis)"
    )
    with pytest.raises(InputError, match="b: its tasks are others"):  # of two kinds, the one with more outputs counts
        candidates(architectures, named_members(architectures, ["b", "c"]), inner=False, repeats=None)


def test_names_of_members(tmp_path: Path) -> None:
    write_run(tmp_path, "resnet_240", COHORT)
    write_run(tmp_path, "resnet_240", COHORT, model__attention__lambdas=[0.25])
    write_run(tmp_path, "gap_240", COHORT, model__attention__lambdas=[0.0])
    architectures = grouped(tmp_path)
    assert named_members(architectures, None) is None
    found = named_members(architectures, ["resnet_240 lambdas=0.25", "gap_240"])
    assert found is not None and [member.label for member in found] == ["resnet_240 lambdas=0.25", "gap_240"]
    known = '"gap_240", "resnet_240 lambdas=0.25", "resnet_240 lambdas=1"'
    for names, said in (
        (["resnet"], f"No architecture is called 'resnet'. {QUOTED} There are: {known}."),
        (["resnet_240 lambdas=4"], f"No architecture is called 'resnet_240 lambdas=4'. {QUOTED} There are: {known}."),
        (["resnet_240"], f"2 architectures are called 'resnet_240'. {QUOTED} There are: {known}."),
        (["gap_240", "gap_240"], "The architecture 'gap_240' is given twice."),
        ([], f"Expected members to be a list of names or null, but got []. There are: {known}."),
        ("gap_240", f"Expected members to be a list of names or null, but got 'gap_240'. There are: {known}."),
    ):
        with pytest.raises(InputError) as caught:
            named_members(architectures, names)
        assert str(caught.value) == said


def test_an_experiment_name_is_enough_where_only_one_architecture_has_it(tmp_path: Path) -> None:
    write_run(tmp_path, "a", COHORT)
    (only,) = grouped(tmp_path)
    assert named_members([Architecture("a seed=0", only.runs)], ["a"]) is not None


def test_settings_that_only_one_architecture_has_are_enough(tmp_path: Path) -> None:
    for scale in (0.25, 1.0):
        for rate in (1.0, 2.0):
            write_run(tmp_path, "a", COHORT, model__attention__lambdas=[0.0, scale], optim__head_rate=rate)
    architectures = grouped(tmp_path)
    (found,) = named_members(architectures, ["a optim.head_rate=2 lambdas=0,1"]) or []
    assert found.label == "a lambdas=0,1 head_rate=2"
    for name, number in (("a lambdas=0,1", "2 architectures"), ("a ambdas=0,1 head_rate=2", "No architecture")):
        with pytest.raises(InputError, match=number):
            named_members(architectures, [name])


def test_the_best_are_the_first(tmp_path: Path) -> None:
    assert best_members(["x", "y", "z"], None, 2) == ["x", "y"]
    assert best_members(["x"], None, 3) == ["x"]
    write_run(tmp_path, "a", COHORT)
    assert best_members(["x", "a"], grouped(tmp_path), 1) == ["a"]
    for wrong in (0, -1, True, 1.5, "two", None):
        with pytest.raises(InputError, match="best to be a whole number of at least 1"):
            best_members(["x"], None, wrong)  # type: ignore[arg-type]
