"""Folds: stratified, grouped by patient, reproducible, and checked again when they are read."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.data.manifest import LESION_TYPES, MALIGNANT_TYPES, Manifest
from liverattn.data.sources.phantom import TABLE_1
from liverattn.data.splits import Folds, inner_split, make_folds, read_folds, strata, write_folds
from liverattn.errors import InputError


def cases_of(kinds: Sequence[str], patients: Sequence[str] | None = None) -> Manifest:
    ids = [f"case{i}" for i in range(len(kinds))]
    malignant = [None if kind == "none" else int(kind in MALIGNANT_TYPES) for kind in kinds]
    table = pd.DataFrame(
        {
            "image_id": ids,
            "patient_id": ids if patients is None else list(patients),
            "lesion": [int(kind != "none") for kind in kinds],
            "malignant": pd.array(malignant, dtype="Int64"),
            "type": pd.Series([None if kind == "none" else kind for kind in kinds], dtype=object),
        }
    )
    return Manifest(table, Path())


def table_1(order: int = 0) -> Manifest:
    kinds = [kind for kind, count in TABLE_1.items() for _ in range(count)]
    return cases_of(np.random.default_rng(order).permutation(kinds).tolist())


@pytest.mark.parametrize("seed", range(12))
def test_table_1_divides_as_evenly_as_it_can(seed: int) -> None:
    manifest = table_1(order=seed)
    folds = make_folds(manifest, 3, 3, seed)
    kinds = np.array(strata(manifest.table))
    for repeat in range(3):
        held_out = [folds.split(repeat, fold)[1] for fold in range(3)]
        assert sorted(map(len, held_out)) == [122, 122, 123]
        counts = [Counter(kinds[rows].tolist()) for rows in held_out]
        assert [count["hcc"] for count in counts] == [2, 2, 2]
        for kind in TABLE_1:
            assert max(c[kind] for c in counts) - min(c[kind] for c in counts) <= 1
        assert sorted(np.concatenate(held_out).tolist()) == list(range(367))
        for fold, rows in enumerate(held_out):
            train, _ = folds.split(repeat, fold)
            assert set(train) == set(range(367)) - set(rows)


def test_the_same_seed_repeats_and_others_do_not() -> None:
    manifest = table_1()
    first, again, other = (make_folds(manifest, 3, 3, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.assignment, again.assignment)
    assert first.hash == again.hash != other.hash
    one, two, three = first.assignment
    assert (one != two).mean() > 0.5
    assert (two != three).mean() > 0.5
    assert (other.assignment != first.assignment).mean() > 0.5
    np.testing.assert_array_equal(make_folds(manifest, 1, 3, 5).assignment[0], one)  # repeats do not touch each other


@given(
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["none", *LESION_TYPES])), min_size=12, max_size=60),
    st.integers(2, 4),
    st.integers(0, 3),
)
def test_patients_never_straddle_a_split(images: list[tuple[int, str]], count: int, seed: int) -> None:
    patients = [str(patient) for patient, _ in images]
    manifest = cases_of([kind for _, kind in images], patients)
    try:
        folds = make_folds(manifest, 2, count, seed)
    except InputError as error:
        assert any(remedy in str(error) for remedy in ("ower protocol.folds", "needs two or more"))
        return
    assert folds.assignment.min() >= 0
    assert folds.assignment.max() < count
    for repeat in range(2):
        for fold in range(count):
            train, held_out = folds.split(repeat, fold)
            assert not {patients[i] for i in train} & {patients[i] for i in held_out}
            assert len(train) + len(held_out) == len(images)


def test_patients_with_several_images_are_stratified_as_well() -> None:
    kinds = ["none"] * 60 + ["cyst"] * 18 + ["hcc"] * 12
    patients = [f"p{i // 2}" for i in range(90)]
    for seed in range(5):
        folds = make_folds(cases_of(kinds, patients), 1, 3, seed)
        counts = [Counter(np.array(kinds)[folds.assignment[0] == fold].tolist()) for fold in range(3)]
        assert {count["hcc"] for count in counts} == {4}
        assert {count["cyst"] for count in counts} == {6}
        assert {count["none"] for count in counts} == {20}


def test_an_inner_split_takes_a_sixth_of_every_stratum() -> None:
    manifest = table_1()
    train, held_out = make_folds(manifest, 1, 3, 0).split(0, 0)
    kept, selecting = inner_split(manifest, train, 6, (0, 0, 0))
    assert sorted([*kept, *selecting, *held_out]) == list(range(367))
    assert abs(len(selecting) - len(train) / 6) < 1
    labels = np.array(strata(manifest.table))
    for stratum, count in Counter(labels[train]).items():
        assert abs((labels[selecting] == stratum).sum() - count / 6) < 1
    again = inner_split(manifest, train, 6, (0, 0, 0))
    assert np.array_equal(again[0], kept) and np.array_equal(again[1], selecting)
    assert not np.array_equal(inner_split(manifest, train, 6, (0, 0, 1))[1], selecting)


@given(st.lists(st.integers(1, 4), min_size=6, max_size=20), st.integers(2, 4), st.integers(0, 99))
def test_an_inner_split_keeps_patients_together(images: list[int], count: int, seed: int) -> None:
    patients = [f"p{k}" for k, times in enumerate(images) for _ in range(times)]
    manifest = cases_of(["none"] * len(patients), patients)
    rows = np.arange(len(patients))
    kept, selecting = inner_split(manifest, rows, count, (seed, 0, 0))
    assert sorted([*kept, *selecting]) == rows.tolist() and len(kept) > 0
    assert not {patients[row] for row in kept} & {patients[row] for row in selecting}


def test_an_impossible_inner_split() -> None:
    manifest = cases_of(["none", "none", "cyst"])
    with pytest.raises(InputError, match=r"protocol.inner_folds to be null or at least 2, but got 1"):
        inner_split(manifest, np.arange(3), 1, (0, 0, 0))
    with pytest.raises(InputError, match=r"into 6 folds.*Lower protocol.inner_folds or add cases"):
        inner_split(manifest, np.arange(3), 6, (0, 0, 0))


def test_strata_say_what_is_known() -> None:
    manifest = cases_of(["none", "hcc", "cyst", "cyst", "cyst", "cyst"])
    manifest.table.loc[3:, "type"] = None
    manifest.table.loc[3:, "malignant"] = pd.array([1, 0, None], dtype="Int64")
    assert strata(manifest.table) == ["none", "hcc", "cyst", "malignant", "benign", "lesion"]


def test_the_hash_stands_for_the_assignment_alone() -> None:
    folds = Folds(("a", "b"), ("a", "b"), np.array([[0, 1]]), 2, seed=0)
    assert Folds(("a", "b"), ("a", "b"), np.array([[0, 1]]), 2, seed=9).hash == folds.hash
    assert len(folds.hash) == 64
    others = [
        Folds(("a", "b"), ("a", "b"), np.array([[1, 0]]), 2, 0),
        Folds(("a", "c"), ("a", "c"), np.array([[0, 1]]), 2, 0),
        Folds(("a", "b"), ("a", "b"), np.array([[0, 1]]), 3, 0),
        Folds(("a", "b"), ("a", "b"), np.array([[0, 1], [0, 1]]), 2, 0),
    ]
    assert len({folds.hash, *(other.hash for other in others)}) == 5


@pytest.mark.parametrize(
    ("repeats", "folds", "message"),
    [
        (0, 3, "protocol.repeats >= 1 and protocol.folds >= 2, but got 0 and 3"),
        (1, 1, "but got 1 and 1"),
        (1, 5, r"4 patient\(s\) cannot be divided into 5 folds: lower protocol.folds"),
        (1, 4, "cannot be divided into 4 folds: .* Lower protocol.folds or add cases"),
    ],
)
def test_impossible_requests(repeats: int, folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_folds(cases_of(["none", "none", "cyst", "hcc"]), repeats, folds, 0)


@pytest.mark.parametrize(
    ("repeat", "fold", "name"), [(2, 0, "repeat"), (-1, 0, "repeat"), (0, 3, "fold"), (0, -1, "fold")]
)
def test_splits_that_do_not_exist(repeat: int, fold: int, name: str) -> None:
    folds = make_folds(cases_of(["none"] * 9), 2, 3, 0)
    with pytest.raises(InputError, match=f"protocol.{name} to be one of 0 to {1 if name == 'repeat' else 2}, but got"):
        folds.split(repeat, fold)


PATIENTS = ["p0", "p0", "p1", "p2", "p3", "p3"]


@pytest.fixture
def manifest() -> Manifest:
    return cases_of(["none", "none", "cyst", "cyst", "none", "none"], PATIENTS)


def written(manifest: Manifest, path: Path, **changes: Any) -> dict[str, Any]:
    write_folds(make_folds(manifest, 2, 2, 3), path)
    content: dict[str, Any] = json.loads(path.read_text())
    return content | changes


def test_what_is_written_reads_back_the_same(manifest: Manifest, tmp_path: Path) -> None:
    folds = make_folds(manifest, 2, 2, 3)
    write_folds(folds, tmp_path / "folds.json")
    read = read_folds(tmp_path / "folds.json", manifest)
    np.testing.assert_array_equal(read.assignment, folds.assignment)
    assert (read.hash, read.folds, read.seed) == (folds.hash, 2, 3)
    assert (read.image_ids, read.patient_ids) == (folds.image_ids, folds.patient_ids)


def test_cases_are_found_by_name_not_by_place(manifest: Manifest, tmp_path: Path) -> None:
    content = written(manifest, tmp_path / "folds.json")
    del content["hash"], content["seed"]
    content["cases"] = dict(reversed(content["cases"].items()))
    (tmp_path / "folds.json").write_text(json.dumps(content))
    read = read_folds(tmp_path / "folds.json", manifest)
    np.testing.assert_array_equal(read.assignment, make_folds(manifest, 2, 2, 3).assignment)
    assert read.seed == 0


def swap_repeats(content: dict[str, Any]) -> None:
    for case in content["cases"].values():
        case["fold"] = case["fold"][::-1] if case["fold"][0] != case["fold"][1] else [1 - f for f in case["fold"]]


def split_patients(content: dict[str, Any]) -> None:
    del content["hash"]
    content["cases"]["case0"]["fold"] = [0, 0]
    content["cases"]["case1"]["fold"] = [1, 0]
    content["cases"]["case1"]["patient_id"] = "another"  # the data decide who is who, not the file
    content["cases"]["case4"]["fold"] = [0, 0]
    content["cases"]["case5"]["fold"] = [0, 1]


def leave_the_range(content: dict[str, Any]) -> None:
    content["cases"]["case2"]["fold"] = [2, -1]


def empty_a_fold(content: dict[str, Any]) -> None:
    for case in content["cases"].values():
        case["fold"][1] = 0


def change_cases(content: dict[str, Any]) -> None:
    content["cases"]["stranger"] = content["cases"].pop("case3")


def unequal_repeats(content: dict[str, Any]) -> None:
    content["cases"]["case3"]["fold"] = [0]


def no_cases(content: dict[str, Any]) -> None:
    content["cases"] = {}


def list_of_cases(content: dict[str, Any]) -> None:
    content["cases"] = list(content["cases"])


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (swap_repeats, ["was altered: its hash does not fit. Remove the hash if you meant to."]),
        (
            split_patients,
            [
                "has patients on both sides of a split",
                "repeat 0: patient 'p0' is in folds 0, 1",
                "repeat 1: patient 'p3' is in folds 0, 1",
                "Put all images of a patient into one fold",
            ],
        ),
        (leave_the_range, ["'case2' is in fold 2, but there are 2", "'case2' is in fold -1, but there are 2"]),
        (empty_a_fold, ["does not fit the data", "repeat 1 holds no case out in fold 1"]),
        (change_cases, ["does not fit the data", "'case3' has no fold", "'stranger' is not in the data"]),
        (unequal_repeats, ["not of the expected form", "different numbers of repeats"]),
        (no_cases, ["not of the expected form"]),
        (list_of_cases, ["not of the expected form"]),
    ],
)
def test_files_that_do_not_fit(manifest: Manifest, tmp_path: Path, change: Any, messages: list[str]) -> None:
    path = tmp_path / "folds.json"
    content = written(manifest, path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_folds(path, manifest)
    for message in [str(path), *messages]:
        assert message in str(caught.value)


def test_absent_and_broken_files(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folds.json does not exist. Correct protocol.split_file"):
        read_folds(tmp_path / "folds.json", manifest)
    (tmp_path / "folds.json").write_text("{")
    with pytest.raises(InputError, match="not of the expected form"):
        read_folds(tmp_path / "folds.json", manifest)


def test_leaking_folds_are_never_written(manifest: Manifest, tmp_path: Path) -> None:
    leaking = Folds(tuple(manifest.table["image_id"]), tuple(PATIENTS), np.array([[0, 1, 0, 1, 0, 0]]), 2, 0)
    with pytest.raises(InputError, match="repeat 0: patient 'p0' is in folds 0, 1"):
        write_folds(leaking, tmp_path / "folds.json")
    assert not (tmp_path / "folds.json").exists()
