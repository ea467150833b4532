"""Files of an unfinished run that a machine which lost its power damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from liverattn.training.beginning import _is_whole_archive


def test_any_injury_of_a_checkpoint_is_noticed_or_harmless(tmp_path: Path) -> None:
    path, rng = tmp_path / "last.ckpt", np.random.default_rng(0)
    torch.save({"state_dict": {name: torch.zeros(8) for name in "abcd"}}, path)
    whole = path.read_bytes()
    assert _is_whole_archive(path)
    directory = whole.index(b"PK\1\2")
    found = []
    for place in rng.integers(directory, len(whole) - 8, 200):
        path.write_bytes(whole[:place] + rng.bytes(8) + whole[place + 8 :])
        found.append(_is_whole_archive(path))
    assert not all(found)


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        _is_whole_archive(tmp_path)
