"""The one exception for mistakes a user can mend, and checks of options that raise it."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeGuard, TypeVar

MOST_LISTED = 50
INTERRUPTED = "Interrupted. The same command goes on from here."
T = TypeVar("T")


class InputError(ValueError):
    """Something the user gave (a file, a table, an option, the machine's disk) cannot be used.

    The message names the value, the file or case, and the remedy. The commands print it without a stack trace and exit
    with status 1; with ``HYDRA_FULL_ERROR=1`` the trace is shown.
    """


class UnlabeledError(InputError):
    """Images are at hand, but nobody has said yet what they show; the message says how to go on."""


class InputListError(InputError):
    """Several such problems at once, so that a person mends them all in one go.

    The message has a heading, one line per problem (the first 50) and a remedy.

    Attributes:
        heading: First line, without the closing colon.
        problems: One line per problem, all of them.
        remedy: Last line; left out when empty.
    """

    def __init__(self, heading: str, problems: Sequence[str], remedy: str = "") -> None:
        self.heading, self.problems, self.remedy = heading, tuple(problems), remedy
        shown = [f"  - {problem}" for problem in self.problems[:MOST_LISTED]]
        if len(self.problems) > MOST_LISTED:
            shown.append(f"  ... and {len(self.problems) - MOST_LISTED} more")
        super().__init__("\n".join([f"{heading}:", *shown, *([remedy] if remedy else [])]))

    def __reduce__(self) -> tuple[type["InputListError"], tuple[str, tuple[str, ...], str]]:
        # Exceptions travel between processes by their message alone otherwise.
        return type(self), (self.heading, self.problems, self.remedy)


def told_together(calls: Iterable[Callable[[], T]]) -> list[T]:
    """What all calls return, in order.

    Raises:
        InputError: Some are refused; what each of them says, line by line.
    """
    found, problems = [], []
    for call in calls:
        try:
            found.append(call())
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return found


def written(value: object) -> str:
    """A value as an option has it, such as null."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value) or "''"


def expect_choice(option: str, value: object, choices: Sequence[object]) -> None:
    """Refuse what is none of two or more choices."""
    if value not in choices:
        *most, last = map(written, choices)
        raise InputError(f"Expected {option} to be {', '.join(most)} or {last}, but got {written(value)}.")


def expect_boolean(option: str, value: object) -> None:
    """Refuse what is not a boolean: ``no`` is a text, and texts are true."""
    if not isinstance(value, bool):
        raise InputError(f"Expected {option} to be true or false, but got {written(value)}.")


def expect_whole(option: str, value: object, least: int, most: float = math.inf, *, null: bool = False) -> None:
    """Refuse what is not a whole number of ``least`` to ``most`` (or null, where this means something)."""
    if null and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        kind = "null or a whole number" if null else "a whole number"
        raise InputError(f"Expected {option} to be {kind} {_range(least, most)}, but got {written(value)}.")


def expect_number(option: str, value: object, least: float, most: float = math.inf) -> None:
    """Refuse what is not a finite number of ``least`` to ``most``."""
    if not _is_number(value) or not least <= value <= most or value == math.inf:
        raise InputError(f"Expected {option} to be a number {_range(least, most)}, but got {written(value)}.")


def expect_share(option: str, value: object) -> None:
    """Refuse what is not a number between 0 and 1, both excluded."""
    if not _is_number(value) or not 0 < value < 1:
        raise InputError(f"Expected {option} to be a number between 0 and 1, but got {written(value)}.")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(least: float, most: float) -> str:
    return f"of at least {least:g}" if most == math.inf else f"of {least:.10g} to {most:.10g}"
