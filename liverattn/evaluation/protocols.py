"""Which epoch of a training is scored: selected on the held-out fold, selected beside it, or not selected at all.

The paper selects three copies on the fold that it scores, which flatters the score. Every epoch's outputs are recorded,
so one training serves several protocols:

=========  ==================================================  =====================================================
protocol   epoch of a task                                     what it costs
=========  ==================================================  =====================================================
``paper``  best AUC on the held-out fold                       nothing more
``last``   the last one                                        nothing more: the same training as ``paper``
``inner``  best AUC on cases put aside from the training       a training of its own, on a sixth fewer cases; it serves
           folds; the held-out fold only scores                ``paper`` and ``last`` too, for a paired comparison
=========  ==================================================  =====================================================
"""

import math
from collections.abc import Mapping, Sequence

EQUAL = 1e-9  # AUCs that differ by less are one: their sums round, while the steps of an AUC are a million times larger


def at_least(auc: float, best: float) -> bool:
    """Is an AUC as good as the best so far, or better? NaN never is."""
    return auc > best - EQUAL


def best_epochs(aucs: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """The epoch with the highest AUC of each task; of several, the last, which has learned the most.

    A small inner split says the same of many epochs: with 8 lesion-free cases among 55, a quarter of all choices on AUL
    were ties, of the first epoch and the eighth in one case (docs/results.md).

    Args:
        aucs: AUC by task, NaN where undefined, one mapping per epoch.

    Returns:
        Epoch from 0 by task, without the tasks that are undefined in every epoch.
    """
    best: dict[str, int] = {}
    for epoch, by_task in enumerate(aucs):
        for task, value in by_task.items():
            if at_least(value, aucs[best[task]][task] if task in best else -math.inf):
                best[task] = epoch
    return best


def last_epochs(aucs: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """The last epoch for each task that is defined there."""
    return {task: len(aucs) - 1 for task, value in aucs[-1].items() if not math.isnan(value)}
