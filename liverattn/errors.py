"""The one exception for mistakes a user can mend."""

import math
from collections.abc import Sequence

MOST_LISTED = 50


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


def expect_whole(option: str, value: object, least: int, most: float = math.inf, *, null: bool = False) -> None:
    """Refuse what is not a whole number of ``least`` to ``most`` (or null, where this means something)."""
    if null and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        kind = "null or a whole number" if null else "a whole number"
        allowed = f"of at least {least}" if most == math.inf else f"of {least} to {most}"
        raise InputError(f"Expected {option} to be {kind} {allowed}, but got {value}.")


def expect_number(option: str, value: object, least: float, most: float = math.inf) -> None:
    """Refuse what is not a finite number of ``least`` to ``most``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or value == math.inf:  # type: ignore[operator]
        allowed = f"of at least {least:g}" if most == math.inf else f"of {least:g} to {most:g}"
        raise InputError(f"Expected {option} to be a number {allowed}, but got {value}.")


def expect_share(option: str, value: object) -> None:
    """Refuse what is not a number between 0 and 1, both excluded."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"Expected {option} to be a number between 0 and 1, but got {value}.")


def expect_boolean(option: str, value: object) -> None:
    """Refuse what is not a boolean: ``no`` is a text, and texts are true."""
    if not isinstance(value, bool):
        raise InputError(f"Expected {option} to be true or false, but got {value}.")
