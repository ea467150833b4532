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
    return Scored(LABEL, None, reference.tasks, known) if known else None


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
