"""Near-duplicates: frames of one scene, under another crop, brightness, size or with other marks on them.

All images of a probe share the shape of their fan, so that thumbnails and perceptual hashes find everything alike. What
is compared here is *texture*: the image minus its blur, over the local contrast, within the fan. Pairs are proposed by
correlation of small textures under a grid of shifts (a matrix product), then registered by an affine transformation
(``cv2.findTransformECC``: Evangelidis and Psarakis, TPAMI 30 (2008) 1858-1865) and scored.
"""

import itertools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from liverattn.data.cache import PreparedCases, prepare_cases
from liverattn.data.manifest import Manifest
from liverattn.data.preprocessing import BLACK, Preprocessing
from liverattn.files import digest, write_json

SEARCH_VERSION = 2  # raise it when the same images give other pairs
ALIKE = 0.42  # similarity from which on two images count as near-duplicates
PLAUSIBLE = 0.45  # correlation of the small textures from which on a pair is registered
NEIGHBORS = 5  # registered per image; a scene with more frames is held together by chains
COMPARED = 2**22  # pairs of images at once: bounds the memory
TEXTURE = (96, 138)  # height, width
SMALL = (12, 17)
SHIFTS = tuple(itertools.product((-1, 0, 1), (-2, -1, 0, 1, 2)))  # (down, right), pixels of SMALL
VARIANTS = tuple(itertools.product((False, True), SHIFTS))  # mirrored, shift

Texture = NDArray[np.floating]  # float32


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same scene.

    Attributes:
        first: Row of the manifest.
        second: Row of the manifest, > first.
        similarity: Correlation of the textures after registration, :data:`ALIKE` to 1. What lies outside the other
            image counts as uncorrelated, so that a common arc of the diaphragm is not enough.
        mirrored: The second shows the first mirrored left to right. Training mirrors images too, so that such a copy
            gives a held-out case away just as well.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


