"""Numbers over fold runs: by hand, against scikit-learn and the statistics module, undefined folds, illegal weights."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from liverattn.errors import InputError
from liverattn.evaluation.crossvalidation import (
    average_probabilities,
    group_numbers,
    member_weights,
    ranked,
    summarize,
)
from liverattn.evaluation.scores import PAPER_TASKS, Task, task_aucs, weighted_score

NAN = math.nan
TASKS = (
    Task("lesion", ("lesion",), 0.5, conditional=False),
    Task("type", ("cyst", "hcc"), 0.5, conditional=True),
)
values = st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=9)


def test_mean_and_sample_deviation_by_hand() -> None:
    found = summarize([0.9, 0.8, 0.7])
    assert found.mean == pytest.approx(0.8)
    assert found.deviation == pytest.approx(0.1)  # sqrt((.01 + 0 + .01) / 2), not / 3
    assert found.undefined == 0 and found.deviation_of_outputs is None


def test_undefined_values_are_left_out_and_counted() -> None:
    found = summarize([0.9, NAN, 0.7, NAN])
    assert (found.mean, found.undefined) == (pytest.approx(0.8), 2)
    assert found.deviation == pytest.approx(math.sqrt(0.02))
    assert summarize([0.9, NAN]).mean == 0.9
    for few in ([0.9], [0.9, NAN], [], [NAN]):
        assert math.isnan(summarize(few).deviation)
    assert math.isnan(summarize([NAN]).mean) and math.isnan(summarize([]).mean)


@given(values)
def test_summaries_are_those_of_the_standard_library(drawn: list[float]) -> None:
    defined = [value for value in drawn if not math.isnan(value)]
    found = summarize(drawn)
    assert found.undefined == len(drawn) - len(defined)
    if defined:
        assert found.mean == pytest.approx(statistics.mean(defined), abs=1e-12)
        assert min(defined) - 1e-12 <= found.mean <= max(defined) + 1e-12
    if len(defined) > 1:
        assert found.deviation == pytest.approx(statistics.stdev(defined), abs=1e-9)


# Two fold runs of four cases. Fold 0: lesion images 2 and 3; fold 1: all but its first.
TRUTH = np.array(
    [[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]], dtype=np.float64
)
GROUPS = np.array([3, 3, 3, 3, 7, 7, 7, 7])
SCORES = np.array(
    [[.1, .9, .9], [.6, .9, .9], [.5, .8, .2], [.7, .3, .1], [.5, .9, .9], [.6, .2, .5], [.4, .9, .5], [.9, .4, .5]]
)  # fmt: skip


def test_every_group_by_hand() -> None:
    found = group_numbers(TRUTH, SCORES, GROUPS, TASKS)
    # Lesion in fold 0: (.5 > .1) + (.7 > .1) + (.7 > .6) of 4; in fold 1: (.6, .9 > .5) of 3.
    assert found.tasks["lesion"].tolist() == pytest.approx([3 / 4, 2 / 3])
    # Cyst: .8 > .3; then .9 > .4 but .2 < .4. Hcc: .1 < .2; then no positive.
    assert found.outputs["cyst"].tolist() == pytest.approx([1.0, 1 / 2])
    assert found.outputs["hcc"][0] == 0.0 and math.isnan(found.outputs["hcc"][1])
    assert found.tasks["type"].tolist() == pytest.approx([0.5, 0.5])  # fold 1: cyst alone
    assert found.score.tolist() == pytest.approx([0.625, (2 / 3 + 0.5) / 2])


def test_summaries_give_both_deviations_of_a_task_with_several_outputs() -> None:
    truth = np.concatenate([TRUTH, TRUTH[:4]])
    groups = np.concatenate([GROUPS, np.full(4, 8)])
    scores = np.concatenate([SCORES, SCORES[:4] * [1, -1, -1]])
    found = group_numbers(truth, scores, groups, TASKS).summaries(TASKS)
    # Cyst 1, 1/2, 0: deviation 1/2. Hcc 0, -, 1: deviation sqrt(1/2). Type 1/2, 1/2, 1/2: no deviation.
    assert found["cyst"].deviation == pytest.approx(0.5)
    assert (found["hcc"].mean, found["hcc"].undefined) == (0.5, 1)
    assert found["type"].deviation_of_outputs == pytest.approx((0.5 + math.sqrt(0.5)) / 2)
    assert (found["type"].mean, found["type"].deviation) == (0.5, 0.0)
    assert found["lesion"].deviation_of_outputs is None
    assert found["score"].mean == pytest.approx((0.625 + 7 / 12 + 0.625) / 3)


def test_one_group_is_the_pooled_auc() -> None:
    pooled = group_numbers(TRUTH, SCORES, np.zeros(8, int), TASKS)
    assert pooled.tasks["lesion"].tolist() == [pytest.approx(roc_auc_score(TRUTH[:, 0], SCORES[:, 0]))]
    shown = TRUTH[:, 0] == 1
    assert pooled.outputs["hcc"][0] == pytest.approx(roc_auc_score(TRUTH[shown, 2], SCORES[shown, 2]))


def test_cases_without_a_copy_of_the_task_take_no_part() -> None:
    scores = SCORES.copy()
    scores[4:, 1:] = NAN  # fold run 7 has no copy for the type
    found = group_numbers(TRUTH, scores, GROUPS, TASKS)
    assert math.isnan(found.outputs["cyst"][1]) and math.isnan(found.tasks["type"][1])
    assert found.score[1] == pytest.approx(2 / 3)  # the lesion alone, its weight renormalized
    pooled = group_numbers(TRUTH, scores, np.zeros(8, int), TASKS)
    assert pooled.outputs["cyst"].tolist() == [1.0]  # of fold 3 alone
    # A lesion column without a copy does not hide which images show a lesion.
    scores = SCORES.copy()
    scores[:, 0] = NAN
    assert group_numbers(TRUTH, scores, GROUPS, TASKS).outputs["cyst"].tolist() == pytest.approx([1.0, 0.5])


@given(st.integers(0, 10_000))
@settings(max_examples=8)
def test_groups_are_what_single_fold_runs_report(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = (random.random((60, 7)) < 0.5).astype(float)
    scores = random.integers(-3, 4, (60, 7)).astype(float)
    groups = random.integers(0, 3, 60)
    assume(len(set(groups.tolist())) == 3)
    found = group_numbers(truth, scores, groups, PAPER_TASKS)
    for position in range(3):
        rows = groups == position
        single = task_aucs(truth[rows], scores[rows], PAPER_TASKS)
        assert {name: column[position] for name, column in found.tasks.items()} == pytest.approx(single, nan_ok=True)
        assert found.score[position] == pytest.approx(weighted_score(single), nan_ok=True)


def test_differences_are_paired() -> None:
    first = group_numbers(TRUTH, SCORES, GROUPS, TASKS)
    second = group_numbers(TRUTH, -SCORES, GROUPS, TASKS)
    difference = first.minus(second)
    assert difference.tasks["lesion"].tolist() == pytest.approx([3 / 4 - 1 / 4, 2 / 3 - 1 / 3])
    assert math.isnan(difference.outputs["hcc"][1]) and difference.outputs["hcc"][0] == -1
    nothing = first.minus(first).summaries(TASKS)
    assert nothing["score"].mean == nothing["score"].deviation == 0


def test_weights() -> None:
    assert member_weights(None, ["a", "b", "c"]).tolist() == pytest.approx([1 / 3] * 3)
    assert member_weights([2, 1, 1], ["a", "b", "c"]).tolist() == [0.5, 0.25, 0.25]
    assert member_weights([0, 3], ["a", "b"]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, 2], r"weights for 3 members \(a, b, c\), but got 2"),
        ([1, -1, 1], "at least 0 and not all 0, but got 1, -1, 1"),
        ([0, 0, 0], "not all 0"),
        ([1, NAN, 1], "but got 1, nan, 1"),
        ([1, math.inf, 1], "inf"),
        (["much", 1, 1], r"list of numbers, but got \['much', 1, 1\]"),
        (0.5, "list of numbers, but got 0.5"),
    ],
)
def test_weights_that_cannot_be(weights: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        member_weights(weights, ["a", "b", "c"])


def test_probabilities_are_averaged_by_weight() -> None:
    members = [np.array([[0.2, 0.4]]), np.array([[0.6, NAN]])]
    averaged = average_probabilities(members, np.array([0.75, 0.25]))
    assert averaged[0, 0] == pytest.approx(0.3)
    assert math.isnan(averaged[0, 1])  # a member without a copy: no ensemble either
    assert averaged.dtype == np.float64
    alone = average_probabilities(members, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(alone, members[0])  # what does not count is not missed


probabilities = st.lists(st.floats(0, 1), min_size=6, max_size=6)


@given(st.lists(probabilities, min_size=1, max_size=4), st.lists(st.floats(0.01, 9), min_size=4, max_size=4))
def test_an_average_lies_between_its_members(drawn: list[list[float]], weights: list[float]) -> None:
    members: list[NDArray[np.float64]] = [np.array(one).reshape(3, 2) for one in drawn]
    names = [str(number) for number in range(len(members))]
    averaged = average_probabilities(members, member_weights(weights[: len(members)], names))
    assert (averaged >= np.min(members, axis=0) - 1e-12).all() and (averaged <= np.max(members, axis=0) + 1e-12).all()
    same = average_probabilities([members[0]] * 3, member_weights(None, ["a", "b", "c"]))
    np.testing.assert_allclose(same, members[0], atol=1e-15)


def test_ranking() -> None:
    assert ranked({"b": 0.8, "c": 0.9, "a": 0.8, "z": NAN, "y": NAN}) == ["c", "a", "b", "y", "z"]
    assert ranked({}) == []
