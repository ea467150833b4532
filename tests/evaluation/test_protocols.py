"""Which epoch is scored."""

import math

from hypothesis import given
from hypothesis import strategies as st

from liverattn.evaluation.protocols import best_epochs, last_epochs

NAN = math.nan


def test_the_last_of_the_best_epochs_of_each_task() -> None:
    aucs = [{"lesion": 0.7, "type": NAN}, {"lesion": 0.9, "type": 0.2}, {"lesion": 0.9, "type": NAN}]
    assert best_epochs(aucs) == {"lesion": 2, "type": 1}


def test_an_undefined_task_has_no_epoch() -> None:
    aucs = [{"lesion": 0.5, "type": NAN}, {"lesion": 0.4, "type": NAN}]
    assert best_epochs(aucs) == {"lesion": 0}
    assert last_epochs(aucs) == {"lesion": 1}
    assert best_epochs([]) == {}


@given(st.lists(st.floats(0, 1) | st.just(NAN), min_size=1, max_size=20))
def test_nothing_is_better_than_the_best(values: list[float]) -> None:
    best = best_epochs([{"lesion": value} for value in values])
    defined = [value for value in values if not math.isnan(value)]
    assert ("lesion" in best) == bool(defined)
    if defined:
        assert values[best["lesion"]] == max(defined)
        assert max(defined) not in values[best["lesion"] + 1 :]
