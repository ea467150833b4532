"""Batches: the same stream with any number of workers, another one in every epoch, and Eq. 1 applied in float32."""

import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from liverattn.data.augmentation import Augmentation
from liverattn.data.cache import PreparedCases
from liverattn.data.datamodule import EpochSampler, LesionDataModule, loader_errors
from liverattn.data.datasets import CaseDataset
from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.errors import InputError
from tests.data.conftest import Prepared

GRID = (4, 5)
TRAIN, HELD_OUT = np.array([0, 1, 2, 4, 5, 7, 8]), np.array([3, 6, 9])

Batches = list[dict[str, Tensor]]


@pytest.fixture
def prepared(prepare: Callable[..., Prepared]) -> Prepared:
    return prepare(10, height=32, width=46)


def module(
    prepared: Prepared,
    *,
    workers: int = 0,
    seed: int = 3,
    clip: bool = False,
    processes: int = 1,
    on_gpu: bool = False,
) -> LesionDataModule:
    shared: dict[str, Any] = {"grid": GRID, "seed": seed}
    return LesionDataModule(
        train=CaseDataset(*prepared, augmentation=Augmentation(), **shared),
        validation=CaseDataset(*prepared, **shared),
        train_rows=TRAIN,
        validation_rows=HELD_OUT,
        batch_size=2,
        num_workers=workers,
        clip=clip,
        seed=seed,
        processes=processes,
        on_gpu=on_gpu,
    )


def epoch(loader: DataLoader[Any], number: int) -> Batches:
    """The batches of one epoch, announced as Lightning does."""
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(number)
    return list(loader)


def rows(batches: Batches) -> list[int]:
    return torch.cat([batch["row"] for batch in batches]).tolist()


def test_a_case_is_image_factor_labels_and_target(prepared: Prepared) -> None:
    cases, labels = prepared
    dataset = CaseDataset(cases, labels, grid=GRID)
    lesion_free, boxed, unboxed = dataset[0, 0], dataset[1, 0], dataset[2, 0]
    assert boxed["image"].dtype == torch.uint8
    np.testing.assert_array_equal(boxed["image"][0], cases.image(1))
    assert boxed["factor"] == cases.factors[1]
    expected = mask_to_grid(boxes_to_mask(cases.boxes[1], (32, 46)), GRID)
    np.testing.assert_array_equal(boxed["target"], expected[None])
    assert expected.max() > 0.5
    assert [case["target_weight"] for case in (lesion_free, boxed, unboxed)] == [1, 1, 0]
    assert not lesion_free["target"].any()
    assert not unboxed["target"].any()
    assert boxed["row"] == 1
    reduced = CaseDataset(cases, labels, grid=GRID, reduction="any")[1, 0]["target"]
    np.testing.assert_array_equal(reduced[0], expected > 0)


def test_unknown_labels_have_no_weight(prepared: Prepared) -> None:
    dataset = CaseDataset(*prepared, grid=GRID)
    np.testing.assert_array_equal(dataset[2, 0]["labels"], [1, 0, 0])
    np.testing.assert_array_equal(dataset[2, 0]["label_weight"], [1, 0, 0])
    np.testing.assert_array_equal(dataset[5, 0]["labels"], [1, 1, 0])
    np.testing.assert_array_equal(dataset[5, 0]["label_weight"], [1, 1, 1])


def test_batches_have_the_promised_shapes_and_types(prepared: Prepared) -> None:
    batch = epoch(module(prepared).train_dataloader(), 0)[0]
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "image": ((2, 1, 32, 46), torch.uint8),
        "factor": ((2,), torch.float32),
        "labels": ((2, 3), torch.float32),
        "label_weight": ((2, 3), torch.float32),
        "target": ((2, 1, *GRID), torch.float32),
        "target_weight": ((2,), torch.float32),
        "row": ((2,), torch.int64),
    }


@pytest.fixture(scope="module")
def equal() -> Callable[[Batches, Batches], None]:
    def check(first: Batches, second: Batches) -> None:
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            for name in one:
                torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)

    return check


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # from Python 3.12 on
@pytest.mark.parametrize("on_gpu", [False, True], ids=["forked", "as for a GPU"])
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
def test_workers_change_nothing(on_gpu: bool, prepared: Prepared, equal: Callable[[Batches, Batches], None]) -> None:
    alone = module(prepared).train_dataloader()
    shared = module(prepared, workers=2, on_gpu=on_gpu).train_dataloader()
    for number in (0, 1):
        equal(epoch(alone, number), epoch(shared, number))
    assert shared.persistent_workers


