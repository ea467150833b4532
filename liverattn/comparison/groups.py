"""Groups of images that numbers are given for: by size of the lesion and by what it is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from liverattn.evaluation.scores import shows_lesion

Mask = NDArray[np.bool_]
Group = tuple[str, Mask]


def thirds_by_size(share: NDArray[np.floating]) -> list[Group]:
    """Thirds of the images by the share that their boxes cover, named by their limits.

    Args:
        share: (n,) in [0, 1]; NaN: in no group.
    """
    if np.isnan(share).all():
        return []
    low, high = np.nanquantile(share, [1 / 3, 2 / 3])
    return [
        (f"boxes cover up to {100 * low:.2g} %", share <= low),
        (f"{100 * low:.2g} to {100 * high:.2g} %", (share > low) & (share <= high)),
        (f"more than {100 * high:.2g} %", share > high),
    ]


def lesion_kinds(truth: NDArray[np.floating], outputs: Sequence[str]) -> list[Group]:
    """Lesion images by every output but ``lesion``, without the empty groups.

    Args:
        truth: (n, K) 0, 1, or NaN where unknown.
        outputs: K names.
    """
    shown, groups = shows_lesion(truth, outputs), []
    for k, output in enumerate(outputs):
        kinds = {"lesion": [], "malignancy": [("benign", 0), ("malignant", 1)]}.get(output, [(output, 1)])
        groups += [(kind, mask) for kind, label in kinds if (mask := shown & (truth[:, k] == label)).any()]
    return groups
