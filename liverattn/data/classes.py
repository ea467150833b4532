"""What the class names of an annotation tool mean for a case."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from liverattn.data.manifest import LESION_TYPES, MALIGNANT_TYPES
from liverattn.errors import InputError

IGNORED = "ignore"


@dataclass(frozen=True)
class Meaning:
    """What is known of an image or of a region; the columns of a manifest.

    Attributes:
        lesion: 0 or 1.
        malignant: 0, 1, or None: unknown, or no lesion.
        type: One of :data:`liverattn.data.manifest.LESION_TYPES`, or None.
    """

    lesion: int
    malignant: int | None = None
    type: str | None = None


MEANINGS: Mapping[str, Meaning | None] = {
    "none": Meaning(0),
    "lesion": Meaning(1),
    "benign": Meaning(1, 0),
    "malignant": Meaning(1, 1),
    **{kind: Meaning(1, int(kind in MALIGNANT_TYPES), kind) for kind in LESION_TYPES},
    IGNORED: None,  # an organ, a ruler: says nothing of lesions
}


class ClassTable:
    """Class names, whatever their case, and what they mean."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        """Check the table.

        Args:
            classes: Class name to one of :data:`MEANINGS`; names are compared without regard to case and outer blanks.

        Raises:
            InputError: A meaning does not exist.
        """
        wrong = {name: meaning for name, meaning in classes.items() if meaning not in MEANINGS}
        if wrong:
            raise InputError(f"Expected data.classes to give each name one of {', '.join(MEANINGS)}, but got {wrong}.")
        self._meanings = {_folded(str(name)): MEANINGS[meaning] for name, meaning in classes.items()}

    def knows(self, name: str) -> bool:
        """Whether the table has this name."""
        return _folded(name) in self._meanings

    def ignores(self, name: str | None) -> bool:
        """Whether what has this name says nothing of lesions, so that it need not have an area."""
        return name is not None and self.knows(name) and self[name] is None

    def among(self, told: Mapping[str, object]) -> list[str]:
        """The known names that flags or attributes say: as their value, or as their name where that is true."""
        said = [name if str(value).casefold() == "true" else str(value) for name, value in told.items()]
        return [name for name in said if self.knows(name)]

    def __getitem__(self, name: str | None) -> Meaning | None:
        """The meaning of a name; None where it is ignored. A region without a name is a lesion."""
        return MEANINGS["lesion"] if name is None else self._meanings[_folded(name)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()  # macOS writes the names of folders in another form


def judge(whole: Sequence[Meaning], regions: Sequence[Meaning]) -> Meaning:
    """What the statements about one image come to.

    The image is malignant if anything in it is, benign if it is said to be or if all of its regions are, else unknown.
    Its type is the one that is said of it, or that all of its regions share.

    Args:
        whole: Said of the image.
        regions: Said of its regions. Nothing said at all means lesion-free.

    Raises:
        ValueError: The statements contradict each other.
    """
    every = [*whole, *regions]
    if len({meaning.lesion for meaning in every}) > 1:
        raise ValueError("is called lesion-free and has a lesion at once")
    if not every or every[0].lesion == 0:
        return Meaning(0)
    return Meaning(1, _malignant(whole, regions), _type(whole, regions))


def _malignant(whole: Sequence[Meaning], regions: Sequence[Meaning]) -> int | None:
    said = {meaning.malignant for meaning in whole} - {None}
    found = {meaning.malignant for meaning in regions}
    if said == {0, 1} or (said == {0} and 1 in found) or (said == {1} and found == {0}):
        raise ValueError("is called benign and malignant at once")
    if 1 in said | found:
        return 1
    return 0 if said == {0} or found == {0} else None


def _type(whole: Sequence[Meaning], regions: Sequence[Meaning]) -> str | None:
    said = {meaning.type for meaning in whole} - {None}
    found = {meaning.type for meaning in regions}
    if len(said) > 1 or (said and not found <= said | {None}):
        raise ValueError(f"is called {' and '.join(sorted(str(kind) for kind in (said | found) - {None}))} at once")
    shared = said or (found if len(found) == 1 else set())
    return next(iter(shared), None)