def test_epochs_differ_and_a_run_repeats(prepared: Prepared, equal: Callable[[Batches, Batches], None]) -> None:
    loader = module(prepared).train_dataloader()
    epochs = [epoch(loader, number) for number in range(4)]
    again = module(prepared).train_dataloader()
    for number in (3, 0, 2, 1):  # in any order, as after a resume
        equal(epoch(again, number), epochs[number])
    assert len({tuple(rows(batches)) for batches in epochs}) > 1
    assert all(set(rows(batches)) <= set(TRAIN.tolist()) and len(set(rows(batches))) == 6 for batches in epochs)
    other = epoch(module(prepared, seed=4).train_dataloader(), 0)
    assert rows(other) != rows(epochs[0])
    images = [
        batch["image"][place].numpy().tobytes()
        for batches in epochs
        for batch in batches
        for place in range(2)
        if batch["row"][place] == epochs[0][0]["row"][0]
    ]
    assert len(images) == len(set(images)) > 1  # the same case is augmented anew in every epoch


def test_cases_of_one_batch_are_augmented_differently(prepared: Prepared) -> None:
    cases, labels = prepared
    dataset = CaseDataset(cases, labels, grid=GRID, augmentation=Augmentation(flip=0, crop=0.5))
    twin = CaseDataset(
        PreparedCases(**{**vars(cases), "keys": cases.keys[:1].repeat(10)}),
        labels,
        grid=GRID,
        augmentation=Augmentation(flip=0, crop=0.5),
    )
    assert not torch.equal(twin[0, 0]["image"], twin[3, 0]["image"])
    assert torch.equal(twin[0, 0]["image"], dataset[0, 0]["image"])


def test_the_target_follows_the_augmented_image(prepared: Prepared) -> None:
    cases, labels = prepared
    dataset = CaseDataset(cases, labels, grid=(32, 46), augmentation=Augmentation())
    for number in range(20):
        case = dataset[1, number]
        bright, covered = case["image"][0].numpy() > 160, case["target"][0].numpy() > 0.5
        assert (bright & covered).sum() / (bright | covered).sum() > 0.8
    assert not torch.equal(dataset[1, 0]["target"], dataset[1, 1]["target"])


def test_validation_comes_in_order_and_as_it_is(prepared: Prepared) -> None:
    loader = module(prepared).val_dataloader()
    first, second = epoch(loader, 0), epoch(loader, 1)
    assert rows(first) == rows(second) == HELD_OUT.tolist()
    for batches in (first, second):
        images = torch.cat([batch["image"] for batch in batches])
        for place, row in enumerate(HELD_OUT):
            np.testing.assert_array_equal(images[place, 0], prepared[0].image(row))


def test_the_factor_is_exact_and_nothing_is_clipped(prepared: Prepared) -> None:
    batch = {
        "image": torch.tensor([0, 1, 100, 255], dtype=torch.uint8).view(1, 1, 2, 2).repeat(2, 1, 1, 1),
        "factor": torch.tensor([2.5, 1 / 3]),
        "row": torch.tensor([4, 7]),
    }
    scaled = module(prepared).on_after_batch_transfer(batch, 0)
    assert scaled["image"].dtype == torch.float32
    third = torch.tensor(1 / 3)
    torch.testing.assert_close(scaled["image"][0].flatten(), torch.tensor([0, 2.5, 250, 637.5]), rtol=0, atol=0)
    torch.testing.assert_close(
        scaled["image"][1].flatten(), torch.tensor([0.0, 1.0, 100.0, 255.0]) * third, rtol=0, atol=0
    )
    assert scaled["row"] is batch["row"]
    assert batch["image"].dtype == torch.uint8
    clipped = module(prepared, clip=True).on_after_batch_transfer(batch, 0)["image"]
    assert clipped[0].flatten().tolist() == [0, 2.5, 250, 255]


def test_a_resumed_run_begins_with_the_saved_epoch(
    prepared: Prepared, equal: Callable[[Batches, Batches], None]
) -> None:
    expected = epoch(module(prepared).train_dataloader(), 5)
    resumed = module(prepared)
    resumed.load_state_dict({"next_epoch": 5})
    batches = list(resumed.train_dataloader())  # its first iterator is made before the epoch is announced
    equal(batches, expected)
    assert [b["row"].tolist() for b in batches] != [b["row"].tolist() for b in module(prepared).train_dataloader()]


