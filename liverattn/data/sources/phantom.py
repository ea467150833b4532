"""Ultrasound-like phantoms: the built-in data, with the counts of Table 1."""

import json
import os
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from liverattn.data.cache import PreparedCases
from liverattn.data.manifest import LESION_TYPES, MALIGNANT_TYPES, Manifest, check_manifest
from liverattn.data.phantoms import render_phantom
from liverattn.data.preprocessing import Window
from liverattn.errors import InputError, InputListError, expect_whole
from liverattn.files import digest, replacing, write_json

TABLE_1 = {"none": 258, "angioma": 17, "metastasis": 48, "hcc": 6, "cyst": 30, "fnh": 8}
OWN = re.compile(r"[0-9a-f]{12}|\..*")  # sets by their digests, and hidden files
GENERATOR_VERSION = 1  # raise it when the same seed gives other images


@dataclass(frozen=True, kw_only=True)
class PhantomSource:
    """Phantoms, rendered once in parallel into a folder named by what determines them.

    Attributes:
        root: Folder of all phantom sets.
        counts: Images per kind (``none`` and the five types). Default: Table 1 of the paper.
        seed: Image i of a set depends on (seed, i) and its kind only.
        workers: Processes; None: one per core.
    """

    root: str
    counts: Mapping[str, int] = field(default_factory=lambda: dict(TABLE_1))
    seed: int = 0
    workers: int | None = None

    def manifest(self) -> Manifest:
        """Render what is missing and return the cases.

        Raises:
            InputError: Counts are negative, of an unknown kind, or add up to nothing; or the folder holds other files.
        """
        expect_whole("data.seed", self.seed, 0)
        kinds = self._kinds()
        self._refuse_folder_of_others()
        folder = Path(self.root) / digest([GENERATOR_VERSION, sorted(self.counts.items()), self.seed])[:12]
        jobs = [(folder / f"{i:05d}.png", kind, (self.seed, i)) for i, kind in enumerate(kinds)]
        missing = [job for job in jobs if not (job[0].exists() and job[0].with_suffix(".json").exists())]
        _render_all(missing, self.workers)
        rows = [_row(path, kind) for path, kind, _ in jobs]
        return check_manifest(pd.DataFrame(rows), folder, f"The phantom set {folder}")

    def _refuse_folder_of_others(self) -> None:
        """Whoever names a folder of images and forgets ``data=`` would get phantoms among them, and train on these."""
        root = Path(self.root)
        entries = root.iterdir() if root.exists() else ()
        if others := sorted(entry.name for entry in entries if not OWN.fullmatch(entry.name)):
            raise InputError(
                f"data=phantom renders into the folder {root}, which holds other files ({others[0]}, ...). For images "
                "of your own say what they are: data=manifest data.manifest=cases.csv, or data=coco, voc, yolo, aul."
            )

    def _kinds(self) -> list[str]:
        valid = ("none", *LESION_TYPES)
        wrong = {k: n for k, n in self.counts.items() if k not in valid or not isinstance(n, int) or n < 0}
        if wrong or not sum(self.counts.values()):
            raise InputError(
                f"Expected data.counts to hold whole numbers >= 0, not all 0, for {', '.join(valid)}, "
                f"but got {dict(self.counts)}."
            )
        kinds = [kind for kind in valid for _ in range(self.counts.get(kind, 0))]
        order = np.random.default_rng([self.seed, len(kinds)]).permutation(len(kinds))
        return [kinds[i] for i in order]


Job = tuple[Path, str, tuple[int, int]]


def _render_all(jobs: list[Job], workers: int | None) -> None:
    if not jobs:
        return
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count == 1:
        for job in track(jobs, f"Rendering {len(jobs)} phantoms", transient=True):
            _render_one(job)
        return
    # Spawned, not forked: a forked child inherits the locks of the parent's threads.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_leave_with_parent)
    try:
        for _ in track(
            pool.map(_render_one, jobs, chunksize=4),
            f"Rendering {len(jobs)} phantoms",
            total=len(jobs),
            transient=True,
        ):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_with_parent() -> None:
    # A pool whose parent was killed would wait for work for ever.
    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _render_one(job: Job) -> None:
    path, kind, seed = job
    phantom = render_phantom(kind, np.random.default_rng(seed))
    with replacing(path) as temporary:
        Image.fromarray(phantom.image).save(temporary, format="PNG", compress_level=1)
    # Written last: its presence says that the image is whole.
    write_json(
        path.with_suffix(".json"),
        {"boxes": phantom.boxes.tolist(), "vessels": phantom.vessels.tolist(), "geometry": phantom.geometry},
    )


def _row(path: Path, kind: str) -> dict[str, Any]:
    notes = path.with_suffix(".json")
    try:
        boxes = json.loads(notes.read_text())["boxes"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{notes} is damaged ({error}). Remove it: the phantom is rendered again.") from None
    is_lesion = kind != "none"
    return {
        "image_id": f"phantom-{path.stem}",
        "path": path.name,
        "lesion": str(int(is_lesion)),
        "malignant": str(int(kind in MALIGNANT_TYPES)) if is_lesion else None,
        "type": kind if is_lesion else None,
        "boxes": json.dumps(boxes) if is_lesion else None,
    }


def prepared_vessels(manifest: Manifest, cases: PreparedCases) -> list[NDArray[np.float64]]:
    """Where the generator drew vessels that show, as far as the prepared images reach.

    Args:
        manifest: n phantoms.
        cases: The same, prepared.

    Returns:
        n arrays (M, 4) in prepared pixels, half-open.

    Raises:
        InputError: The files beside the images are absent or damaged; all of them are named.
    """
    found, problems = [], []
    for row, path in enumerate(manifest.table["path"]):
        notes = (manifest.root / path).with_suffix(".json")
        try:
            boxes = np.array(json.loads(notes.read_text())["vessels"], np.float64).reshape(-1, 4)
            found.append(_in_window(boxes, cases.window(row), cases.size))
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{notes}: {type(error).__name__}: {error}")
    if problems:
        remedy = "Remove these files and the images beside them: they are rendered again."
        raise InputListError("The vessels of these phantoms are not known", problems, remedy)
    return found


def _in_window(boxes: NDArray[np.float64], window: Window, size: tuple[int, int]) -> NDArray[np.float64]:
    x0, y0, x1, y1 = window
    width, height = x1 - x0, y1 - y0
    moved = np.clip(boxes - (x0, y0, x0, y0), 0, (width, height, width, height))
    kept = moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]
    return np.asarray(kept * (size[1] / width, size[0] / height, size[1] / width, size[0] / height))
