"""Boxes around what annotation tools draw: by hand, and against dense points on the outline."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverattn.data.annotations import around_center, enclosing, rotated, rotated_ellipse, scaled

EDGE = st.floats(-500, 500)
SIDE = st.floats(0.5, 300)
ANGLE = st.floats(-720, 720)


def test_by_hand() -> None:
    assert enclosing([(3, 9), (1, 5), (2, 7)]) == (1, 5, 3, 9)
    assert around_center(10, 20, 4, 6) == (8, 17, 12, 23)
    assert scaled((0.25, 0.5, 0.75, 1), 64, 48) == (16, 24, 48, 48)
    assert rotated((0, 0, 4, 2), 90) == (1, -1, 3, 3)
    assert rotated((0, 0, 4, 2), 90, (0, 0)) == (-2, 0, 0, 4)  # clockwise on a screen: right becomes down
    assert rotated((0, 0, 2, 2), 45) == pytest.approx((1 - 2**0.5, 1 - 2**0.5, 1 + 2**0.5, 1 + 2**0.5))
    assert rotated_ellipse(10, 10, 4, 2, 90) == (8, 6, 12, 14)
    half = math.sqrt((16 + 4) / 2)
    assert rotated_ellipse(0, 0, 4, 2, 45) == pytest.approx((-half, -half, half, half))


@pytest.mark.parametrize("points", [[], [(1, 2)], [1, 2, 3], [(1, 2, 3), (4, 5, 6)], [(1, 2), (math.nan, 3)]])
def test_too_few_or_undefined_points_are_refused(points: list[object]) -> None:
    with pytest.raises(ValueError, match="two finite points"):
        enclosing(points)  # type: ignore[arg-type]


@given(EDGE, EDGE, SIDE, SIDE, ANGLE)
def test_a_turned_box_keeps_its_center_and_holds_what_it_held(
    x: float, y: float, width: float, height: float, angle: float
) -> None:
    x0, y0, x1, y1 = rotated((x, y, x + width, y + height), angle)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((x + width / 2, y + height / 2), abs=1e-6)
    assert (x1 - x0) * (y1 - y0) >= width * height * (1 - 1e-9)
    assert math.hypot(x1 - x0, y1 - y0) <= 2**0.5 * math.hypot(width, height) + 1e-6


@given(SIDE, SIDE, ANGLE)
def test_an_ellipse_touches_its_box(radius_x: float, radius_y: float, angle: float) -> None:
    t, a = np.linspace(0, 2 * np.pi, 20_001), math.radians(angle)
    x = radius_x * np.cos(t) * math.cos(a) - radius_y * np.sin(t) * math.sin(a)
    y = radius_x * np.cos(t) * math.sin(a) + radius_y * np.sin(t) * math.cos(a)
    expected = (x.min(), y.min(), x.max(), y.max())
    assert rotated_ellipse(0, 0, radius_x, radius_y, angle) == pytest.approx(expected, rel=1e-6, abs=1e-6)
