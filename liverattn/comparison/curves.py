"""Figure 5 over the fold runs of the ensemble."""

from liverattn.comparison.results import Comparison
from liverattn.evaluation.scores import shows_lesion
from liverattn.reporting.figures import RocFoldsPanel


def roc_panels(comparison: Comparison) -> list[RocFoldsPanel]:
    """One panel per task, one curve per output and fold run; conditional tasks on lesion images only."""
    held_out, outputs = comparison.shown, comparison.outputs
    probability = held_out.probabilities[comparison.protocol]
    lesion_images = shows_lesion(held_out.truth, outputs)
    folds = held_out.keys.groupby(["repeat", "fold"]).indices.values()
    panels = []
    for task in comparison.tasks:
        rows = [fold[lesion_images[fold]] if task.conditional else fold for fold in folds]
        columns = {output: outputs.index(output) for output in task.outputs}
        curves = {
            name: [(held_out.truth[fold, k], probability[fold, k]) for fold in rows] for name, k in columns.items()
        }
        panels.append(RocFoldsPanel(task.name, curves))
    return panels
