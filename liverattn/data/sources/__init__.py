"""One file per origin of cases; each source has a ``manifest()`` that returns checked cases."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from liverattn.data.manifest import Manifest
from liverattn.errors import InputError


class Source(Protocol):
    """Where cases come from."""

    def manifest(self) -> Manifest:
        """The checked cases."""
        ...


def without(manifest: Manifest, image_ids: Sequence[str]) -> Manifest:
    """Leave cases out by name (``data.exclude``).

    Raises:
        InputError: A name is not in the data, or nothing is left.
    """
    names = {str(name) for name in image_ids}
    strangers = sorted(names - set(manifest.table["image_id"]))
    if strangers:
        raise InputError(f"data.exclude names cases that are not in the data: {', '.join(strangers)}.")
    kept = manifest.table[~manifest.table["image_id"].isin(names)].reset_index(drop=True)
    if kept.empty:
        raise InputError("data.exclude leaves no case.")
    return replace(manifest, table=kept)