def test_sampler_order_depends_on_seed_and_epoch() -> None:
    numbers = np.arange(100, 150)
    sampler = EpochSampler(numbers, seed=1, shuffle=True)
    orders = []
    for number in (0, 1, 0):
        sampler.set_epoch(number)
        keys = list(sampler)
        assert {epoch for _, epoch in keys} == {number}
        assert sorted(row for row, _ in keys) == numbers.tolist()
        orders.append([row for row, _ in keys])
    assert orders[0] == orders[2] != orders[1]
    assert [row for row, _ in EpochSampler(numbers, seed=2, shuffle=True)] != orders[0]
    assert list(EpochSampler(numbers[:2], seed=1, shuffle=False, epoch=7)) == [(100, 7), (101, 7)]
    assert len(sampler) == 50


def test_a_balanced_sampler_draws_every_kind_equally_often() -> None:
    rows, kinds = np.arange(100, 160), np.repeat([0, 2, 3], [45, 12, 3])
    sampler = EpochSampler(rows, seed=1, shuffle=True, kinds=kinds)
    drawn = []
    for number in range(200):
        sampler.set_epoch(number)
        drawn.append([row - 100 for row, _ in sampler])
        assert len(drawn[-1]) == 60
    counts = np.bincount(np.ravel(drawn), minlength=60)
    for kind in (0, 2, 3):
        ours = counts[kinds == kind]
        assert ours.sum() == pytest.approx(200 * 20, abs=4 * np.sqrt(200 * 60 / 3 * 2 / 3))
        assert np.abs(ours - ours.mean()).max() < 4 * np.sqrt(ours.mean())
    sampler.set_epoch(7)
    assert [row - 100 for row, _ in sampler] == drawn[7] != drawn[8]
    parts = [
        list(EpochSampler(rows, seed=1, shuffle=True, kinds=kinds, epoch=7, rank=rank, processes=2)) for rank in (0, 1)
    ]
    assert [row - 100 for pair in zip(*parts, strict=True) for row, _ in pair] == drawn[7]
    few = np.repeat([0, 1, 2, -1], [30, 20, 9, 1])  # one image of no kind does not come as often as a kind
    of_few = EpochSampler(rows, seed=1, shuffle=True, kinds=few).probabilities
    assert of_few is not None
    shares = [of_few[few == kind].sum() for kind in (0, 1, 2, -1)]
    assert shares == pytest.approx([59 / 180, 59 / 180, 59 / 180, 1 / 60])
    one_kind = EpochSampler(rows, seed=1, shuffle=True, kinds=np.zeros(60, np.int64))
    assert len(list(one_kind)) == 60


def test_only_training_is_balanced(prepared: Prepared) -> None:
    data = module(prepared)
    data.kinds = (np.arange(10) == TRAIN[0]).astype(np.int64)
    rows = [
        row for number in range(10) for batch in epoch(data.train_dataloader(), number) for row in batch["row"].tolist()
    ]
    assert 20 < rows.count(TRAIN[0]) < 40  # half of 60; one in seven unbalanced
    held_out = [row for batch in epoch(data.val_dataloader(), 0) for row in batch["row"].tolist()]
    assert held_out == HELD_OUT.tolist()


def shares(count: int, processes: int, *, shuffle: bool, epoch: int = 0) -> list[list[int]]:
    """Rows 100, 101, ... of every process in one epoch."""
    common: dict[str, Any] = {"seed": 1, "shuffle": shuffle, "epoch": epoch, "processes": processes}
    samplers = [EpochSampler(np.arange(100, 100 + count), rank=rank, **common) for rank in range(processes)]
    assert {len(list(sampler)) for sampler in samplers} == {len(samplers[0])}
    assert {number for sampler in samplers for _, number in sampler} <= {epoch}
    return [[row for row, _ in sampler] for sampler in samplers]


def test_processes_share_the_rows_by_hand() -> None:
    assert shares(5, 2, shuffle=False) == [[100, 102, 104], [101, 103, 100]]  # 100 comes twice
    assert shares(4, 3, shuffle=False) == [[100, 103], [101, 100], [102, 101]]
    assert shares(1, 3, shuffle=False) == [[100], [100], [100]]
    assert shares(4, 2, shuffle=False) == [[100, 102], [101, 103]]
    order = shares(5, 1, shuffle=True)[0]
    assert shares(5, 2, shuffle=True) == [[order[0], order[2]], [order[1], order[3]]]  # order[4] is left out


