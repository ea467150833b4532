"""The paper's numbers, as printed, and what follows from them."""

import statistics

import pytest

from liverattn.evaluation.scores import PAPER_TASKS, challenge_score
from liverattn.reporting.paper import DESIGNS, OUTPUTS, TABLE_2, TABLE_3


@pytest.mark.parametrize(
    ("row", "lesion", "malignancy", "types", "score"),
    [
        ("resnet_240", 0.913, 0.930, 0.895, 0.9145),
        ("resnet_480", 0.906, 0.910, 0.910, 0.9080),
        ("densenet_240", 0.912, 0.917, 0.900, 0.9111),
        ("ensemble", 0.935, 0.942, 0.916, 0.9333),
    ],
)
def test_table_2_gives_its_scores(row: str, lesion: float, malignancy: float, types: float, score: float) -> None:
    numbers = TABLE_2[row]
    assert [numbers[task].mean for task in ("lesion", "malignancy", "type")] == [lesion, malignancy, types]
    found = challenge_score(numbers["lesion"].mean, numbers["malignancy"].mean, numbers["type"].mean)
    assert found == pytest.approx(score, abs=5.1e-5)
    assert numbers["score"].mean == score


def test_table_3_gives_the_average_of_table_2() -> None:
    types = [name for task in PAPER_TASKS if task.name == "type" for name in task.outputs]
    assert statistics.mean(TABLE_3[name].mean for name in types) == pytest.approx(0.9156, abs=1e-9)
    deviations = [TABLE_3[name].deviation for name in types]
    assert statistics.mean(value for value in deviations if value is not None) == pytest.approx(0.0584, abs=1e-9)
    assert (TABLE_3["type"].mean, TABLE_3["type"].deviation_of_outputs) == (0.9156, 0.0584)
    assert TABLE_3["type"].deviation is None  # that of the mean, which the paper does not give
    assert round(TABLE_3["type"].mean, 3) == TABLE_2["ensemble"]["type"].mean
    assert round(0.0584, 3) == TABLE_2["ensemble"]["type"].deviation_of_outputs


def test_rows_are_named_as_our_experiments() -> None:
    assert set(TABLE_2) == {*DESIGNS, "ensemble"}
    assert [name for task in PAPER_TASKS for name in task.outputs] == list(OUTPUTS)