def texture(image: NDArray[np.uint8]) -> Texture:
    """What two frames of a scene share and two scenes do not: (96, 138), limited to -3 to 3, 0 outside the fan.

    Args:
        image: (H, W) uint8. Brightness and contrast fall out: the blurred image (standard deviation 4 pixels of the
            result) is subtracted, and the rest divided by its own local root mean square (8 pixels).
    """
    gray = cv2.resize(image, TEXTURE[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    fan = cv2.morphologyEx((gray > BLACK).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    # The rim of the fan is the strongest edge and the same everywhere.
    inner = cv2.erode(fan, np.ones((7, 7), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    inside = fan.astype(np.float32)
    detail = (gray - _blurred(gray * inside, 4) / np.maximum(_blurred(inside, 4), 1e-3)) * inside
    contrast = np.sqrt(_blurred(detail**2, 8) / np.maximum(_blurred(inside, 8), 1e-3))
    return np.asarray(np.clip(detail / (contrast + 2), -3, 3) * inner, dtype=np.float32)


def _blurred(values: Texture, deviation: float) -> Texture:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), deviation, borderType=cv2.BORDER_CONSTANT), dtype=np.float32)


@dataclass(frozen=True)
class _Candidate:
    """Row ``moved``, mirrored or not and shifted (down, right) pixels of ``SMALL``, resembles row ``fixed``."""

    moved: int
    fixed: int
    mirrored: bool
    shift: tuple[int, int]


def find_duplicates(cases: PreparedCases, alike: float = ALIKE) -> list[DuplicatePair]:
    """All pairs of near-duplicates.

    Takes some 10 ms per registered pair (at most five per image) on one core, and on two 1.3 s of search for 5 000
    images, 173 s for 50 000: the search grows with the square of the images, the memory with 2 kB for each.

    Args:
        cases: n prepared images, of any size.
        alike: Least similarity. Down to 0.42, all 27 pairs among two thirds of the AUL images were frames of one scene
            to the eye; from there to 0.36 neighboring slices of a liver and chance resemblances mix. The phantoms,
            which are independent, reach 0.36.

    Returns:
        By falling similarity.
    """
    rows = range(len(cases))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and OpenCV run outside Python's lock
        small = np.stack(list(pool.map(lambda row: _small(texture(cases.image(row))), rows)))
        candidates = list(_candidates(small))
        scores = track(
            pool.map(lambda candidate: _registered(cases, candidate), candidates),
            f"Comparing {len(candidates)} pairs of images",
            total=len(candidates),
            transient=True,
        )
        pairs = [
            DuplicatePair(min(c.moved, c.fixed), max(c.moved, c.fixed), round(score, 4), c.mirrored)
            for c, score in zip(candidates, scores, strict=True)
            if score >= alike
        ]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _small(full: Texture) -> Texture:
    return np.asarray(cv2.resize(_blurred(full, 4), SMALL[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)


def _unit(textures: Texture) -> Texture:
    flat = textures.reshape(len(textures), -1)
    # A flat image has rounding errors only, which are no texture.
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-2), dtype=np.float32)


def _candidates(small: Texture) -> Sequence[_Candidate]:
    """Each image with those that it resembles most under any shift, each pair once."""
    everything, count = _unit(small), len(small)
    found: dict[tuple[int, int], _Candidate] = {}
    at_once = max(1, COMPARED // count)
    for begin in track(range(0, count, at_once), f"Searching {count} images for near-duplicates", transient=True):
        block = small[begin : begin + at_once]
        variants = [_unit(_shifted(block[:, :, ::-1] if mirrored else block, *shift)) for mirrored, shift in VARIANTS]
        best = _best_correlations(variants, everything)
        best[np.arange(len(block)), begin + np.arange(len(block))] = -1  # itself
        for place, correlations in enumerate(best):
            plausible = np.flatnonzero(correlations >= PLAUSIBLE)
            nearest = plausible[np.argsort(-correlations[plausible], kind="stable")[:NEIGHBORS]]
            for other in nearest.tolist():
                pair = (min(begin + place, other), max(begin + place, other))
                if pair not in found:
                    chosen = np.argmax([variant[place] @ everything[other] for variant in variants])
                    found[pair] = _Candidate(begin + place, other, *VARIANTS[chosen])
    return [found[pair] for pair in sorted(found)]


def _best_correlations(variants: Sequence[Texture], everything: Texture) -> Texture:
    """(b, n): of each image of a block with each of all, the largest under any variant."""
    # Which variant it was is found for the few pairs that matter: keeping it takes three times as long.
    best = variants[0] @ everything.T
    correlations = np.empty_like(best)
    for variant in variants[1:]:
        np.maximum(best, np.matmul(variant, everything.T, out=correlations), out=best)
    return best


def _shifted(textures: Texture, down: int, right: int) -> Texture:
    height, width = textures.shape[1:]
    out = np.zeros_like(textures)
    source = textures[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    out[:, max(down, 0) : height - max(-down, 0), max(right, 0) : width - max(-right, 0)] = source
    return out


def _registered(cases: PreparedCases, candidate: _Candidate) -> float:
    """Correlation after the best affine transformation; 0 where none is found."""
    fixed, moved = texture(cases.image(candidate.fixed)), texture(cases.image(candidate.moved))
    moved = np.ascontiguousarray(moved[:, ::-1]) if candidate.mirrored else moved
    down, right = (8 * steps for steps in candidate.shift)
    # In ECC's sense: where a pixel of the moved image lies in the fixed one.
    motion = np.array([[1, 0, right], [0, 1, down]], np.float32)
    everywhere = np.ones(TEXTURE, np.uint8)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
    try:
        _, brought_by = cv2.findTransformECC(moved, fixed, motion, cv2.MOTION_AFFINE, criteria, everywhere, 7)
    except cv2.error:  # it says so where it does not converge
        return 0.0
    size, flags = TEXTURE[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    brought = cv2.warpAffine(fixed, brought_by, size, flags=flags)
    norms = np.linalg.norm(moved) * max(np.linalg.norm(fixed), np.linalg.norm(brought))
    return float((moved * brought).sum() / norms) if norms > 0 else 0.0


def near_duplicates(manifest: Manifest, folder: Path) -> list[DuplicatePair]:
    """The near-duplicates of a manifest, kept on disk: the second time they are read.

    They are looked for at 240x345 pixels whatever the network's input is: every architecture gets the same groups.

    Args:
        manifest: n checked cases.
        folder: Of the prepared images (:func:`liverattn.data.cache.prepare_cases`).

    Raises:
        InputError: As :func:`liverattn.data.cache.prepare_cases`.
    """
    cases = prepare_cases(manifest, Preprocessing(), folder)
    kept = folder / "duplicates" / f"{digest([SEARCH_VERSION, ALIKE, [key.decode() for key in cases.keys]])}.json"
    try:
        return [DuplicatePair(**pair) for pair in json.loads(kept.read_text())]
    except (OSError, ValueError, TypeError):  # absent, or damaged on disk
        pairs = find_duplicates(cases)
    write_json(kept, [asdict(pair) for pair in pairs])
    return pairs


def merge_patients(manifest: Manifest, pairs: Sequence[DuplicatePair]) -> Manifest:
    """Make one patient of all whose images are near-duplicates, so that no split separates them.

    Args:
        manifest: n cases.
        pairs: Of its rows.

    Returns:
        The manifest with another ``patient_id`` where patients are merged, that of the first case of each group, and a
        note that says how many were.
    """
    codes, patients = manifest.table["patient_id"].factorize()
    joined = codes[np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)].T
    graph = coo_array((np.ones(joined.shape[1]), tuple(joined)), shape=(len(patients), len(patients)))
    _, groups = connected_components(graph, directed=False)
    first = {group: patient for group, patient in reversed(list(zip(groups, patients, strict=True)))}
    merged = [first[group] for group in groups[codes]]
    note = f"Near-duplicates are kept together: {len(patients)} patients became {len(first)} groups."
    return replace(manifest, table=manifest.table.assign(patient_id=merged), notes=(*manifest.notes, note))
