"""The CLAIM 2024 checklist: all items, what is known, and what is left to the author."""

import copy
import math
import re
from typing import Any

import pytest

from liverattn.reporting.claim import AUTHOR, FILLED, IN_PART, MISSING, claim_checklist

SHARED: dict[str, Any] = {
    "height": 240,
    "width": 345,
    "alpha": 1.0,
    "epochs": 61,
    "batch_size": 16,
    "balanced": False,
    "optimizer": {"trunk_rate": 0.003, "head_rate": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "warmup": 0.05},
    "mixup": 0.2,
    "ema": None,
    "augmentation": {
        "crop": 0.7,
        "aspect": 0.15,
        "translate": 0.05,
        "rotate": 10.0,
        "flip": 0.5,
        "probability": 0.8,
    },
    "preprocessing": {"crop": True, "aspect": "pad", "intensity": "top", "clip": False},
    "lesion_free": "zeros",
    "reduction": "area",
    "seed": 20240731,
    "precision": "bf16-mixed",
}
FACTS: dict[str, Any] = {
    "data": "clinic",
    "images": 367,
    "patients": 298,
    "kept_together": "patients or groups of near-duplicates",
    "positives": {"lesion": 109, "malignancy": 54, "cyst": 30, "fnh": 8},
    "tasks": [
        {"name": "lesion", "outputs": ["lesion"], "weight": 0.5, "conditional": False},
        {"name": "malignancy", "outputs": ["malignancy"], "weight": 0.3, "conditional": True},
        {"name": "type", "outputs": ("cyst", "fnh"), "weight": 0.2, "conditional": True},
    ],
    "score_weights": "0.5 lesion + 0.3 malignancy + 0.2 type",
    "folds": 3,
    "repeats": 3,
    "fold_runs": 9,
    "inner_folds": None,
    "split_file": False,
    "excluded": 0,
    "protocol": "paper",
    "near_duplicates_grouped": True,
    "architectures": [
        {
            "label": "resnet_240",
            "backbone": "resnet50",
            "cut": None,
            "weights": "imagenet",
            "lambdas": [1.0],
            "parameters": 23524424,
            **SHARED,
        },
        {
            "label": "densenet_240",
            "backbone": "densenet121",
            "cut": "features.denseblock4",
            "weights": "imagenet",
            "lambdas": [0.25, 1.0],
            "parameters": 6969225,
            **SHARED,
        },
    ],
    "members": ["resnet_240", "densenet_240"],
    "intervals": {
        "lesion": {"value": 0.93512, "low": 0.9126, "high": 0.9552},
        "malignancy": {"value": 0.942, "low": 0.9, "high": 0.98},
        "type": {"value": 0.916, "low": 0.85, "high": 0.96},
        "score": {"value": 0.9333, "low": 0.911, "high": 0.951},
    },
    "calibration": {"lesion": {"brier": 0.0834521, "slope": 1.12, "intercept": -0.25}},
    "files": [
        "table2.md",
        "table3.md",
        "intervals.md",
        "protocols.md",
        "calibration.md",
        "operating_points.md",
        "attention.md",
        "subgroups.md",
        "failures.csv",
        "figure5.png",
        "predictions.parquet",
        "bundle.zip",
    ],
    "versions": {"liverattn": "0.9.1", "torch": "2.14.1", "git_commit": "e33e32b"},
    "unrecorded": 0,
    "evaluated": {"liverattn": "0.9.2", "torch": "2.14.1", "git_commit": "c0ffee1"},
    "machine": "2 cores, no GPU",
}
AUTHORS_OWN = {3, 4, 5, 8, 11, 13, 14, 15, 16, 17, 18, 34, 41, 44}


def changed(**facts: Any) -> dict[str, Any]:
    """A copy of all facts with some exchanged."""
    return {**copy.deepcopy(FACTS), **facts}


def with_architecture(**settings: Any) -> dict[str, Any]:
    """All facts, the first architecture with some settings exchanged."""
    facts = copy.deepcopy(FACTS)
    facts["architectures"][0].update(settings)
    return facts


def rows(checklist: str) -> dict[int, tuple[str, str]]:
    """Status and text by number, from lines that must be whole rows of four cells."""
    found = {}
    for line in checklist.splitlines():
        if re.match(r"\| \d", line):
            _, number, name, status, text, end = re.split(r"(?<!\\)\|", line)
            assert end == "" and name.strip() and text.strip()
            assert int(number) not in found
            found[int(number)] = (status.strip(), text.strip())
    return found


