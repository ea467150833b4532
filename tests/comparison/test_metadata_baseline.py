"""What metadata alone reach, on the folds of a synthetic architecture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.members import candidates
from liverattn.comparison.metadata_baseline import metadata_baseline, what_it_is
from liverattn.comparison.pairs import CORRECTED_T, auc_intervals, compare_pairs, comparison_table
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
    assert found.lacking == {"malignancy", "score"}


def test_no_mean_is_of_fewer_outputs_than_the_networks(tmp_path: Path) -> None:
    cohort = Cohort(counts=(40, 0, 4, 0, 20, 20), repeats=1)  # four hcc: too few to fit on, enough to be judged on
    write_architecture(tmp_path, "a", cohort, [0])
    (network,) = read(candidates(group_architectures(finished_runs(tmp_path)), None, inner=False, repeats=None))
    found = metadata_baseline(network)
    assert found is not None and found.lacking == {"hcc", "type", "score"}
    assert "It has no type, hcc, score:" in what_it_is(found)
    values = auc_intervals(found, "last", draws=20)
    assert {name for name, one in values.items() if np.isnan(one.value)} == {"hcc", "type", "score", "angioma", "fnh"}
    (pair,) = compare_pairs(network, [found], "last", draws=20, seed=0)
    assert not np.isnan(pair.values["type"][0].value) and np.isnan(pair.values["type"][1].value)
    for (name, _), test in pair.tests.items():
        assert np.isnan(test.difference) == (name not in ("lesion", "malignancy", "cyst", "metastasis")), name
    assert any(note.startswith("-: ") for note in comparison_table([pair], network.tasks, "last").notes)


def test_fold_runs_in_which_a_side_lacks_an_output_take_no_part(tmp_path: Path) -> None:
    cohort = Cohort(counts=(12, 0, 6, 0, 6, 6), repeats=1)
    for name in "ab":
        write_architecture(tmp_path, name, cohort, [0], backbone__name=name)
    one, other = read(candidates(group_architectures(finished_runs(tmp_path)), None, inner=False, repeats=None))
    held_out = other.held_out[False]
    (k,) = [k for k, output in enumerate(name for task in other.tasks for name in task.outputs) if output == "hcc"]
    last = held_out.probabilities["last"].copy()
    last[held_out.keys["fold"].to_numpy() == 0, k] = np.nan
    other = replace(other, held_out={False: replace(held_out, probabilities={"last": last})})
    (pair,) = compare_pairs(one, [other], "last", draws=20, seed=0)
    differences = one.by_fold[False, "last"].minus(other.by_fold[False, "last"])
    assert pair.tests["type", CORRECTED_T].difference == pytest.approx(differences.tasks["type"][1:].mean())
    assert pair.tests["lesion", CORRECTED_T].difference == pytest.approx(differences.tasks["lesion"].mean())
