"""AUL, "Annotated Ultrasound Liver images" (Xu et al. 2022, Zenodo record 7272660): 735 images with lesion outlines.

Layout: ``{Benign,Malignant,Normal}/image/N.jpg`` and ``{...}/segmentation/{liver,mass,outline}/N.json``, each JSON one
polygon as a flat list of [x, y] in image pixels. No lesion types, no patients: every image stands for itself.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from liverattn.data.annotations import Findings
from liverattn.data.exclusion import left_out_among, or_exclude
from liverattn.data.images import ImageError, image_size
from liverattn.data.manifest import Manifest, check_manifest
from liverattn.errors import InputError, InputListError

FOLDERS = {"Benign": ("1", "0"), "Malignant": ("1", "1"), "Normal": ("0", None)}  # lesion, malignant
SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, kw_only=True)
class AulSource:
    """Cases from the published layout, as unpacked (``__MACOSX`` folders are passed over).

    Attributes:
        root: Folder that holds ``Benign``, ``Malignant`` and ``Normal``; each may lie one level deeper, as some
            unpackers leave it.
    """

    root: str

    def manifest(self) -> Manifest:
        """Read all outlines.

        A lesion image whose mass polygon is absent is kept with unknown boxes and a warning.

        Raises:
            InputError: The root is not of this layout, or polygons are broken (each file is named).
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise InputError(
                f"The AUL folder {root} does not exist or cannot be read. Unpack Zenodo record 7272660 and give its "
                "folder: data.root=..., or set the variable LIVERATTN_AUL."
            )
        findings = Findings()
        rows = [row for name in FOLDERS for row in _class_rows(root, name, findings)]
        out = left_out_among(row["image_id"] for row in rows)
        broken = {name: errors for name, errors in findings.of_images.items() if name not in out}
        if broken:
            remedy = f"Unpack these files again from the archive{or_exclude(list(broken))}."
            problems = [error for errors in broken.values() for error in errors]
            raise InputListError(f"{root}: {len(problems)} unusable polygon(s)", problems, remedy)
        return check_manifest(pd.DataFrame(rows), root, str(root), findings.warnings)


def _class_folder(root: Path, name: str) -> Path:
    for folder in (root / name, root / name / name):
        if (folder / "image").is_dir():
            return folder
    raise InputError(
        f"{root} is not the AUL layout: {name}/image is missing. Expected the folders {', '.join(FOLDERS)} with "
        "image/ and segmentation/ inside; give the folder that holds them as data.root=..."
    )


def _class_rows(root: Path, name: str, findings: Findings) -> list[dict[str, Any]]:
    folder = _class_folder(root, name)
    lesion, malignant = FOLDERS[name]
    images = [p for p in (folder / "image").iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("._")]
    return [
        {
            "image_id": (image_id := f"{name.lower()}-{image.stem}"),
            "path": image.relative_to(root).as_posix(),
            "lesion": lesion,
            "malignant": malignant,
            "boxes": _box(image_id, image, folder / "segmentation" / "mass", findings) if lesion == "1" else None,
        }
        for image in sorted(images, key=lambda path: (len(path.stem), path.stem))
    ]


def _box(image_id: str, image: Path, masses: Path, findings: Findings) -> str | None:
    polygon = masses / f"{image.stem}.json"
    try:
        points = np.asarray(json.loads(polygon.read_text()), dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
            raise ValueError("expected at least three finite points [x, y]")
        (x0, y0), (x1, y1) = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
        width, height = image_size(image)
    except FileNotFoundError:
        findings.warnings.append(f"{polygon}: missing; the boxes of this case are unknown")
        return None
    except ImageError:
        return None  # the manifest's check names the image
    except (OSError, ValueError, TypeError, OverflowError) as error:
        findings.refuse(image_id, f"{polygon}: {error}")
        return None
    # Outlines drawn along the rim reach a pixel or two beyond the image.
    edges = [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]
    if edges[0] >= edges[2] or edges[1] >= edges[3]:
        findings.refuse(image_id, f"{polygon}: the outline lies outside the image of {width}x{height} pixels")
        return None
    return json.dumps([edges])
