"""What metadata alone reach on the same folds: the row that a network has to beat."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from liverattn.comparison.held_out import HeldOut
from liverattn.comparison.scored import Scored
from liverattn.data.shortcuts import FEWEST, METADATA
from liverattn.evaluation.intervals import SCORE
from liverattn.evaluation.scores import Task, shows_lesion

LABEL = "metadata alone"
WHAT_IT_IS = (
    f"{LABEL}: logistic regression on width, height, share of black, mean intensity and m of each image, fitted on the "
    "cases that the same fold runs did not hold out. It sees no liver; where it is good, a network may have learned "
    "the machine."
)


def metadata_baseline(reference: Scored) -> Scored | None:
    """A classifier that sees no liver, on the folds of some architecture or ensemble.

    Args:
        reference: Whose fold runs are repeated.

    Returns:
        With the protocols of the reference, though nothing is selected; None where no run recorded metadata.
    """
    held_out = {inner: _predicted(one, reference.tasks) for inner, one in reference.held_out.items()}
    known = {inner: one for inner, one in held_out.items() if one is not None}
    if not known:
        return None
    found = Scored(LABEL, None, reference.tasks, known)
    unfitted = _unfitted(found, reference)
    means = {task.name for task in reference.tasks if unfitted.intersection(task.outputs)}
    return replace(found, lacking=frozenset({*unfitted, *means, *([SCORE] if unfitted else [])}))


def what_it_is(baseline: Scored) -> str:
    """For a note below a table: what the row is, and why numbers are missing there."""
    names = [name for task in baseline.tasks for name in (task.name, *task.outputs)]
    lacking = [name for name in dict.fromkeys([*names, SCORE]) if name in baseline.lacking]
    if not lacking:
        return WHAT_IT_IS
    return (
        f"{WHAT_IT_IS} It has no {', '.join(lacking)}: an output with fewer than {FEWEST} cases of a class to fit it "
        "on is undefined, and with it the means that a network makes of more outputs."
    )


def _unfitted(found: Scored, reference: Scored) -> set[str]:
    """Outputs that the reference has an AUC of in some fold run, and the baseline in none."""
    return {
        name
        for key, numbers in found.by_fold.items()
        for name, values in numbers.outputs.items()
        if np.isnan(values).all() and not np.isnan(reference.by_fold[key].outputs[name]).all()
    }


def _predicted(held_out: HeldOut, tasks: tuple[Task, ...]) -> HeldOut | None:
    if held_out.cases is None:
        return None
    measured = held_out.cases[list(METADATA)].to_numpy(np.float64)
    repeat, fold = (held_out.keys[name].to_numpy() for name in ("repeat", "fold"))
    probability = np.full(held_out.truth.shape, np.nan)
    for cell in sorted(set(zip(repeat, fold, strict=True))):
        tested = (repeat == cell[0]) & (fold == cell[1])
        trained = (repeat == cell[0]) & ~tested
        probability[tested] = _fold(measured, held_out.truth, trained, tested, tasks)
    return replace(
        held_out, probabilities=dict.fromkeys(held_out.probabilities, probability), quality={}, selection=None
    )


def _fold(
    measured: NDArray[np.float64],
    truth: NDArray[np.float64],
    trained: NDArray[np.bool_],
    tested: NDArray[np.bool_],
    tasks: tuple[Task, ...],
) -> NDArray[np.float64]:
    """(n, K) of the tested cases; NaN for an output with too few cases of a class to learn from."""
    names = [(output, task.conditional) for task in tasks for output in task.outputs]
    shown = shows_lesion(truth, [name for name, _ in names])
    found = np.full((int(tested.sum()), len(names)), np.nan)
    for k, (_, conditional) in enumerate(names):
        labels = truth[:, k]
        rows = trained & ~np.isnan(labels) & (shown | (not conditional))
        if min((labels[rows] == 1).sum(), (labels[rows] == 0).sum()) >= FEWEST:
            found[:, k] = _classifier().fit(measured[rows], labels[rows]).predict_proba(measured[tested])[:, 1]
    return found


def _classifier() -> Pipeline:
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), LogisticRegression()
    )
