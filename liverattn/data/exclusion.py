"""Cases that are left out by name (``data.exclude``), before anything but their name is looked at."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from liverattn.commands import option
from liverattn.errors import InputError

MOST_WRITTEN = 8  # names in a proposed option

# A context, not an argument: sources differ in all but that every one of them ends in check_manifest.
_NAMES: ContextVar[Sequence[Any] | None] = ContextVar("names", default=None)


@contextmanager
def leaving_out(names: Sequence[Any]) -> Iterator[None]:
    """Have the sources that are read within leave these cases out."""
    token = _NAMES.set(names)
    try:
        yield
    finally:
        _NAMES.reset(token)


def left_out(image_ids: Sequence[str | None]) -> frozenset[str]:
    """Which of these are left out.

    Raises:
        InputError: A name is not among them, or may be any of several, or nothing is left.
    """
    known = {image_id for image_id in image_ids if image_id is not None}
    names = frozenset(_meant(name, known) for name in _NAMES.get() or ())
    strangers = sorted(names - known)
    if strangers:
        raise InputError(
            f"data.exclude names cases that are not in the data: {', '.join(strangers)}. Correct the names; in quotes "
            f"they are read as they are written: {exclude_option(strangers)}"
        )
    if names and names == known:
        raise InputError("data.exclude leaves no case.")
    return names


def left_out_among(candidates: Iterable[str]) -> frozenset[str]:
    """Which of these are left out; other names may be those of cases that are not known yet."""
    known = set(candidates)
    return frozenset(_meant(name, known) for name in _NAMES.get() or ()) & known


def or_exclude(names: Sequence[str]) -> str:
    """The rest of a remedy: how to leave these cases out; empty where that cannot be asked for."""
    return "" if _NAMES.get() is None or not names else f", or leave the cases out too: {exclude_option(names)}"


def exclude_option(names: Sequence[str]) -> str:
    """The option that leaves cases out, quoted for the shell and for Hydra (which would read 1_2 as 12)."""
    return option("data.exclude", [*names[:MOST_WRITTEN], *(["..."] if len(names) > MOST_WRITTEN else [])])


def _meant(name: Any, known: set[str]) -> str:
    """The name as it was written, as far as that can be known of what was read as a number."""
    if isinstance(name, str):
        return name
    alike = sorted({image_id for image_id in known if _value(image_id) == name} | ({str(name)} & known))
    if alike and alike != [str(name)]:
        raise InputError(
            f"data.exclude holds {name!r}, which may mean {' or '.join(map(repr, alike))}: without quotes a name is "
            f"read as a number or word where it can be. Write {' or '.join(exclude_option([one]) for one in alike)}"
        )
    return str(name)


def _value(text: str) -> Any:
    """What a name without quotes is read as."""
    words = {"true": True, "false": False, "null": None}
    if text.casefold() in words:
        return words[text.casefold()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
