"""One file per origin of cases; each source has a ``manifest()`` that returns checked cases."""

from typing import Protocol

from liverattn.data.manifest import Manifest


class Source(Protocol):
    """Where cases come from."""

    def manifest(self) -> Manifest:
        """The checked cases."""
        ...