@given(count=st.integers(1, 60), processes=st.integers(1, 7), size=st.integers(1, 9), epoch=st.integers(0, 5))
def test_a_step_of_all_processes_is_a_step_of_one_with_larger_batches(
    count: int, processes: int, size: int, epoch: int
) -> None:
    (alone,), parts = shares(count, 1, shuffle=True, epoch=epoch), shares(count, processes, shuffle=True, epoch=epoch)
    for start in range(0, len(parts[0]) - size + 1, size):
        together = {row for part in parts for row in part[start : start + size]}
        assert together == set(alone[start * processes : (start + size) * processes])
    trained = [row for part in parts for row in part]
    assert len(trained) == len(set(trained)) == count - count % processes
    validated = [row for part in shares(count, processes, shuffle=False, epoch=epoch) for row in part]
    assert set(validated) == set(range(100, 100 + count))
    assert len(validated) - count == -count % processes


def test_a_case_is_the_same_in_any_number_of_processes(prepared: Prepared) -> None:
    def of_rank(rank: int) -> LesionDataModule:
        data = module(prepared, processes=2)
        data.trainer = SimpleNamespace(global_rank=rank)  # type: ignore[assignment]
        return data

    for number in (0, 3):
        (one, *_), (other, *_) = (epoch(of_rank(rank).train_dataloader(), number) for rank in (0, 1))
        alone = {
            row: batch["image"][place]
            for batch in epoch(module(prepared).train_dataloader(), number)
            for place, row in enumerate(batch["row"].tolist())
        }
        assert not set(rows([one])) & set(rows([other]))
        for batch in (one, other):
            for place, row in enumerate(batch["row"].tolist()):
                assert torch.equal(batch["image"][place], alone[row])
    assert [rows(epoch(of_rank(rank).val_dataloader(), 0)) for rank in (0, 1)] == [[3, 9], [6, 3]]


def test_too_few_cases_for_the_processes_are_refused(prepared: Prepared) -> None:
    assert len(epoch(module(prepared, processes=3).train_dataloader(), 0)) == 1  # of 7 cases
    with pytest.raises(InputError, match=r"trainer.devices=4 needs at least 8 training cases.* but there are 7\."):
        module(prepared, processes=4)


def test_small_training_sets_keep_their_last_batch(prepared: Prepared) -> None:
    data = module(prepared)
    assert [len(batch["row"]) for batch in epoch(data.train_dataloader(), 0)] == [2, 2, 2]  # of 7
    data.rows["train"] = TRAIN[:1]
    assert [len(batch["row"]) for batch in epoch(data.train_dataloader(), 0)] == [1]


def test_workers_are_chosen_for_the_machine(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def automatic(*, on_gpu: bool = True, processes: int = 1, resident: bool = False) -> LesionDataModule:
        dataset = CaseDataset(*prepared, grid=GRID)
        return LesionDataModule(
            train=dataset,
            validation=dataset,
            train_rows=TRAIN,
            validation_rows=HELD_OUT,
            batch_size=2,
            num_workers=None,
            clip=False,
            seed=0,
            on_gpu=on_gpu,
            resident=resident,
            processes=processes,
        )

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert automatic(on_gpu=False).num_workers == 0
    assert automatic().num_workers == 8
    assert automatic(resident=True).num_workers == 0
    monkeypatch.setattr("os.cpu_count", lambda: 9)
    assert automatic(processes=3).num_workers == 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)  # what joblib leaves to one of several cells
    assert automatic().num_workers == 4


class Failing(Dataset[int]):
    """Meets an error, or its end, in the process that reads it."""

    def __init__(self, error: Exception | signal.Signals) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        if isinstance(self.error, signal.Signals):
            os.kill(os.getpid(), self.error)
        else:
            raise self.error
        return index


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InputError("The file a.png is gone: restore it."), InputError, r"^The file a\.png is gone: restore it\.$"),
        (signal.SIGKILL, InputError, r"^A loader process is gone; was the memory full.*num_workers=0 needs no such"),
        (signal.SIGTERM, KeyboardInterrupt, "^$"),
        (RuntimeError("our own mistake"), RuntimeError, r"Traceback[^$]*our own mistake"),
    ],
)
def test_an_error_of_a_loader_process_is_one_line(error: Any, kind: type[BaseException], message: str) -> None:
    loader = DataLoader(Failing(error), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(kind, match=message) as caught, loader_errors():
        list(loader)
    assert type(caught.value) is kind


def test_an_error_of_this_process_stays_as_it_is() -> None:
    for error in (InputError("The file a.png is gone: restore it."), RuntimeError("our own mistake")):
        with pytest.raises(type(error)) as caught, loader_errors():
            raise error
        assert caught.value is error
