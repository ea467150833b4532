"""Groups of images, by hand."""

import numpy as np

from liverattn.comparison.groups import lesion_kinds, thirds_by_size


def test_thirds_by_size() -> None:
    share = np.array([0.01, 0.20, 0.02, 0.05, 0.06, 0.30])
    groups = thirds_by_size(share)
    assert [np.flatnonzero(mask).tolist() for _, mask in groups] == [[0, 2], [3, 4], [1, 5]]
    low, high = np.quantile(share, [1 / 3, 2 / 3])
    assert groups[0][0] == f"boxes cover up to {100 * low:.2g} %" and f"{100 * high:.2g} %" in groups[2][0]
    equal = [mask.sum() for _, mask in thirds_by_size(np.full(4, 0.1))]
    assert equal == [4, 0, 0]
    assert thirds_by_size(np.zeros(0)) == [] == thirds_by_size(np.full(3, np.nan))
    with_unknown = [mask.tolist() for _, mask in thirds_by_size(np.array([0.1, np.nan, 0.2, 0.3]))]
    assert with_unknown == [[True, False, False, False], [False, False, True, False], [False, False, False, True]]


def test_kinds_of_lesion_images() -> None:
    truth = np.array([[0.0, 0, 0], [1, 0, 1], [1, 1, 0], [1, np.nan, 1]])
    found = {name: mask.tolist() for name, mask in lesion_kinds(truth, ["lesion", "malignancy", "cyst"])}
    assert found == {
        "benign": [False, True, False, False],
        "malignant": [False, False, True, False],
        "cyst": [False, True, False, True],
    }
    assert lesion_kinds(truth[:1], ["lesion", "malignancy", "cyst"]) == []  # no lesion image, no group
