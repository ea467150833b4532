"""What metadata alone reach, on the folds of a synthetic architecture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.members import candidates
from liverattn.comparison.metadata_baseline import metadata_baseline
from liverattn.comparison.scored import Scored, read
from tests.finished_runs import TWO_TASKS, Cohort, write_architecture

COHORT = Cohort(counts=(40, 0, 0, 0, 20, 20), tasks=TWO_TASKS, repeats=2)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    outputs = tmp_path_factory.mktemp("metadata")
    write_architecture(outputs, "a", COHORT, [0, 1])
    (one,) = read(candidates(group_architectures(finished_runs(outputs)), None, inner=False, repeats=None))
    return one


def test_a_planted_shortcut_is_found_and_none_is_not(scored: Scored) -> None:
    found = metadata_baseline(scored)
    assert found is not None and found.label == "metadata alone"
    aucs = found.by_fold[False, "last"]
    assert aucs.tasks["lesion"].min() == 1.0  # lesion images are wider
    assert abs(aucs.tasks["malignancy"].mean() - 1.0) < 0.05  # m rises with the image, and metastases come last
    assert found.held_out[False].selection is None and found.held_out[False].quality == {}


def test_it_is_fitted_on_the_other_folds_of_the_repeat_only(scored: Scored) -> None:
    found = metadata_baseline(scored)
    assert found is not None
    held_out = scored.held_out[False]
    assert held_out.cases is not None
    measured = held_out.cases[["width", "height", "black", "mean", "m"]].to_numpy()
    repeat, fold = held_out.keys["repeat"].to_numpy(), held_out.keys["fold"].to_numpy()
    tested = (repeat == 1) & (fold == 2)
    trained = (repeat == 1) & (fold != 2)
    scale = StandardScaler().fit(measured[trained])
    model = LogisticRegression().fit(scale.transform(measured[trained]), held_out.truth[trained, 0])
    expected = model.predict_proba(scale.transform(measured[tested]))[:, 1]
    np.testing.assert_allclose(found.held_out[False].probabilities["paper"][tested, 0], expected, rtol=1e-6)
    # Labels of the held-out fold change nothing there.
    truth = held_out.truth.copy()
    truth[tested] = 1 - truth[tested]
    other = metadata_baseline(replace(scored, held_out={False: replace(held_out, truth=truth)}))
    assert other is not None
    np.testing.assert_array_equal(
        other.held_out[False].probabilities["paper"][tested, 0], found.held_out[False].probabilities["paper"][tested, 0]
    )


def test_too_few_cases_and_no_metadata(scored: Scored, tmp_path: Path) -> None:
    held_out = scored.held_out[False]
    assert metadata_baseline(replace(scored, held_out={False: replace(held_out, cases=None)})) is None
    few = held_out.truth.copy()
    few[np.flatnonzero(few[:, 1] == 1)[5:], 1] = np.nan  # five malignant ones are left
    found = metadata_baseline(replace(scored, held_out={False: replace(held_out, truth=few)}))
    assert found is not None
    assert np.isnan(found.held_out[False].probabilities["paper"][:, 1]).all()
    assert not np.isnan(found.held_out[False].probabilities["paper"][:, 0]).any()
