"""Attention quality beside maps without a look, and attention as a detector, against the tables they are made of."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.held_out import on_one_scale
from liverattn.comparison.measured_attention import attention_by_architecture, detection_table
from liverattn.comparison.members import candidates
from liverattn.comparison.scored import Scored, read
from liverattn.reporting.results import Number, ResultTable
from tests.finished_runs import TWO_TASKS, Cohort, share, write_architecture

COHORT = Cohort(counts=(20, 2, 0, 2, 10, 16), repeats=2)
TASKS = Cohort(tasks=TWO_TASKS)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> list[Scored]:
    outputs = tmp_path_factory.mktemp("attention")
    for name in "ab":
        write_architecture(outputs, name, COHORT, [0, 1], backbone__name=name)
    return read(candidates(group_architectures(finished_runs(outputs)), None, inner=False, repeats=None))


def measured(table: ResultTable | None, *begin: str) -> dict[str, Number]:
    assert table is not None
    (row,) = [row for row in table.rows if list(row.cells[: len(begin)]) == list(begin)]
    named = dict(zip(table.columns, row.cells, strict=True))
    return {name: cell for name, cell in named.items() if isinstance(cell, Number)}


def test_maps_and_baselines_by_hand(scored: list[Scored]) -> None:
    table = attention_by_architecture(scored, "paper", scored[0].tasks)
    chance = share(COHORT, COHORT.images)
    chance = chance[~np.isnan(chance)]
    ours, even, center = (measured(table, "all", name) for name in ("a", "even map", "center prior"))
    assert ours["energy in boxes"].mean == pytest.approx(3 * chance.mean())
    assert ours["maximum in a box"].mean == pytest.approx((chance > 0.06).mean())
    assert even["energy in boxes"].mean == even["maximum in a box"].mean == pytest.approx(chance.mean())
    assert even["lift"].mean == 1 and even["average precision"].mean == pytest.approx(2 * chance.mean())
    assert center["energy in boxes"].mean == pytest.approx(2 * chance.mean()) and center["maximum in a box"].mean == 0
    limits = ours["maximum in a box"].deviations
    assert limits["low"] < ours["maximum in a box"].mean < limits["high"]
    assert measured(table, "all", "b").keys() == ours.keys()


def test_groups_are_sizes_and_kinds(scored: list[Scored]) -> None:
    table = attention_by_architecture(scored, "last", scored[0].tasks)
    assert table is not None
    groups = list(dict.fromkeys(row.cells[0] for row in table.rows))
    assert groups[0] == "all" and groups[4:] == ["benign", "malignant", "angioma", "fnh", "cyst", "metastasis"]
    sizes = [row.cells[2] for row in table.rows if row.cells[1] == "a"]
    assert sizes[0] == 30 == sum(sizes[1:4]) == sum(sizes[4:6]) == sum(sizes[6:])
    small, large = (measured(table, str(groups[k]), "a")["energy in boxes"].mean for k in (1, 3))
    assert small < large
    few = measured(table, "angioma", "a")["lift"]
    assert few.mean == 3 and not few.deviations  # two images have no interval
    assert [row.is_detail for row in table.rows[:4]] == [False] * 4 and table.rows[4].is_detail


def test_another_grid_has_baselines_of_its_own(scored: list[Scored]) -> None:
    held_out = scored[1].held_out[False]
    assert held_out.cases is not None
    finer = replace(held_out, cases=held_out.cases.assign(touched=held_out.cases["touched"] / 2))
    table = attention_by_architecture([scored[0], replace(scored[1], held_out={False: finer})], "last", scored[0].tasks)
    even, other = (measured(table, "all", name) for name in ("even map", "even map, grid of b"))
    assert other["average precision"].mean == pytest.approx(even["average precision"].mean / 2)
    assert other["energy in boxes"].mean == even["energy in boxes"].mean


def test_nothing_recorded_is_no_table(scored: list[Scored]) -> None:
    held_out = scored[0].held_out[False]
    bare = replace(scored[0], held_out={False: replace(held_out, quality={})})
    assert attention_by_architecture([bare], "last", bare.tasks) is None
    assert detection_table([bare], "last", bare.tasks) is None
    unboxed = {name: values.assign(energy=np.nan) for name, values in held_out.quality.items()}
    no_boxes = replace(scored[0], held_out={False: replace(held_out, quality=unboxed)})
    assert attention_by_architecture([no_boxes], "last", bare.tasks) is None
    without_cases = replace(scored[0], held_out={False: replace(held_out, cases=None)})
    table = attention_by_architecture([without_cases], "last", bare.tasks)
    assert table is not None and {row.cells[1] for row in table.rows} == {"a"}


def test_detection_by_the_largest_attention(scored: list[Scored]) -> None:
    table = detection_table(scored, "paper", scored[0].tasks)
    row = measured(table, "a")
    assert row["max sigmoid(s)"].mean == 1.0  # .9 on lesion images, .2 on the others
    held_out = on_one_scale(scored[0].held_out[False], scored[0].tasks)
    by_image = held_out.keys.assign(p=held_out.probabilities["paper"][:, 0], truth=held_out.truth[:, 0])
    by_image = by_image.groupby("image_id")[["p", "truth"]].mean()
    assert row["lesion output"].mean == pytest.approx(roc_auc_score(by_image["truth"], by_image["p"]))
    assert row["difference (95 %)"].mean == pytest.approx(1 - row["lesion output"].mean)
