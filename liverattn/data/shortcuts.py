"""What images give away without the liver: classes told from the file's size and the picture's look alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from liverattn.data.cache import PreparedCases
from liverattn.data.labels import OUTPUTS, case_labels
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import BLACK
from liverattn.errors import InputError

METADATA = ("width", "height", "black", "mean", "m")
SIZE = ("width", "height")
SHORTCUT = 0.65  # AUC of metadata alone above which a network may learn the machine instead of the liver
FEWEST = 10  # patients of each class; of 6 among independent phantoms, 0.80 came by chance
FOLDS, REPEATS = 5, 10


@dataclass(frozen=True)
class Shortcut:
    """How well metadata alone tells the classes of one output apart.

    Attributes:
        output: One of :data:`liverattn.data.labels.OUTPUTS`.
        positive: Cases.
        negative: Cases.
        size: AUC from width and height; NaN where there are too few cases.
        metadata: AUC from all quantities of :func:`metadata`.
    """

    output: str
    positive: int
    negative: int
    size: float
    metadata: float

    @property
    def is_suspicious(self) -> bool:
        """Whether either AUC exceeds 0.65."""
        return max(self.size, self.metadata) > SHORTCUT


def metadata(cases: PreparedCases, rows: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """What says nothing of the liver: (n, 5), columns as in :data:`METADATA`.

    Width and height are the file's, in pixels; the share of black pixels (up to 10 of 255) and the mean intensity (0 to
    255) are those of the prepared image; m is that of Eq. 1, NaN where undefined.

    Args:
        cases: Prepared images.
        rows: n of them; None: all.
    """
    chosen = np.arange(len(cases)) if rows is None else np.asarray(rows)
    images = (cases.image(int(row)) for row in chosen)
    look = np.array([((image <= BLACK).mean(), image.mean()) for image in images]).reshape(-1, 2)
    return np.column_stack([cases.originals[chosen], look, cases.medians[chosen]])


def shortcuts(manifest: Manifest, cases: PreparedCases) -> list[Shortcut]:
    """Try to tell each output's classes apart without looking at the liver.

    Logistic regression on standardized metadata, five folds stratified by the output and grouped by patient. The AUC is
    that of the pooled out-of-fold probabilities, averaged over ten repeats. Outputs other than ``lesion`` are tried
    on lesion images only, as they are scored.

    Args:
        manifest: n cases.
        cases: Their prepared images.

    Returns:
        One per output with a positive label.
    """
    measured = metadata(cases)
    return [
        _shortcut(output, truth, measured, manifest.table["patient_id"].to_numpy(dtype=str))
        for output, truth in _truths(manifest).items()
    ]


def _truths(manifest: Manifest) -> Mapping[str, NDArray[np.float32]]:
    truths = {}
    for output in OUTPUTS:
        try:
            truths[output] = case_labels(manifest, [output], "masked")[:, 0]
        except InputError:  # without a positive case there is nothing to tell apart
            continue
    return truths


def _shortcut(
    output: str, truth: NDArray[np.float32], measured: NDArray[np.float64], patients: NDArray[np.str_]
) -> Shortcut:
    known = ~np.isnan(truth)
    truth, patients = truth[known], patients[known]
    positive, negative = int((truth == 1).sum()), int((truth == 0).sum())
    if min(len(set(patients[truth == label])) for label in (0, 1)) < FEWEST:
        return Shortcut(output, positive, negative, float("nan"), float("nan"))
    # Scaling takes no labels: once for all folds gives nothing away.
    scaling = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    scaled = scaling.fit_transform(measured[known])
    size, everything = (_cross_validated_auc(part, truth, patients) for part in (scaled[:, :2], scaled))
    return Shortcut(output, positive, negative, size, everything)


def _cross_validated_auc(scaled: NDArray[np.float64], truth: NDArray[np.float32], patients: NDArray[np.str_]) -> float:
    groups = patients if len(set(patients)) < len(patients) else None
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold  # the former is much faster
    areas = []
    for repeat in range(REPEATS):
        folds = list(splitter(FOLDS, shuffle=True, random_state=repeat).split(scaled, truth, groups))
        model = LogisticRegression(solver="liblinear")  # in one thread: ten times as fast where the cores are busy
        probabilities = cross_val_predict(model, scaled, truth, cv=folds, method="predict_proba")
        areas.append(roc_auc_score(truth, probabilities[:, 1]))
    return float(np.mean(areas))


def shortcut_findings(found: Sequence[Shortcut]) -> list[str]:
    """One warning per output that metadata tell."""
    return [
        f"{shortcut.output} can be told from metadata alone: AUC {shortcut.metadata:.2f} (size alone "
        f"{shortcut.size:.2f}, chance 0.50); a network may learn the machine instead of the liver"
        for shortcut in found
        if shortcut.is_suspicious
    ]
