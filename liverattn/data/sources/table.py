"""The user's own table: ``data=manifest data.manifest=cases.csv``."""

from dataclasses import dataclass
from pathlib import Path

from liverattn.data.manifest import Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Cases from a manifest file.

    Attributes:
        path: A table as :mod:`liverattn.data.manifest` describes.
        root: Folder that its image paths are relative to; None: the table's.
    """

    path: str
    root: str | None = None

    def manifest(self) -> Manifest:
        """Read and check the table."""
        return read_manifest(Path(self.path).expanduser(), None if self.root is None else Path(self.root).expanduser())
