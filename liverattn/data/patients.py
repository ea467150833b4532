"""Names of patients: what could have one patient on both sides of a split."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

FEW = 5  # shown in a warning


def spelled(patient: str | None) -> str | None:
    """A name in one spelling where a letter with a mark has two (macOS writes names of files in the other)."""
    return None if patient is None else unicodedata.normalize("NFC", patient)


def patient_warnings(images: Sequence[str | None], patients: Sequence[str | None]) -> Iterator[str]:
    """What is doubtful in the names of patients as they were given; images stand for them, since they are no secret.

    Args:
        images: Their image_ids.
        patients: Of each image; None: blank, so that it counts as a patient of its own.
    """
    blank = [str(image) for image, patient in zip(images, patients, strict=True) if patient is None]
    if 0 < len(blank) < len(images):
        yield (
            f"{len(blank)} image(s) of {len(images)} have no patient_id, and each counts as a patient of its own: fill "
            f"it in where images may be of one person ({_some(blank)})"
        )
    first: dict[str, str] = {}
    for image, patient in zip(images, patients, strict=True):
        if patient is not None:
            first.setdefault(patient, str(image))
    alike: dict[str, list[str]] = {}
    for patient, image in first.items():
        alike.setdefault(_folded(patient), []).append(image)
    doubtful = [" and ".join(found) for found in alike.values() if len(found) > 1]
    if doubtful:
        yield (
            f"{len(doubtful)} patient_id(s) are spelled in several ways (case, blanks, leading zeros), and each counts "
            f"as another patient (images {_some(doubtful)})"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:FEW], *(["..."] if len(names) > FEW else [])])


def _folded(patient: str) -> str:
    """Without regard to case, blanks, leading zeros, and the .0 of numbers that were fractions in between."""
    text = "".join(unicodedata.normalize("NFKC", patient).casefold().split())
    return re.sub(r"0*(\d+)", r"\1", text.removesuffix(".0"))
