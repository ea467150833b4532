"""The one exception for mistakes a user can mend."""

from collections.abc import Sequence

MOST_LISTED = 50


class InputError(ValueError):
    """Something the user gave (a file, a table, an option, the machine's disk) cannot be used.

    The message names the value, the file or case, and the remedy. The commands print it without a stack trace and exit
    with status 1; with ``HYDRA_FULL_ERROR=1`` the trace is shown.
    """


def listing(heading: str, problems: Sequence[str], remedy: str = "") -> str:
    """One message for several problems: heading, one line each (the first 50), remedy.

    Args:
        heading: First line, without the closing colon.
        problems: One line per problem.
        remedy: Last line; left out when empty.
    """
    shown = [f"  - {problem}" for problem in problems[:MOST_LISTED]]
    if len(problems) > MOST_LISTED:
        shown.append(f"  ... and {len(problems) - MOST_LISTED} more")
    return "\n".join([f"{heading}:", *shown, *([remedy] if remedy else [])])