def blank(value: Any, by: Any) -> Any:
    """The same structure with every single value exchanged."""
    if isinstance(value, dict):
        return {name: blank(one, by) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [blank(one, by) for one in value]
    return by


@pytest.mark.parametrize("facts", [FACTS, {}], ids=["known", "absent"])
def test_all_44_items_once_and_in_order(facts: dict[str, Any]) -> None:
    assert list(rows(claim_checklist(facts))) == list(range(1, 45))


@pytest.mark.parametrize("facts", [FACTS, {}, changed(files=[])], ids=["known", "absent", "no files"])
def test_counts_are_those_of_the_rows(facts: dict[str, Any]) -> None:
    checklist = claim_checklist(facts)
    statuses = [status for status, _ in rows(checklist).values()]
    last = re.fullmatch(r"Filled: (\d+)\. In part: (\d+)\. Author: (\d+)\.", checklist.splitlines()[-1])
    assert last is not None
    counts = [int(count) for count in last.groups()]
    assert counts == [statuses.count(status) for status in (FILLED, IN_PART, AUTHOR)]
    assert sum(counts) == 44


def test_known_facts_are_filled_in() -> None:
    found = rows(claim_checklist(FACTS))
    assert {number for number, (status, _) in found.items() if status == AUTHOR} == AUTHORS_OWN
    for number, texts in {
        2: ["367", "298", "0.935 (0.913 to 0.955)", "score 0.933 (0.911 to 0.951)"],
        9: ["cropped: yes", "pad", "top", "255: no", "240x345 pixels"],
        19: ["folds 3", "repeats 3", "fold runs of each architecture 9"],
        20: ["images of one lie in one fold", "every split: yes"],
        21: ["lesion 109", "fnh 8", "See intervals.md."],
        22: ["resnet50, up to its last feature map", "features.denseblock4", "lambda 0.25, 1;", "23524424"],
        23: ["torch 2.14.1", "2 cores, no GPU"],
        24: ["ImageNet", "seed 20240731"],
        25: [
            "epochs 61",
            "batch 16",
            "trunk_rate 0.003",
            "weight_decay 0.0001",
            "weights: off",
            "rotate 10",
            "bf16-mixed",
            "other than lesion: trained as negatives; boxes to cells of the grid by: area;",
        ],
        27: ["resnet_240, densenet_240"],
        28: ["0.5 lesion + 0.3 malignancy + 0.2 type", "type (cyst, fnh; on lesion images only: yes; weight 0.2)"],
        37: ["malignancy 0.942 (0.900 to 0.980)", "subgroups.md", "table2.md"],
        38: ["lesion (brier 0.08345, slope 1.12, intercept -0.25)", "operating_points.md", "calibration.md"],
        39: ["failures.csv."],
        40: ["Internal testing only", "fnh (8)"],
        42: ["commit e33e32b", "liverattn 0.9.1"],
    }.items():
        for text in texts:
            assert text in found[number][1], (number, text, found[number][1])


def test_nothing_is_missing_when_all_is_known() -> None:
    assert MISSING not in claim_checklist(FACTS)


def test_absent_facts_are_the_authors() -> None:
    checklist = claim_checklist({})
    found = rows(checklist)
    assert FILLED not in {status for status, _ in found.values()}
    fixed = {10, 12, 33}  # what the software does with any data
    assert {number for number, (status, _) in found.items() if status == IN_PART} == fixed
    assert checklist.startswith(f"# CLAIM 2024 checklist: {MISSING}\n")
    for number in (9, 19, 22, 23, 24, 26, 28, 37, 38):
        assert MISSING in found[number][1]


def test_a_fact_that_is_absent_makes_its_item_partial() -> None:
    found = rows(claim_checklist(changed(machine=None)))
    assert found[23][0] == IN_PART and found[23][1].endswith(f"Trained on: {MISSING}.")
    found = rows(claim_checklist(with_architecture(parameters=None)))
    assert found[22][0] == IN_PART and f"parameters {MISSING}" in found[22][1] and "6969225" in found[22][1]
    found = rows(claim_checklist(changed(calibration={})))
    assert found[38][0] == IN_PART and f"Calibration: {MISSING}." in found[38][1]
    assert found[37] == rows(claim_checklist(FACTS))[37]  # and no other


def test_an_interval_without_limits() -> None:
    one = {"value": 0.9, "low": None, "high": math.nan}
    status, text = rows(claim_checklist(changed(intervals={"lesion": one, "score": {"value": math.nan}})))[37]
    assert status == IN_PART
    assert f"lesion 0.900 (interval {MISSING}), score {MISSING}." in text


@pytest.mark.parametrize(
    "facts",
    [
        {},
        dict.fromkeys(FACTS),
        blank(FACTS, None),
        blank(FACTS, math.nan),
        {"architectures": [{}], "tasks": [{}], "intervals": {"lesion": {}}},
        {"architectures": [], "tasks": [], "files": [], "members": [], "versions": {}, "positives": {}},
    ],
    ids=["absent", "None", "None within", "NaN within", "empty within", "empty"],
)
def test_no_placeholder_is_printed(facts: dict[str, Any]) -> None:
    checklist = claim_checklist({**facts, "files": []})
    assert not re.search(r" [.,;]", checklist)
    assert not re.search(r"\b(None|nan|NaN|inf|Undefined)\b", checklist)
    assert len(rows(checklist)) == 44


def test_balanced_training_is_told() -> None:
    told = "batch 16, drawn with replacement, as many without lesion as benign and malignant; SGD"
    assert told in rows(claim_checklist(with_architecture(balanced=True)))[25][1]
    assert "batch 16; SGD" in rows(claim_checklist(FACTS))[25][1]


def test_an_empty_list_among_settings_is_none() -> None:
    facts = with_architecture(optimizer={"momentum": 0.9, "frozen": []})
    assert "momentum 0.9, frozen none; mixup" in rows(claim_checklist(facts))[25][1]
    assert MISSING not in claim_checklist(facts)
    assert f"Members: {MISSING}." in rows(claim_checklist(changed(members=[])))[27][1]


@pytest.mark.parametrize(
    ("settings", "item", "told"),
    [
        ({"library": "timm"}, 22, "trunk resnet50 (timm), up to"),
        ({"mirror": True}, 22, "the mean over each image and its mirror image"),
        ({"devices": 4}, 25, "batch 16 in each of 4 processes; SGD"),
        ({"limit_batches": 3}, 25, "batch 16; batches of an epoch limited to 3, which may leave out"),
        ({"overfit_batches": 2}, 25, "all of training and validation is on (debugging): 2; SGD"),
        ({"gradient_clip": 0.5}, 25, "norm of the gradient clipped at 0.5; mixup"),
        ({"lesion_free": "masked"}, 25, "other than lesion: not trained;"),
    ],
)
def test_what_changes_a_training_is_told_where_it_is_in_use(settings: dict[str, Any], item: int, told: str) -> None:
    usual = {"library": None, "mirror": False, "devices": 1, "limit_batches": None, "overfit_batches": 0}
    assert claim_checklist(with_architecture(**usual, gradient_clip=None)) == claim_checklist(FACTS)
    checklist = claim_checklist(with_architecture(**settings))
    assert told in rows(checklist)[item][1] and told not in rows(claim_checklist(FACTS))[item][1]
    assert MISSING not in checklist


def test_folds_of_a_file_and_images_left_out_are_told() -> None:
    found = rows(claim_checklist(changed(split_file=True, excluded=12)))
    assert found[19][0] == IN_PART and "Read from a file" in found[19][1] and "at random" not in found[19][1]
    assert "(data.exclude): images 12." in found[35][1] and "data.exclude" not in rows(claim_checklist(FACTS))[35][1]


def test_null_of_an_architecture_is_what_the_configuration_says() -> None:
    found = rows(claim_checklist(with_architecture(weights=None, cut=None, ema=0.999)))
    assert "resnet_240: seed 20240731; trunk random; densenet_240: seed 20240731; trunk ImageNet" in found[24][1]
    assert "weights: 0.999;" in found[25][1] and "weights: off;" in found[25][1]
    facts = copy.deepcopy(FACTS)
    for key in ("weights", "cut", "ema"):
        del facts["architectures"][0][key]
    found = rows(claim_checklist(facts))
    assert f"trunk {MISSING};" in found[24][1] and found[24][0] == IN_PART
    assert f"up to {MISSING};" in found[22][1] and f"weights: {MISSING};" in found[25][1]


def test_a_file_of_weights_leaves_its_origin_to_the_author() -> None:
    status, text = rows(claim_checklist(with_architecture(weights="/home/someone/liver.pth")))[24]
    assert status == IN_PART and f"the file liver.pth, trained on what: {MISSING}" in text
    assert "someone" not in text


def test_architectures_share_what_is_the_same() -> None:
    found = rows(claim_checklist(FACTS))
    assert found[25][1].count("epochs 61") == 1
    assert found[22][1].startswith("resnet_240: input 240x345")
    found = rows(claim_checklist(with_architecture(epochs=10)))
    assert found[25][1].startswith("resnet_240: epochs 10,") and "; densenet_240: epochs 61," in found[25][1]


@pytest.mark.parametrize(
    ("protocol", "inner_folds", "text"),
    [
        ("paper", None, "this flatters the numbers"),
        ("inner", 6, "one part in 6 of the training cases"),
        ("last", None, "no epoch was chosen"),
        (None, None, f"Protocol {MISSING}: say which cases chose the epoch"),
    ],
)
def test_protocols(protocol: str | None, inner_folds: int | None, text: str) -> None:
    found = rows(claim_checklist(changed(protocol=protocol, inner_folds=inner_folds)))
    for number in (26, 32, 37, 40):
        assert text in found[number][1]
        assert ("flatters the numbers" in found[number][1]) == (protocol == "paper")
    assert ("put aside" in found[19][1]) == (protocol == "inner")


def test_groups_of_near_duplicates_are_not_passed_off_as_patients() -> None:
    found = rows(claim_checklist(FACTS))
    for number in (2, 20, 21, 35):
        assert "patients or groups of near-duplicates 298" in found[number][1]
    assert found[20][0] == IN_PART and "how many patients these are" in found[20][1]
    alone = rows(claim_checklist(changed(near_duplicates_grouped=False, kept_together="patients")))
    assert "Images 367, patients 298" in alone[20][1] and alone[20][0] == FILLED


def test_weaknesses_are_stated() -> None:
    text = rows(claim_checklist(FACTS))[40][1]
    assert "no external test set" in text and "Members not named beforehand" in text
    assert "Near-duplicates" not in text and "Thresholds" not in text
    weak = claim_checklist(changed(near_duplicates_grouped=False, patients=367, data="phantom"))
    found = rows(weak)
    assert "Near-duplicates were not kept together." in found[40][1]
    assert "Two images of one scene may therefore lie on both sides" in found[20][1]
    assert found[20][0] == IN_PART and "kept apart by image only" in found[20][1]
    assert "Synthetic" in found[7][1] and "synthetic phantoms" in weak.split("##")[0]


def test_only_files_that_are_there_are_named() -> None:
    checklist = claim_checklist(changed(files=["intervals.md"]))
    assert "See intervals.md." in rows(checklist)[37][1]
    for absent in set(FACTS["files"]) - {"intervals.md", "failures.csv"}:
        assert absent not in checklist
    found = rows(checklist)
    assert found[31][0] == found[37][0] == found[38][0] == IN_PART
    assert found[39][0] == AUTHOR and "liverattn.report" in found[39][1]


def test_software_is_that_of_the_training() -> None:
    trained = "liverattn 0.9.1, torch 2.14.1, git_commit e33e32b"
    evaluated = "liverattn 0.9.2, torch 2.14.1, git_commit c0ffee1"
    found = rows(claim_checklist(FACTS))[23]
    assert found == (FILLED, f"Training: {trained}. Evaluation: {evaluated}. Trained on: 2 cores, no GPU.")
    found = rows(claim_checklist(changed(evaluated=FACTS["versions"], unrecorded=2)))[23]
    assert found == (IN_PART, f"Training and evaluation: {trained}. Trained on: 2 cores, no GPU.")
    status, text = rows(claim_checklist(changed(versions={})))[23]
    assert status == IN_PART and text.startswith(f"Training: {MISSING}. Evaluation: liverattn 0.9.2")


def test_special_characters_break_no_table() -> None:
    odd = r"a|b *c* `d` <e> \f" + "\nsecond line"
    shown = r"a\|b \*c\* \`d\` \<e> \\f second line"
    facts = with_architecture(label=odd, backbone=odd, weights=odd)
    facts |= {
        "data": odd,
        "members": [odd, "x"],
        "machine": odd,
        "score_weights": odd,
        "protocol": odd,
        "positives": {odd: 3, "x|y": 9},
        "intervals": {odd: {"value": 0.5, "low": 0.4, "high": 0.6}},
        "files": ["failures|of*mine.csv"],
    }
    checklist = claim_checklist(facts)
    found = rows(checklist)  # every line still has four cells
    assert list(found) == list(range(1, 45))
    for number in (7, 21, 22, 23, 24, 26, 27, 28, 37, 40):
        assert shown in found[number][1], (number, found[number][1])
    assert r"failures\|of\*mine.csv" in found[39][1]


def test_facts_stay_as_they_were() -> None:
    facts = copy.deepcopy(FACTS)
    assert claim_checklist(facts) == claim_checklist(FACTS)
    assert facts == FACTS
