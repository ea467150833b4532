"""What a person can say of an image."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.annotation.labels import LABEL_KEYS, SMALLEST_SIDE, Labels, whole_boxes
from liverattn.data.manifest import LESION_TYPES

BOXES = "[[1, 2, 5, 6]]"


@pytest.mark.parametrize(
    ("before", "answer", "after"),
    [
        (Labels(), "no lesion", Labels("0")),
        (Labels("1", "1", "hcc", BOXES), "no lesion", Labels("0")),
        (Labels("0"), "benign", Labels("1", "0")),
        (Labels("1", "", "", BOXES), "malignant", Labels("1", "1", "", BOXES)),
        (Labels("1", "1", "hcc", BOXES), "malignant", Labels("1", "1", "hcc", BOXES)),
        (Labels("1", "1", "hcc", BOXES), "benign", Labels("1", "0", "", BOXES)),
        (Labels("1", "0", "cyst", BOXES), "malignant", Labels("1", "1", "", BOXES)),
        (Labels("1", "0", "cyst"), "unknown kind", Labels("1")),
        (Labels(), "metastasis", Labels("1", "1", "metastasis")),
        (Labels("1", "1"), "fnh", Labels("1", "0", "fnh")),
    ],
)
def test_answers(before: Labels, answer: str, after: Labels) -> None:
    assert before.answered(answer) == after


def test_every_answer_has_a_key_and_is_shown_again() -> None:
    assert len(set(LABEL_KEYS.values())) == 4 + len(LESION_TYPES)
    for answer in LABEL_KEYS.values():
        assert Labels().answered(answer).describe() == answer
    assert Labels().describe() == ""


def test_boxes_make_a_lesion_and_removing_them_leaves_it_open() -> None:
    boxed = Labels("0").boxed([(1, 2, 5, 6)])
    assert boxed == Labels("1", "", "", BOXES) and boxed.is_complete
    assert boxed.box_list() == [[1, 2, 5, 6]]
    assert boxed.boxed([]) == Labels("1") and not Labels("1").is_complete


@pytest.mark.parametrize(
    ("labels", "is_complete"),
    [(Labels(), False), (Labels("0"), True), (Labels("1.0"), False), (Labels("1.0", "", "", BOXES), True)],
)
def test_what_is_left_to_do(labels: Labels, is_complete: bool) -> None:
    assert labels.is_complete == is_complete


def test_boxes_become_whole_ordered_and_lie_inside() -> None:
    drawn = [[-3.2, 5.4, 10.6, 99], [10, 20, 4, 8], [5, 5, 6, 20], [50, 5, 60, 9]]
    assert whole_boxes(drawn, (40, 30)) == [(0, 5, 11, 30), (4, 8, 10, 20)]


@given(st.lists(st.tuples(*[st.floats(-100, 200)] * 4)), st.integers(16, 90), st.integers(16, 90))
def test_boxes_keep_the_rules_of_the_manifest(drawn: list[tuple[float, ...]], width: int, height: int) -> None:
    for x0, y0, x1, y1 in whole_boxes(drawn, (width, height)):
        assert 0 <= x0 <= x1 - SMALLEST_SIDE <= width - SMALLEST_SIDE
        assert 0 <= y0 <= y1 - SMALLEST_SIDE <= height - SMALLEST_SIDE
