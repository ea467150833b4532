"""Attention on vessels, by hand."""

import numpy as np
import pytest

from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.evaluation.localization import points_into_box
from liverattn.evaluation.vessels import inside, peak_points, vessel_attention

SIZE = (40, 60)  # pixels; the grid is 2 x 3, so a cell has 20 x 20
NONE = np.zeros((0, 4))


def peaked(*cells: tuple[int, int]) -> np.ndarray:
    scores = np.full((len(cells), 2, 3), -1.0)
    for case, (row, column) in enumerate(cells):
        scores[case, row, column] = 2
    return scores


def test_by_hand() -> None:
    scores = peaked((0, 0), (1, 2), (0, 0))
    boxes = [np.array([[0.0, 0.0, 20.0, 20.0]]), np.array([[5.0, 5.0, 15.0, 15.0], [40.0, 0.0, 60.0, 10.0]]), NONE]
    targets = np.stack([mask_to_grid(boxes_to_mask(of_one, SIZE), (2, 3)) for of_one in boxes])
    weights = np.full((3, 2, 3), 0.1)
    weights[:, 0, 0] = 0.5
    found = vessel_attention(weights, scores, targets, boxes, SIZE)
    # The points are (10, 10), (50, 30), (10, 10).
    assert found.hit.tolist() == [1, 0, 0]
    assert found.share == pytest.approx([1 / 6, 300 / 2400, 0])
    assert found.elsewhere == pytest.approx([1 / 2, 0, 1])  # on the vessels of the two others
    assert found.energy == pytest.approx([0.5, 0.5 * 100 / 400 + 0.1 * 200 / 400, 0])


def test_a_map_that_points_nowhere_has_no_hit() -> None:
    scores = np.concatenate([peaked((0, 1)), np.zeros((1, 2, 3))])
    everything = [np.array([[0.0, 0.0, 60.0, 40.0]])] * 2
    found = vessel_attention(np.full((2, 2, 3), 1 / 6), scores, np.ones((2, 2, 3)), everything, SIZE)
    assert found.hit[0] == 1 and np.isnan(found.hit[1])
    assert found.elsewhere[0] == 1 and np.isnan(found.elsewhere[1])
    assert found.energy == pytest.approx([1, 1])


def test_a_single_image_has_no_others() -> None:
    found = vessel_attention(np.full((1, 2, 3), 1 / 6), peaked((0, 0)), np.zeros((1, 2, 3)), [NONE], SIZE)
    assert np.isnan(found.elsewhere).all() and found.hit.tolist() == [0]


def test_the_chance_elsewhere_is_that_of_shuffled_maps() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(9, 4, 6))
    corners = random.uniform(0, 30, (9, 3, 2))
    boxes = [np.concatenate([low, low + random.uniform(3, 20, (3, 2))], axis=1) for low in corners]
    found = vessel_attention(np.full((9, 4, 6), 1 / 24), scores, np.zeros((9, 4, 6)), boxes, SIZE)
    for i in range(9):
        others = [points_into_box(scores[i], boxes[j], SIZE) for j in range(9) if j != i]
        assert found.elsewhere[i] == pytest.approx(np.mean(others))
        assert found.hit[i] == points_into_box(scores[i], boxes[i], SIZE)


def test_points_are_centers_of_cells() -> None:
    assert peak_points(peaked((1, 2), (0, 1)), SIZE).tolist() == [[50, 30], [30, 10]]


def test_boxes_are_half_open() -> None:
    points = np.array([[0.0, 0.0], [4.0, 1.0], [3.9, 1.9], [np.nan, np.nan]])
    assert inside(points, np.array([[0.0, 0.0, 4.0, 2.0]])).tolist() == [True, False, True, False]
    assert not inside(points, NONE).any()


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape \(n, h, w\)"):
        vessel_attention(np.zeros((1, 2, 3)), np.zeros((1, 2, 2)), np.zeros((1, 2, 3)), [NONE], SIZE)
    with pytest.raises(ValueError, match=r"one shape \(n, h, w\)"):
        vessel_attention(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), [], SIZE)
