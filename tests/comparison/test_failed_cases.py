"""From calls to a table, words and pictures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from liverattn.comparison.explained import Explained, explain
from liverattn.comparison.failed_cases import Failures, failure_report, find_failures
from liverattn.comparison.subjects import one_run
from liverattn.evaluation.scores import PAPER_TASKS
from tests.comparison.explained_runs import data, recorded_run

OUTPUTS = [name for task in PAPER_TASKS for name in task.outputs]


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    """All images are called rightly, with certainty."""
    folder = tmp_path_factory.mktemp("failed")
    clinic = data(folder)
    found = explain(one_run(recorded_run(folder, "a", clinic).path), [clinic])
    return replace(found, probability=np.where(found.truth == 1, 0.9, 0.1))


def failures(explained: Explained, changes: dict[tuple[int, str], float], **more: object) -> Failures:
    probability = explained.probability.copy()
    for (case, output), value in changes.items():
        probability[case, OUTPUTS.index(output)] = value
    options = {"count": 12, "threshold": 0.5, "vessels": None, "identifiers": True, **more}
    return find_failures(replace(explained, probability=probability), **options)  # type: ignore[arg-type]


def first(explained: Explained, kind: str | None) -> int:
    table = explained.table
    return int(np.flatnonzero(table["lesion"] == 0 if kind is None else table["type"] == kind)[0])


def test_nothing_is_wrong(explained: Explained) -> None:
    found = failures(explained, {})
    assert found.table().empty and {"task", "image_id", "error", "probability_hcc"} <= set(found.table())
    lesion, malignancy, kind = found.tasks()
    assert not lesion.cases and not malignancy.cases and not kind.cases
    assert "0 of 3 images of the class no lesion are false positives; the nearest one has P(lesion) = 0.10." in (
        lesion.summary
    )
    assert "class benign are false positives" in malignancy.summary and "nearest one" in malignancy.summary
    assert kind.summary.startswith("0 of 7 images of a known type")


def test_words_table_and_pictures(explained: Explained) -> None:
    free, cyst, hcc = (first(explained, kind) for kind in (None, "cyst", "hcc"))
    found = failures(explained, {(free, "lesion"): 0.8, (hcc, "malignancy"): 0.3, (cyst, "fnh"): 0.95})
    lesion, malignancy, kind = found.tasks()
    assert [case.said for case in lesion.cases] == ["no lesion, called lesion: P(lesion) = 0.80"]
    assert [case.said for case in malignancy.cases] == ["malignant, called benign: P(malignancy) = 0.30"]
    assert [case.said for case in kind.cases] == ["cyst, called fnh: P(fnh) = 0.95, P(cyst) = 0.90"]
    assert lesion.cases[0].attention.startswith("attention: max sigmoid(s) ")
    assert "in boxes that cover 8.3%" in malignancy.cases[0].attention
    np.testing.assert_array_equal(kind.cases[0].image, explained.image(cyst))
    assert kind.cases[0].lift.sum() == pytest.approx(explained.weights["type"][cyst].size)
    table = found.table()
    assert table["task"].tolist() == ["lesion", "malignancy", "type"]
    assert table["kind"].tolist() == ["false positive", "false negative", "wrong type"]
    assert table["image_id"].tolist() == explained.table["image_id"][[free, hcc, cyst]].tolist()
    assert table["error"].tolist() == pytest.approx([0.8, 0.7, 1 - 0.9 / (0.9 + 0.95 + 0.3)])
    assert table["on_page"].all() and "maximum_on_vessel" not in table


def test_confusions_count_all_of_a_known_type(explained: Explained) -> None:
    cyst = first(explained, "cyst")
    (shown,) = (task.confusions for task in failures(explained, {(cyst, "fnh"): 0.95}).tasks() if task.confusions)
    rows = {str(row.cells[0]): list(row.cells[1:]) for row in shown.rows}
    types = list(PAPER_TASKS[2].outputs)
    counts = {kind: int((explained.table["type"] == kind).sum()) for kind in types}
    assert rows["cyst"] == [0, 0, 1, counts["cyst"] - 1, 0, counts["cyst"]]
    assert rows["metastasis"] == [0, 0, 0, 0, counts["metastasis"], counts["metastasis"]]


def test_the_table_has_all_and_the_page_the_most_wrong(explained: Explained) -> None:
    frees = np.flatnonzero(explained.table["lesion"] == 0)
    found = failures(explained, {(int(case), "lesion"): 0.6 + case / 1000 for case in frees}, count=2)
    assert len(found.table()) == 3 and found.table()["on_page"].tolist() == [True, True, False]
    assert [case.name for case in found.tasks()[0].cases] == found.table()["image_id"].tolist()[:2]


def test_names_are_left_out(explained: Explained) -> None:
    free = first(explained, None)
    found = failures(explained, {(free, "lesion"): 0.8}, identifiers=False)
    assert found.tasks()[0].cases[0].name is None
    assert "clinic-0" not in found.table().to_csv() and "image_id" not in found.table()


def test_a_maximum_on_a_vessel_is_said(explained: Explained) -> None:
    free = first(explained, None)
    everywhere = [np.array([[0.0, 0.0, 96.0, 64.0]])] * len(explained.rows)
    found = failures(explained, {(free, "lesion"): 0.8}, vessels=everywhere)
    assert found.tasks()[0].cases[0].attention.endswith("maximum on a vessel")
    assert found.table()["maximum_on_vessel"].tolist() == [True]


def test_unknown_truth_is_no_failure(explained: Explained) -> None:
    unknown = replace(explained, truth=np.full_like(explained.truth, np.nan))
    found = find_failures(unknown, count=3, threshold=0.5, vessels=None, identifiers=True)
    assert all(task.summary.startswith("No image whose truth") and not task.cases for task in found.tasks())
    assert isinstance(found.table(), pd.DataFrame) and found.table().empty


def test_facts_of_the_page(explained: Explained) -> None:
    page = failure_report(failures(explained, {}, threshold=0.25), [], 0.25)
    facts = dict(page.facts)
    assert facts["run"] == f"a/{explained.subject.folder.name}" and page.title == explained.subject.folder.name
    assert facts["protocol"].startswith("paper") and facts["threshold"].startswith("0.25")
    assert f"{len(explained.rows)} held-out images" in facts["data"]
