"""Names that stand for patients and images."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from liverattn.errors import InputError
from liverattn.pseudonyms import KEY_BYTES, pseudonym, secret_key


def test_a_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(secret_key, [path] * 32))
    assert keys == {path.read_bytes()} and len(path.read_bytes()) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["key"]
    assert pseudonym(secret_key(path), "anna") != pseudonym(secret_key(tmp_path / "other"), "anna")


def test_a_key_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refused)
    assert len(secret_key(tmp_path / "key")) == KEY_BYTES
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("content", [b"", b"0" * (KEY_BYTES - 1)])
def test_a_damaged_key_makes_no_plain_hashes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)  # as a killed process may have left it
    with pytest.raises(InputError, match=rf"key is damaged: it has {len(content)} of 64 bytes\. Put it back"):
        secret_key(tmp_path / "key")
