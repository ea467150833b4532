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


@given(st.lists(st.tuples(st.integers(0, 376) | st.just(NAN), st.sampled_from((-1e-16, 0, 1e-16))), min_size=1))
def test_nothing_is_better_than_the_best_and_nothing_later_as_good(found: list[tuple[float, float]]) -> None:
    """AUCs of 47 positive and 8 negative cases, which differ in the last digit where their sums rounded otherwise."""
    best = best_epochs([{"lesion": wins / 376 + rounding} for wins, rounding in found])
    defined = [wins for wins, _ in found if not math.isnan(wins)]
    assert ("lesion" in best) == bool(defined)
    if defined:
        assert found[best["lesion"]][0] == max(defined)
        assert max(defined) not in [wins for wins, _ in found[best["lesion"] + 1 :]]
