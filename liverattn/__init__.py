"""liverattn: supervised attention for focal liver lesions in ultrasound (Schmauch et al. 2019). Research use only."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from liverattn.prediction.predictor import Predictor

__version__ = "0.1.0"


def load(path: str | Path, **options: Any) -> "Predictor":
    """Load a bundle: ``liverattn.load("bundle").predict("folder of images")``.

    Args:
        path: Folder or zip.
        options: Of :class:`~liverattn.prediction.predictor.Predictor`, such as ``device`` and ``precision``.

    Raises:
        liverattn.errors.InputError: The bundle is absent, incomplete or changed.
    """
    from liverattn.bundle.bundle import Bundle
    from liverattn.prediction.predictor import Predictor

    return Predictor(Bundle(Path(path).expanduser()), **options)
