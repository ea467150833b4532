"""AUCs and Eq. 4: hand values, scikit-learn, counted pairs, the paper's tables, undefined classes."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from liverattn.evaluation.scores import (
    PAPER_TASKS,
    Task,
    auc,
    challenge_score,
    output_aucs,
    shows_lesion,
    task_aucs,
    weighted_score,
)

NAN = math.nan
# Few values, so that ties are common.
cases = st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(-3, 3)), min_size=2, max_size=30)


def counted_auc(truth: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    """Share of pairs (positive, negative) in the right order, ties counted half."""
    pairs = score[truth == 1][:, None] - score[truth == 0][None, :]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_auc_by_hand() -> None:
    # Pairs: .8 > .1, .8 > .4, .4 > .1, .4 = .4: (3 + 1/2) / 4.
    assert auc([1, 0, 1, 0], [0.8, 0.1, 0.4, 0.4]) == 0.875
    assert auc([0, 1], [-1e30, 1e30]) == 1
    assert auc([1, 0], [2, 3]) == 0
    assert auc([1, 0, 0, 1], [5, 5, 5, 5]) == 0.5


@given(cases)
@settings(deadline=None)
def test_auc_is_the_share_of_ordered_pairs(drawn: list[tuple[float, int]]) -> None:
    truth, score = (np.array(column, dtype=np.float64) for column in zip(*drawn, strict=True))
    assume({0.0, 1.0} <= set(truth.tolist()))
    known = ~np.isnan(truth)
    found = auc(truth, score)
    assert found == pytest.approx(counted_auc(truth[known], score[known]), abs=1e-12)
    assert found == pytest.approx(roc_auc_score(truth[known], score[known]), abs=1e-12)
    assert auc(truth, np.exp(score)) == pytest.approx(found)  # only the order counts
    assert auc(1 - truth, score) == pytest.approx(1 - found)


def test_auc_tells_scores_apart_that_a_float32_sigmoid_would_not() -> None:
    assert auc([0, 1], np.array([20.0, 21.0], np.float32)) == 1
    assert 1 / (1 + np.exp(np.float32(-20))) == 1 / (1 + np.exp(np.float32(-21)))


@pytest.mark.parametrize("truth", [[], [1, 1], [0, 0, 0], [NAN, NAN], [1, NAN, 1]])
def test_auc_is_nan_where_a_class_is_absent(truth: list[float]) -> None:
    assert math.isnan(auc(truth, np.arange(len(truth), dtype=float)))


def test_auc_moves_toward_the_better_order() -> None:
    truth = [0, 0, 1, 1]
    values = [auc(truth, [1, 2, position, 4]) for position in (0.5, 1.5, 2.5)]
    assert values == [0.5, 0.75, 1.0]


def test_illegal_input_is_refused() -> None:
    for bad in (NAN, math.inf):
        with pytest.raises(ValueError, match=f"finite scores, but got {bad}"):
            auc([0, 1, 1], [0.5, 0.1, bad])
    assert auc([0, 1, NAN], [0.5, 0.7, NAN]) == 1  # of an unknown case nothing is asked
    with pytest.raises(ValueError, match=r"0, 1 or NaN, but got 0\.3"):
        auc([0.3, 1], [0.5, 0.1])
    with pytest.raises(ValueError, match=r"shape \(2,\) like `truth`, but got \(3,\)"):
        auc([0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match=r"of shape \(n, 7\), but got \(4, 7\) and \(4, 6\)"):
        task_aucs(np.zeros((4, 7)), np.zeros((4, 6)))


TASKS = (
    Task("lesion", ("lesion",), 0.5, conditional=False),
    Task("malignancy", ("malignancy",), 0.3, conditional=True),
    Task("type", ("cyst", "hcc"), 0.2, conditional=True),
)
# Three lesion images, of which one is of unknown malignancy, and two lesion-free ones, first with zeros.
TRUTH = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1], [1, 0, 1, 0], [1, NAN, NAN, NAN]], dtype=np.float64)
LOGITS = np.array([[-1, 9, 9, 9], [2, 9, -9, 9], [1, 2, 1, -1], [3, 1, 3, 5], [0, 7, 7, 7]], dtype=np.float32)


def test_conditional_outputs_are_scored_on_lesion_images_only() -> None:
    # Lesion: positives 1, 3, 0 against -1, 2: 4 of 6 pairs. The others: one pair each among the lesion images.
    expected = {"lesion": 4 / 6, "malignancy": 1.0, "cyst": 1.0, "hcc": 0.0}
    assert output_aucs(TRUTH, LOGITS, TASKS) == pytest.approx(expected)
    assert task_aucs(TRUTH, LOGITS, TASKS) == pytest.approx({"lesion": 4 / 6, "malignancy": 1.0, "type": 0.5})
    # What stands in the columns of lesion-free images, known or not, finite or not, has no say.
    truth, logits = TRUTH.copy(), LOGITS.copy()
    truth[:2, 1:], logits[:2, 1:] = NAN, math.inf
    assert output_aucs(truth, logits, TASKS) == pytest.approx(expected)


def test_unconditional_tasks_count_every_image() -> None:
    everywhere = [Task(task.name, task.outputs, task.weight, conditional=False) for task in TASKS]
    # Malignancy: 2 against 9, 9 and 1.
    assert output_aucs(TRUTH, LOGITS, everywhere)["malignancy"] == pytest.approx(1 / 3)


def test_which_images_show_a_lesion() -> None:
    truth = np.array([[0.0, 1], [1, 0], [NAN, 1]])
    assert shows_lesion(truth, ["lesion", "cyst"]).tolist() == [False, True, False]
    assert shows_lesion(truth, ["cyst", "lesion"]).tolist() == [True, False, True]
    assert shows_lesion(truth, ["cyst", "hcc"]).all()


def test_without_a_lesion_output_all_images_count() -> None:
    tasks = (Task("malignancy", ("malignancy",), 1.0, conditional=True),)
    assert output_aucs(TRUTH[:, 1:2], LOGITS[:, 1:2], tasks) == pytest.approx({"malignancy": 1 / 3})


def test_an_absent_type_is_left_out_of_the_mean() -> None:
    truth = TRUTH.copy()
    truth[:, 3] = np.where(np.isnan(truth[:, 3]), NAN, 0)
    assert math.isnan(output_aucs(truth, LOGITS, TASKS)["hcc"])
    assert task_aucs(truth, LOGITS, TASKS)["type"] == 1.0  # cyst alone, neither 0 nor averaged with 0
    truth[:, 2] = 0
    assert math.isnan(task_aucs(truth, LOGITS, TASKS)["type"])


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_tasks_do_not_depend_on_the_order_of_cases(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = (random.random((40, 7)) < 0.4).astype(float)
    logits = random.integers(-3, 4, (40, 7)).astype(float)
    order = random.permutation(40)
    shown = truth[:, 0] == 1
    assume(np.isin(truth[shown, 1:].mean(axis=0), (0, 1)).sum() == 0)  # both classes of every output
    found = task_aucs(truth, logits)
    assert list(found) == ["lesion", "malignancy", "type"]
    assert task_aucs(truth[order], logits[order]) == pytest.approx(found)
    types = [counted_auc(truth[shown, k], logits[shown, k]) for k in range(2, 7)]
    assert found["type"] == pytest.approx(np.mean(types))


@pytest.mark.parametrize(
    ("lesion", "malignancy", "types", "score"),
    [  # Table 2
        (0.913, 0.930, 0.895, 0.9145),
        (0.906, 0.910, 0.910, 0.9080),
        (0.912, 0.917, 0.900, 0.9111),
        (0.935, 0.942, 0.916, 0.9333),
    ],
)
def test_score_of_table_2(lesion: float, malignancy: float, types: float, score: float) -> None:
    # The printed scores have four digits: half of the last one is 5e-5.
    assert challenge_score(lesion, malignancy, types) == pytest.approx(score, abs=5.1e-5)
    assert challenge_score(lesion, malignancy, [types] * 5) == pytest.approx(score, abs=5.1e-5)


def test_types_of_table_3() -> None:
    types = [0.898, 0.886, 0.931, 0.954, 0.909]
    assert np.mean(types) == pytest.approx(0.9156, abs=1e-12)
    assert np.mean([0.067, 0.052, 0.072, 0.017, 0.084]) == pytest.approx(0.0584, abs=1e-12)
    assert challenge_score(NAN, NAN, types) == pytest.approx(0.9156, abs=1e-12)
    assert challenge_score(0.935, 0.942, types) == pytest.approx(0.9333, abs=1e-4)


def test_weights_of_undefined_parts_are_renormalized() -> None:
    assert challenge_score(0.9, 0.8, [NAN] * 5) == pytest.approx((0.5 * 0.9 + 0.3 * 0.8) / 0.8)
    assert challenge_score(0.9, 0.8, []) == challenge_score(0.9, 0.8, NAN)
    assert challenge_score(NAN, 0.8, 0.7) == pytest.approx((0.3 * 0.8 + 0.2 * 0.7) / 0.5)
    assert challenge_score(0.9, NAN, NAN) == 0.9
    assert challenge_score(0.9, 0.8, [0.6, NAN, 0.8]) == challenge_score(0.9, 0.8, 0.7)
    assert math.isnan(challenge_score(NAN, NAN, [NAN]))
    assert math.isnan(weighted_score({"a": 0.9}, [Task("a", ("a",), 0.0, conditional=False)]))


@given(*[st.one_of(st.floats(0, 1), st.just(NAN))] * 3)
@settings(deadline=None)
def test_score_lies_between_its_parts(lesion: float, malignancy: float, types: float) -> None:
    defined = [part for part in (lesion, malignancy, types) if not math.isnan(part)]
    assume(defined)
    assert min(defined) - 1e-12 <= challenge_score(lesion, malignancy, types) <= max(defined) + 1e-12


def test_each_part_raises_the_score_by_its_weight() -> None:
    base = challenge_score(0.5, 0.5, 0.5)
    raised = (challenge_score(0.6, 0.5, 0.5), challenge_score(0.5, 0.6, 0.5), challenge_score(0.5, 0.5, 0.6))
    assert [value - base for value in raised] == pytest.approx([0.05, 0.03, 0.02])
    assert sum(task.weight for task in PAPER_TASKS) == pytest.approx(1)


def test_scores_refuse_what_is_no_auc() -> None:
    with pytest.raises(ValueError, match=r"AUC of lesion to be in \[0, 1\] or NaN, but got 91\.3"):
        challenge_score(91.3, 0.9, 0.9)
    with pytest.raises(ValueError, match=r"AUC of type .* but got None"):
        weighted_score({"lesion": 0.9, "malignancy": 0.9})
