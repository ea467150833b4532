"""AUCs within subgroups, against scikit-learn on the same images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.held_out import on_one_scale, out_of_fold
from liverattn.comparison.members import candidates
from liverattn.comparison.numbers import interval_number
from liverattn.comparison.scored import Scored, read
from liverattn.comparison.subgroups import subgroup_table
from liverattn.evaluation.intervals import bootstrap_scores
from liverattn.reporting.results import Number
from tests.finished_runs import Cohort, share, write_architecture

COHORT = Cohort(counts=(24, 2, 0, 2, 12, 16), repeats=2)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    outputs = tmp_path_factory.mktemp("subgroups")
    write_architecture(outputs, "a", COHORT, [0, 1], noise=1.5)
    (one,) = read(candidates(group_architectures(finished_runs(outputs)), None, inner=False, repeats=None))
    return one


@pytest.fixture(scope="module")
def rows(scored: Scored) -> dict[tuple[str, str], tuple[int, int, Number]]:
    table = subgroup_table([scored], "last", scored.tasks)
    assert table is not None and table.columns[-1] == "a"
    return {(row.cells[0], row.cells[1]): tuple(row.cells[2:]) for row in table.rows}  # type: ignore[misc]


@pytest.fixture(scope="module")
def images(scored: Scored) -> pd.DataFrame:
    found = out_of_fold(on_one_scale(scored.held_out[False], scored.tasks), "last")
    table = pd.DataFrame({"lesion": found.truth[:, 0], "malignancy": found.truth[:, 1]}, index=found.images)
    table["share"] = share(COHORT, list(found.images))
    table["p"], table["q"] = found.probability[:, 0], found.probability[:, 1]
    table["metastasis"] = found.truth[:, 6]
    return table.assign(place=[COHORT.images.index(image) for image in found.images])


def area(number: Number) -> float:
    return number.mean


def test_types_against_all_lesion_free_images(rows: dict, images: pd.DataFrame) -> None:
    positive, negative, number = rows["lesion", "metastasis"]
    assert (positive, negative) == (16, 24)
    chosen = images[(images["lesion"] == 0) | (images["metastasis"] == 1)]
    assert area(number) == pytest.approx(roc_auc_score(chosen["lesion"], chosen["p"]))
    assert number.deviations["low"] < area(number) < number.deviations["high"]
    few = rows["lesion", "angioma"]
    assert few[0] == 2 and not few[2].deviations  # an area, and no interval
    assert rows["lesion", "benign"][0] + rows["lesion", "malignant"][0] == 32 == rows["lesion", "all"][0]


def test_all_images_have_the_intervals_of_the_table_of_intervals(scored: Scored, rows: dict) -> None:
    found = out_of_fold(on_one_scale(scored.held_out[False], scored.tasks), "last")
    expected = bootstrap_scores(found.truth, found.probability, found.patients, scored.tasks)
    for output in ("lesion", "malignancy"):
        assert rows[output, "all"][2] == interval_number(expected[output], 3)


def test_thirds_by_size(rows: dict, images: pd.DataFrame) -> None:
    sizes = [name for output, name in rows if output == "malignancy" and ("boxes" in name or "%" in name)]
    assert len(sizes) == 3
    low, high = images["share"].quantile([1 / 3, 2 / 3])
    middle = images[(images["share"] > low) & (images["share"] <= high)]
    positive, negative, number = rows["malignancy", sizes[1]]
    assert (positive, negative) == ((middle["malignancy"] == 1).sum(), (middle["malignancy"] == 0).sum())
    if min(positive, negative):
        assert area(number) == pytest.approx(roc_auc_score(middle["malignancy"], middle["q"]))
    against_all = rows["lesion", sizes[1]]
    assert against_all[:2] == (len(middle), 24)


def test_sites_and_brightness_on_the_images_that_are_judged(rows: dict, images: pd.DataFrame) -> None:
    odd = images[images["place"] % 2 == 1]
    positive, negative, number = rows["lesion", "site odd"]
    assert (positive, negative) == ((odd["lesion"] == 1).sum(), (odd["lesion"] == 0).sum())
    assert area(number) == pytest.approx(roc_auc_score(odd["lesion"], odd["p"]))
    brightness = [value for (output, name), value in rows.items() if output == "lesion" and name.startswith("m ")]
    assert len(brightness) == 3 and sum(value[0] + value[1] for value in brightness) == 56
    assert brightness[0][0] == 0 and np.isnan(area(brightness[0][2]))  # the darkest third shows no lesion
    assert rows["malignancy", "site odd"][0] + rows["malignancy", "site even"][0] == 16


def test_without_a_table_of_cases_there_is_none(scored: Scored) -> None:
    held_out = scored.held_out[False]
    assert subgroup_table([replace(scored, held_out={False: replace(held_out, cases=None)})], "last", ()) is None
    assert held_out.cases is not None
    one_site = replace(held_out, cases=held_out.cases.assign(site=None, m=np.nan))
    table = subgroup_table([replace(scored, held_out={False: one_site})], "last", scored.tasks)
    assert table is not None
    assert not [row for row in table.rows if str(row.cells[1]).startswith(("site", "m "))]


def test_what_has_no_score_has_no_area(scored: Scored) -> None:
    held_out = scored.held_out[False]
    blank = {name: np.where([False, True] + [False] * 5, np.nan, one) for name, one in held_out.probabilities.items()}
    silent = replace(scored, label="b", held_out={False: replace(held_out, probabilities=blank)})
    table = subgroup_table([scored, silent], "last", scored.tasks)
    assert table is not None
    for row in table.rows:
        number = row.cells[-1]
        assert isinstance(number, Number) and np.isnan(number.mean) == (
            row.cells[0] == "malignancy" or row.cells[2] == 0 or row.cells[3] == 0
        )
