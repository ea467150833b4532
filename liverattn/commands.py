"""Commands that are printed for a person to run: what is in them survives the shell, make and Hydra."""

import re
import shlex
from pathlib import Path

# A word that Hydra reads as itself: no number, and nothing that its grammar knows.
PLAIN = re.compile(r"(?!(?:true|false|null|inf|nan)$)(?:\.{0,2}/|[a-z_])[\w./-]*", re.ASCII | re.IGNORECASE)


def option(name: str, value: object) -> str:
    """``name=value`` as it is typed, in quotes for Hydra and for the shell where they are needed.

    Args:
        name: Of the option.
        value: A text or a path, or a list of texts.
    """
    if isinstance(value, list):
        written = f"[{','.join(map(_quoted, value))}]"
    else:
        written = str(value) if PLAIN.fullmatch(str(value)) else _quoted(str(value))
    return shlex.quote(f"{name}={written}")


def make(target: str, outputs: Path | str, args: str = "") -> str:
    """A target of the Makefile for these outputs, with options that need no quotes."""
    words = [f"make {target}", *([f"ARGS={args}"] if args else [])]
    if str(outputs) != "outputs":
        words.append(shlex.quote("OUTPUTS=" + str(outputs).replace("$", "$$")))
    return " ".join(words)


def _quoted(text: str) -> str:
    # Backslashes are themselves but before a quote, the closing one included.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', f'{text}"')
    return f'"{escaped[:-2]}"'
