"""Phantoms: what is promised of every picture, and the physics that the pictures must show."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from liverattn.data.phantoms import KINDS, Phantom, render_phantom
from liverattn.data.phantoms import render as render_module
from liverattn.data.phantoms.imaging import Beam, form_envelope
from liverattn.data.phantoms.overlay import burn_in
from liverattn.data.phantoms.probe import Probe, Screen, draw_probe, draw_screen
from liverattn.data.phantoms.tissue import Tissue

PER_KIND = 8


@cache
def phantoms(kind: str) -> list[Phantom]:
    return [render_phantom(kind, np.random.default_rng([7, KINDS.index(kind), seed])) for seed in range(PER_KIND)]


def every_phantom() -> list[Phantom]:
    return [phantom for kind in KINDS for phantom in phantoms(kind)]


def elliptic_radius(image: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 on the ellipse that the box encloses, 0 in its center."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    x0, y0, x1, y1 = box
    radius: NDArray[np.float64] = np.hypot(2 * (columns - x0) / (x1 - x0) - 1, 2 * (rows - y0) / (y1 - y0) - 1)
    return radius


def mean_contrast(kind: str, inner: float, outer: float) -> float:
    """Gray between two elliptic radii of the largest lesion, minus that of the liver around it, over the set."""
    contrasts = []
    for phantom in phantoms(kind):
        sizes = np.prod(phantom.boxes[:, 2:] - phantom.boxes[:, :2], axis=1)
        radius = elliptic_radius(phantom.image, phantom.boxes[sizes.argmax()])
        around = phantom.image[(radius > 1.15) & (radius < 1.5)]
        contrasts.append(phantom.image[(radius >= inner) & (radius < outer)].mean() - around.mean())
    return float(np.mean(contrasts))


def top_median(image: NDArray[np.uint8]) -> float:
    """Median of the pixels above 10 in the topmost fifth of the rows, black borders cropped."""
    bright = image > 10
    rows = np.flatnonzero(bright.mean(axis=1) > 0.02)
    columns = np.flatnonzero(bright.mean(axis=0) > 0.02)
    crop = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top = crop[: max(1, len(crop) // 5)]
    return float(np.median(top[top > 10]))


def test_same_seed_gives_the_same_phantom() -> None:
    first, second = (render_phantom("metastasis", np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.vessels, second.vessels)


def test_the_next_phantom_of_a_generator_differs() -> None:
    rng = np.random.default_rng(3)
    first, second = render_phantom("none", rng).image, render_phantom("none", rng).image
    assert first.shape != second.shape or (first != second).mean() > 0.2


def test_image_is_gray_and_of_a_scanners_size() -> None:
    for phantom in every_phantom():
        assert phantom.image.dtype == np.uint8
        height, width = phantom.image.shape
        assert 340 <= height <= 910 and 440 <= width <= 1260
        assert (phantom.image > 10).mean() > 0.05


def test_sectors_are_the_majority() -> None:
    geometries = [phantom.geometry for phantom in phantoms("none")]
    drawn = [draw_probe(np.random.default_rng(seed)).geometry for seed in range(400)]
    assert set(geometries) <= {"sector", "linear"}
    assert 0.8 < drawn.count("sector") / len(drawn) < 0.95


@pytest.mark.parametrize("field", ["boxes", "vessels"])
def test_boxes_are_whole_pixels_inside_the_image(field: str) -> None:
    for phantom in every_phantom():
        boxes = getattr(phantom, field)
        height, width = phantom.image.shape
        assert boxes.dtype == np.float64 and boxes.shape[1:] == (4,)
        np.testing.assert_array_equal(boxes, np.round(boxes))
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_lesions_are_boxed_and_only_lesions() -> None:
    assert all(phantom.boxes.shape == (0, 4) for phantom in phantoms("none"))
    assert all(len(phantom.boxes) >= 1 for kind in KINDS[1:] for phantom in phantoms(kind))
    assert all(len(phantom.boxes) == 1 for kind in ("hcc", "fnh") for phantom in phantoms(kind))
    assert 1 < max(len(phantom.boxes) for phantom in phantoms("metastasis")) <= 6


def test_most_lesions_are_neither_specks_nor_the_whole_picture() -> None:
    shares = [np.prod(box[2:] - box[:2]) / phantom.image.size for phantom in every_phantom() for box in phantom.boxes]
    assert 0.01 < np.median(shares) < 0.06
    assert min(shares) > 0.001 and max(shares) < 0.3


def test_most_livers_show_vessels() -> None:
    assert np.mean([len(phantom.vessels) > 0 for phantom in every_phantom()]) > 0.8


def test_brightness_of_the_top_is_that_of_the_paper() -> None:
    medians = [top_median(phantom.image) for phantom in every_phantom()]
    assert min(medians) >= 25 and max(medians) <= 115
    assert 60 < np.mean(medians) < 80
    assert np.std(medians) > 10


def test_cyst_is_dark_inside_and_bright_behind() -> None:
    assert mean_contrast("cyst", 0.0, 0.7) < -25
    enhancement = []
    for phantom in phantoms("cyst"):
        x0, y0, x1, y1 = phantom.boxes[0].astype(int)
        rows = slice(y1 + 2, y1 + 2 + (y1 - y0) // 3)
        middle, quarter = (x0 + x1) // 2, (x1 - x0) // 4
        behind = phantom.image[rows, middle - quarter : middle + quarter]
        beside = np.hstack(
            [phantom.image[rows, max(x0 - 2 * quarter, 0) : x0], phantom.image[rows, x1 : x1 + 2 * quarter]]
        )
        if behind.size and beside.size:
            enhancement.append(behind.mean() - beside.mean())
    assert np.mean(enhancement) > 5


def test_angioma_is_brighter_than_the_liver() -> None:
    assert mean_contrast("angioma", 0.0, 0.8) > 12


@pytest.mark.parametrize("kind", ["hcc", "metastasis"])
def test_malignant_rim_is_darker_than_the_liver(kind: str) -> None:
    assert mean_contrast(kind, 0.75, 0.95) < -6


def test_fnh_is_nearer_to_the_liver_than_a_cyst() -> None:
    assert abs(mean_contrast("fnh", 0.3, 0.8)) < 0.6 * abs(mean_contrast("cyst", 0.3, 0.8))


@pytest.mark.parametrize(("looks", "ratio"), [(1, 1.913), (4, 3.826)])
def test_speckle_is_rayleigh_before_compression(looks: int, ratio: float) -> None:
    shape = (400, 200)
    lateral = np.linspace(0.8, 1.8, shape[0], dtype=np.float32)
    beam = Beam(axial=1.2, lateral=lateral, looks=looks)
    ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    envelope = form_envelope(np.random.default_rng(0), ones, zeros, beam)[20:-20, 20:-20]
    assert envelope.mean() / envelope.std() == pytest.approx(ratio, rel=0.05)
    assert envelope.mean() == pytest.approx(np.sqrt(np.pi) / 2, rel=0.03)


def test_speckle_widens_with_the_beam() -> None:
    lateral = np.concatenate([np.full(200, 0.8), np.full(200, 2.4)]).astype(np.float32)
    ones = np.ones((400, 200), np.float32)
    envelope = form_envelope(np.random.default_rng(0), ones, 0 * ones, Beam(1.2, lateral, 1))
    near, far = envelope[20:180], envelope[220:380]

    def neighbor_correlation(part: NDArray[np.float32]) -> float:
        return float(np.corrcoef(part[:, :-1].ravel(), part[:, 1:].ravel())[0, 1])

    assert neighbor_correlation(far) > neighbor_correlation(near) + 0.1


@pytest.mark.parametrize("geometry", ["sector", "linear"])
def test_beam_samples_are_where_the_probe_locates_them(geometry: str) -> None:
    probe = Probe("sector", 50.0, 0.55, 150.0) if geometry == "sector" else Probe("linear", 0.0, 40.0, 90.0)
    depth, lateral = probe.locate(*probe.beams(7, 5))
    np.testing.assert_allclose(depth, np.linspace(0, probe.depth, 7)[:, None] * np.ones(5), atol=1e-3)
    np.testing.assert_allclose(lateral, np.linspace(-1, 1, 5)[None, :] * np.ones((7, 1)), atol=1e-5)


def test_stamp_off_the_maps_changes_nothing() -> None:
    tissue = Tissue(Probe("linear", 0.0, 40.0, 90.0))
    square = np.array([[0, 0], [5, 0], [5, 5], [0, 5]], np.float32)
    region, mask = tissue.stamp(square + np.float32(500), 0.5)
    tissue.blend(region, mask, -20.0, 0.0)
    assert mask.size == 0
    assert not tissue.echo.any()


def test_kind_leaves_size_geometry_display_and_furniture_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, object, Screen]] = []

    def record(rng: np.random.Generator, picture: NDArray[np.uint8], screen: Screen) -> None:
        seen.append((str(rng.bit_generator.state), picture.shape, screen))
        burn_in(rng, picture, screen)

    monkeypatch.setattr(render_module, "burn_in", record)
    generators = [np.random.default_rng(11) for _ in KINDS]
    made = [render_phantom(kind, rng) for kind, rng in zip(KINDS, generators, strict=True)]
    assert all(entry == seen[0] for entry in seen)
    assert len({phantom.geometry for phantom in made}) == 1
    assert len({str(rng.bit_generator.state) for rng in generators}) == 1


def test_screens_range_over_sizes() -> None:
    rng = np.random.default_rng(0)
    sizes = {(screen.width, screen.height) for screen in (draw_screen(rng, draw_probe(rng)) for _ in range(300))}
    assert {(720, 576), (1024, 768), (768, 576), (800, 600), (640, 480), (440, 340), (1260, 910)} <= sizes


def test_unknown_kind_is_named_and_the_known_ones_listed() -> None:
    with pytest.raises(ValueError, match="none, angioma, metastasis, hcc, cyst, fnh, but got 'abscess'"):
        render_phantom("abscess", np.random.default_rng(0))
