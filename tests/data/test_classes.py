"""Class names and what they come to for an image."""

import re

import pytest

from liverattn.data.classes import MEANINGS, ClassTable, Meaning, judge
from liverattn.errors import InputError


def of(*names: str) -> list[Meaning]:
    return [meaning for name in names if (meaning := MEANINGS[name]) is not None]


@pytest.mark.parametrize(
    ("whole", "regions", "expected"),
    [
        ([], [], Meaning(0)),
        (["none"], [], Meaning(0)),
        ([], ["none", "none"], Meaning(0)),
        ([], ["lesion"], Meaning(1)),
        ([], ["cyst", "cyst"], Meaning(1, 0, "cyst")),
        ([], ["cyst", "angioma"], Meaning(1, 0)),
        ([], ["cyst", "lesion"], Meaning(1)),  # the other one may be malignant
        ([], ["cyst", "metastasis"], Meaning(1, 1)),
        ([], ["lesion", "malignant"], Meaning(1, 1)),
        (["metastasis"], ["lesion", "lesion"], Meaning(1, 1, "metastasis")),
        (["benign"], ["lesion"], Meaning(1, 0)),
        (["benign"], ["cyst"], Meaning(1, 0, "cyst")),
        (["malignant"], ["cyst", "lesion"], Meaning(1, 1)),
        (["hcc"], [], Meaning(1, 1, "hcc")),
    ],
)
def test_what_statements_come_to(whole: list[str], regions: list[str], expected: Meaning) -> None:
    assert judge(of(*whole), of(*regions)) == expected


@pytest.mark.parametrize(
    ("whole", "regions", "message"),
    [
        (["none"], ["lesion"], "lesion-free and has a lesion"),
        (["benign", "malignant"], [], "benign and malignant"),
        (["benign"], ["hcc"], "benign and malignant"),
        (["malignant"], ["cyst"], "benign and malignant"),
        (["cyst", "fnh"], [], "cyst and fnh"),
        (["hcc"], ["metastasis"], "hcc and metastasis"),
    ],
)
def test_contradictions_are_refused(whole: list[str], regions: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(of(*whole), of(*regions))


def test_names_are_found_whatever_their_case() -> None:
    table = ClassTable({"Kyste simple": "cyst", "Leber": "ignore", "1": "hcc"})
    assert table[" KYSTE Simple "] == Meaning(1, 0, "cyst")
    assert table["leber"] is None
    assert table["1"] == Meaning(1, 1, "hcc")
    assert table[None] == Meaning(1)
    assert not table.knows("hcc")


def test_unknown_meanings_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match=re.escape("none, lesion, benign, malignant, angioma")):
        ClassTable({"Kyste": "kyste"})
