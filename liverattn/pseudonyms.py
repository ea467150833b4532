"""Names that stand for patients and images where their own must not be told."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from liverattn.errors import InputError
from liverattn.files import temporary_beside

DIGITS = 12
KEY_BYTES = 64


def secret_key(path: Path) -> bytes:
    """The key of pseudonyms, made where there is none yet; only its owner may read it.

    A plain hash of a hospital's number could be found by trying all numbers. Of several processes that make the key at
    once all get the same, and one that is killed meanwhile leaves none.

    Raises:
        InputError: It is damaged: with an empty one the pseudonyms would be plain hashes.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = temporary_beside(path)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_hex(KEY_BYTES // 2))
        try:
            with suppress(FileExistsError):
                path.hardlink_to(new)
        except OSError:  # a file system without links
            new.replace(path)
        new.unlink(missing_ok=True)
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise InputError(
            f"The key {path} is damaged: it has {len(key)} of {KEY_BYTES} bytes. Put it back, or remove it: then the "
            "same patients and images get other names from now on."
        )
    return key


def pseudonym(key: bytes, identifier: object) -> str:
    """The same for the same identifier and key, and nothing to anybody who lacks the key."""
    return hmac.new(key, str(identifier).encode(), hashlib.sha256).hexdigest()[:DIGITS]


def pseudonyms(key: bytes, identifiers: Iterable[Any]) -> list[str]:
    """:func:`pseudonym` of each."""
    return [pseudonym(key, identifier) for identifier in identifiers]
