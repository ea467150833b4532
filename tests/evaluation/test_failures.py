"""Wrong calls, by hand."""

import numpy as np
import pytest

from liverattn.evaluation.failures import RIGHT, Call, most_wrong, task_calls
from liverattn.evaluation.scores import PAPER_TASKS, Task

LESION, MALIGNANCY, TYPE = PAPER_TASKS
OUTPUTS = [name for task in PAPER_TASKS for name in task.outputs]
NAN = float("nan")


def case(lesion: float, malignancy: float = 0.0, kind: str | None = None) -> list[float]:
    return [lesion, malignancy, *(float(name == kind) for name in TYPE.outputs)]


def described(calls: list[Call]) -> list[tuple[int, str, str, str]]:
    return [(call.case, call.kind, call.true, call.called) for call in calls]


def test_one_output_is_called_at_the_threshold() -> None:
    truth = np.array([case(1), case(1), case(0), case(0), case(NAN), case(1)])
    probability = np.full((6, 7), 0.1)
    probability[:, 0] = [0.9, 0.3, 0.3, 0.7, 0.9, 0.29]
    found = task_calls(truth, probability, LESION, OUTPUTS, threshold=0.3)
    assert described(found) == [
        (5, "false negative", "lesion", "not lesion"),
        (1, RIGHT, "lesion", "lesion"),  # at the threshold
        (3, "false positive", "not lesion", "lesion"),
        (2, "false positive", "not lesion", "lesion"),
        (0, RIGHT, "lesion", "lesion"),
    ]
    assert [call.error for call in found] == pytest.approx([0.71, 0.7, 0.7, 0.3, 0.1])
    assert [call.probability for call in found] == [0.29, 0.3, 0.7, 0.3, 0.9]


def test_conditional_tasks_are_judged_on_lesion_images_only() -> None:
    truth = np.array([case(0), case(1, 1), case(1, 0), case(1, NAN), case(NAN, 1)])
    probability = np.full((5, 7), 0.8)
    assert described(task_calls(truth, probability, MALIGNANCY, OUTPUTS)) == [
        (2, "false positive", "not malignancy", "malignancy"),
        (1, RIGHT, "malignancy", "malignancy"),
    ]


def test_a_type_is_called_by_the_most_probable_output() -> None:
    truth = np.array([case(1, 0, "cyst"), case(1, 1, "hcc"), case(1), case(0), case(1, 0, "fnh")])
    truth[4, 3] = NAN  # one type unknown
    probability = np.zeros((5, 7))
    #                   angioma  hcc  fnh cyst metastasis
    probability[0, 2:] = [0.05, 0.30, 0.0, 0.10, 0.05]
    probability[1, 2:] = [0.01, 0.02, 0.0, 0.01, 0.00]
    found = task_calls(truth, probability, TYPE, OUTPUTS)
    assert described(found) == [(0, "wrong type", "cyst", "hcc"), (1, RIGHT, "hcc", "hcc")]
    assert [call.error for call in found] == pytest.approx([1 - 0.1 / 0.5, 0.5])
    assert found[0].probability == 0.30


def test_types_without_any_probability_are_a_draw() -> None:
    found = task_calls(np.array([case(1, 0, "cyst")]), np.zeros((1, 7)), TYPE, OUTPUTS)
    assert found[0].error == pytest.approx(0.8)


def test_without_a_copy_there_is_no_call() -> None:
    truth, probability = np.array([case(1, 1, "hcc"), case(0)]), np.full((2, 7), NAN)
    assert all(task_calls(truth, probability, task, OUTPUTS) == [] for task in PAPER_TASKS)
    assert task_calls(truth[:0], probability[:0], TYPE, OUTPUTS) == []


def test_other_tasks_and_outputs() -> None:
    task = Task("cysts", ("cyst",), 1.0, False)
    found = task_calls(np.array([[0.0], [1.0]]), np.array([[0.6], [0.7]]), task, ["cyst"])
    assert described(found) == [(0, "false positive", "not cyst", "cyst"), (1, RIGHT, "cyst", "cyst")]


def calls(kinds: str) -> list[Call]:
    names = {"p": "false positive", "n": "false negative", "r": RIGHT}
    return [Call(k, names[kind], "", "", 0.5, 1 - k / 100) for k, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "count", "expected"),
    [
        ("ppppnn", 4, [0, 1, 4, 5]),  # half and half, though four of one kind are worse
        ("ppppn", 4, [0, 1, 2, 4]),  # what one kind does not need
        ("rprn", 4, [1, 3]),  # right ones never
        ("ppnn", 1, [0]),
        ("rr", 3, []),
        ("", 3, []),
    ],
)
def test_both_kinds_are_among_the_most_wrong(kinds: str, count: int, expected: list[int]) -> None:
    assert [call.case for call in most_wrong(calls(kinds), count)] == expected
