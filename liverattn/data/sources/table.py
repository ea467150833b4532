"""The user's own table: ``data=manifest data.manifest=cases.csv``."""

from dataclasses import dataclass
from pathlib import Path

from liverattn.data.manifest import Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Cases from a manifest file.

    Attributes:
        path: CSV as :mod:`liverattn.data.manifest` describes; image paths are relative to its folder.
    """

    path: str

    def manifest(self) -> Manifest:
        """Read and check the table."""
        return read_manifest(Path(self.path).expanduser())
