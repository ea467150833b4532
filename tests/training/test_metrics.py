"""Validation outputs come back by row, each once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from liverattn.errors import InputError
from liverattn.training.metrics import GatheredOutputs
from liverattn.training.outputs import Outputs, read_outputs


def add(gathered: GatheredOutputs, rows: list[int], kind: torch.dtype = torch.float32) -> None:
    """A batch whose numbers tell the row: logits (10 r, 10 r + 1), scores r + cell / 10."""
    row = torch.tensor(rows)
    logits = torch.stack([10 * row, 10 * row + 1], dim=1).to(kind)
    scores = row.view(-1, 1, 1, 1) + torch.arange(6).view(1, 1, 2, 3) / 10
    gathered.update(row, logits, scores)


def test_batches_are_joined_and_sorted_by_row() -> None:
    gathered = GatheredOutputs()
    add(gathered, [9, 2, 5])
    add(gathered, [1], torch.bfloat16)
    rows, logits, scores = gathered.compute()
    assert rows.tolist() == [1, 2, 5, 9]
    assert logits.tolist() == [[10, 11], [20, 21], [50, 51], [90, 91]]
    assert (logits.dtype, scores.dtype, scores.shape) == (np.float32, np.float32, (4, 2, 3))
    np.testing.assert_allclose(scores[2], [[5.0, 5.1, 5.2], [5.3, 5.4, 5.5]], rtol=1e-6)


def test_many_batches_are_kept_in_few_blocks_and_in_order() -> None:
    gathered = GatheredOutputs()
    for first in range(0, 1000, 2):
        add(gathered, [first, first + 1])
    assert max(len(state) for state in (gathered.rows, gathered.logits, gathered.scores)) <= 9  # 500 batches
    rows, logits, scores = gathered.compute()
    assert rows.tolist() == list(range(1000))
    assert logits[:, 1].tolist() == [10 * row + 1 for row in range(1000)]
    np.testing.assert_allclose(scores[:, 1, 2], np.arange(1000) + 0.5, rtol=1e-6)


def test_a_repeated_case_counts_once() -> None:
    # A sampler over several processes repeats cases until all have equally many.
    gathered = GatheredOutputs()
    add(gathered, [4, 0])
    add(gathered, [3, 4, 4])
    rows, logits, scores = gathered.compute()
    assert rows.tolist() == [0, 3, 4]
    assert logits[:, 0].tolist() == [0, 30, 40]
    assert scores[:, 0, 0].tolist() == [0, 3, 4]


def test_reset_forgets() -> None:
    gathered = GatheredOutputs()
    add(gathered, [1, 2])
    gathered.compute()
    gathered.reset()
    add(gathered, [8])
    assert gathered.compute()[0].tolist() == [8]


def test_one_case_in_a_batch_of_one_cell_keeps_its_axes() -> None:
    gathered = GatheredOutputs()
    gathered.update(torch.tensor([6]), torch.zeros(1, 7), torch.full((1, 1, 1, 1), 2.5))
    rows, logits, scores = gathered.compute()
    assert (rows.shape, logits.shape, scores.shape) == ((1,), (1, 7), (1, 1, 1))
    assert scores.item() == pytest.approx(2.5)


def test_recorded_outputs_read_back_the_same_and_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    logits, scores = random.normal(size=(3, 7)).astype(np.float32), random.normal(size=(3, 8, 11)).astype(np.float32)
    written = Outputs(np.array([2, 5, 9]), logits, scores)
    written.write(tmp_path / "epochs" / "000.safetensors")
    read = read_outputs(tmp_path / "epochs" / "000.safetensors")
    for name in ("rows", "logits", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    chosen, others = read.only(np.array([9, 2, 4])), read.only(np.array([9, 2, 4]), keep=False)
    assert chosen.rows.tolist() == [2, 9] and others.rows.tolist() == [5]
    np.testing.assert_array_equal(chosen.logits, logits[[0, 2]])
    np.testing.assert_array_equal(others.scores, scores[[1]])


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"001.safetensors cannot be read"):
        read_outputs(tmp_path / "001.safetensors")
    path = tmp_path / "001.safetensors"
    Outputs(np.array([2, 5]), np.ones((2, 7), np.float32), np.ones((2, 8, 11), np.float32)).write(path)
    whole = path.read_bytes()
    for damaged in (b"half", whole[:-100], whole[:-100] + bytes(100)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"001.safetensors cannot be read.*Remove the folder"):
            read_outputs(path)


def test_a_record_without_a_checksum_is_read(tmp_path: Path) -> None:
    arrays = {"rows": np.array([2]), "logits": np.ones((1, 7), np.float32), "scores": np.ones((1, 2, 2), np.float32)}
    save_file(arrays, tmp_path / "000.safetensors")
    assert read_outputs(tmp_path / "000.safetensors").rows.tolist() == [2]
