"""Which epoch is kept for which task."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins.io import AsyncCheckpointIO

from liverattn.errors import InputError
from liverattn.evaluation.scores import PAPER_TASKS, Task
from liverattn.runs import RunFolder
from liverattn.training.checkpoints import LastCheckpoint, TaskCopies, WholeFiles
from liverattn.training.copies import read_copy
from liverattn.training.module import LesionModule
from liverattn.training.outputs import Outputs, read_outputs

TASKS = (Task("lesion", ("lesion",), 0.5, False), Task("malignancy", ("malignancy",), 0.3, True))
# Rows 0 to 3 show lesions, two of them malignant.
TRUTH = np.array([[1, 0], [1, 1], [1, 0], [1, 1], [0, 0], [0, 0]], dtype=np.float32)


class Module(LesionModule):
    """Gives prepared outputs instead of running a network."""

    def __init__(self, logits: np.ndarray) -> None:
        torch.nn.Module.__init__(self)
        self.logits = logits
        self.model = torch.nn.Linear(1, 1)  # type: ignore[assignment]
        self.logged: dict[str, Any] = {}

    def train(self, mode: bool = True) -> "Module":
        return self

    def take_outputs(self) -> Outputs:
        rows = np.arange(len(self.logits))
        return Outputs(rows, self.logits.astype(np.float32), np.zeros((len(rows), 2, 3), np.float32))

    def log_dict(self, values: Any, *_: Any, **__: Any) -> None:
        self.logged = dict(values)


def validate(
    copies: TaskCopies, epoch: int, lesion: list[float], malignancy: list[float], *, written: bool = True
) -> Module:
    module = Module(np.array([lesion, malignancy]).T)
    strategy = SimpleNamespace(checkpoint_io=WholeFiles())
    trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=epoch, strategy=strategy)
    copies.on_validation_epoch_end(trainer, module)
    if written:
        copies.write(trainer)
    return module


EVERYBODY = np.zeros(0, np.int64)
GOOD, POOR, TIE = [3.0, 3, 3, 3, 0, 0], [0.0, 0, 0, 3, 3, 3], [9.0, 9, 9, 9, 1, 1]
RIGHT, WRONG = [0.0, 1, 0, 1, 0, 0], [1.0, 0, 1, 0, 0, 0]


def test_each_task_keeps_its_own_last_best_epoch(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    copies = TaskCopies(run, TASKS, TRUTH, {"name": "x"}, EVERYBODY)
    validate(copies, 0, POOR, RIGHT)
    validate(copies, 1, GOOD, WRONG)
    module = validate(copies, 2, TIE, WRONG)
    lesion, malignancy = read_copy(run.copy("lesion")), read_copy(run.copy("malignancy"))
    assert (lesion.epoch, lesion.auc) == (2, 1.0)
    assert (malignancy.epoch, malignancy.auc) == (0, 1.0)
    assert lesion.config == {"name": "x"}
    np.testing.assert_array_equal(read_outputs(run.epoch(1)).logits[:, 0], GOOD)
    assert module.logged == {"val/auc_lesion": 1.0, "val/auc_malignancy": 0.0, "val/score": pytest.approx(0.625)}


def test_copies_that_are_written_later_are_those_of_their_epochs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    copies = TaskCopies(run, TASKS, TRUTH, {}, EVERYBODY)
    weights = []
    for epoch, (lesion, malignancy) in enumerate([(GOOD, RIGHT), (POOR, RIGHT), (POOR, WRONG)]):
        module = validate(copies, epoch, lesion, malignancy, written=epoch == 2)
        assert run.copy("lesion").exists() == (epoch == 2)
        weights.append(module.model.weight.detach().clone())
        module.model.weight.data.zero_()  # as training goes on
    lesion, malignancy = read_copy(run.copy("lesion")), read_copy(run.copy("malignancy"))
    assert (lesion.epoch, malignancy.epoch) == (0, 1)
    torch.testing.assert_close(lesion.weights["weight"], weights[0], rtol=0, atol=0)
    torch.testing.assert_close(malignancy.weights["weight"], weights[1], rtol=0, atol=0)


class Paced:
    """A training of epochs of given length, whose files take given times to write (seconds)."""

    def __init__(self, run: RunFolder, monkeypatch: pytest.MonkeyPatch, *, epochs: int) -> None:
        self.now, self.files, self.saved = 0.0, WholeFiles(), list[int]()
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        strategy = SimpleNamespace(checkpoint_io=AsyncCheckpointIO(self.files), broadcast=lambda value: value)
        self.trainer: Any = SimpleNamespace(
            strategy=strategy, max_epochs=epochs, should_stop=False, save_checkpoint=self.save
        )
        self.last = LastCheckpoint(run, TaskCopies(run, TASKS, TRUTH, {}, EVERYBODY))

    def save(self, path: Path, weights_only: bool) -> None:
        self.saved.append(self.trainer.current_epoch)

    def train(self, *, epoch_takes: float, writing_takes: float) -> list[int]:
        """Epochs after which something is saved; a file is there after one more epoch, unless it never is (inf)."""
        module: Any = None
        self.last.on_train_start(self.trainer, module)
        for epoch in range(self.trainer.max_epochs):
            self.trainer.current_epoch = epoch
            self.now += epoch_takes
            if writing_takes < np.inf:
                self.files.seconds += (len(self.saved) - self.files.written) * writing_takes
                self.files.written = len(self.saved)
            self.last.on_train_epoch_end(self.trainer, module)
        return self.saved


@pytest.mark.parametrize(
    ("writing_takes", "saved"), [(0, [0, 1, 2, 3, 4, 5]), (1, [0, 1, 2, 3, 4, 5]), (25, [0, 5]), (np.inf, [0, 5])]
)
def test_writing_takes_a_tenth_of_the_time_at_most(
    writing_takes: float, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced = Paced(RunFolder(tmp_path), monkeypatch, epochs=6)
    assert paced.train(epoch_takes=10, writing_takes=writing_takes) == saved


def test_a_full_disk_is_noticed_after_the_next_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paced = Paced(RunFolder(tmp_path), monkeypatch, epochs=3)
    with pytest.raises(OSError, match="no space"):
        monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        paced.files.save_checkpoint({}, tmp_path / "lesion.ckpt")
    paced.files.save_checkpoint({}, tmp_path / "last.ckpt")
    paced.last.handed_over = 2
    paced.now += 10
    assert paced.last._may_write(paced.trainer)  # so that Lightning raises what went wrong
    assert not list(tmp_path.glob("*.ckpt"))


def test_many_short_epochs_are_saved_every_tenth_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Paced(RunFolder(tmp_path), monkeypatch, epochs=42).train(epoch_takes=1, writing_takes=1)
    assert saved == [0, 9, 19, 29, 39, 41]


def test_what_is_best_for_two_tasks_is_one_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    copies = TaskCopies(run, TASKS, TRUTH, {}, EVERYBODY)
    validate(copies, 0, POOR, RIGHT)
    assert run.copy("lesion").samefile(run.copy("malignancy"))
    validate(copies, 1, GOOD, WRONG)
    assert (read_copy(run.copy("lesion")).epoch, read_copy(run.copy("malignancy")).epoch) == (1, 0)


def test_a_file_system_without_links_holds_it_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run = RunFolder(tmp_path)
    validate(TaskCopies(run, TASKS, TRUTH, {}, EVERYBODY), 0, POOR, RIGHT)
    assert read_copy(run.copy("malignancy")).auc == 1.0


def test_nothing_is_written_after_a_failure(tmp_path: Path) -> None:
    files = WholeFiles()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file is where a folder is needed"):
        files.save_checkpoint({}, tmp_path / "file" / "lesion.ckpt")
    files.save_checkpoint({}, tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_undefined_auc_is_never_selected_nor_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path)
    copies = TaskCopies(run, TASKS, np.where([False, True], np.nan, TRUTH), {}, EVERYBODY)
    for epoch in range(2):
        module = validate(copies, epoch, GOOD, RIGHT)
    assert not run.copy("malignancy").exists()
    assert set(module.logged) == {"val/auc_lesion", "val/score"}
    assert capsys.readouterr().out.count("The AUC of malignancy is undefined") == 1


def test_an_inner_split_alone_selects_but_all_cases_are_recorded(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    copies = TaskCopies(run, TASKS, TRUTH, {}, np.array([2, 3, 5]))
    validate(copies, 0, [0.0, 0, 3, 3, 3, 1], RIGHT)  # perfect on the three that select
    validate(copies, 1, [3.0, 3, 3, 0, 0, 1], RIGHT)  # better on the others
    assert [entry["lesion"] for entry in copies.history] == [1.0, 0.5]
    assert read_copy(run.copy("lesion")).epoch == 0
    assert read_outputs(run.epoch(1)).rows.tolist() == list(range(6))


def test_a_resumed_run_goes_on_from_the_best_so_far(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    first = TaskCopies(run, TASKS, TRUTH, {}, EVERYBODY)
    validate(first, 0, GOOD, RIGHT)
    second = TaskCopies(run, TASKS, TRUTH, {}, EVERYBODY)
    second.load_state_dict(torch.load(_saved(first.state_dict(), tmp_path), weights_only=True))
    validate(second, 1, POOR, WRONG)
    assert read_copy(run.copy("lesion")).epoch == 0
    assert [entry["lesion"] for entry in second.history] == [1.0, 0.125]


def _saved(state: dict[str, Any], folder: Path) -> Path:
    torch.save(state, folder / "state.pt")
    return folder / "state.pt"


def test_unreadable_copies_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lesion.ckpt does not exist"):
        read_copy(tmp_path / "lesion.ckpt")
    (tmp_path / "lesion.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"lesion.ckpt is not a readable task checkpoint"):
        read_copy(tmp_path / "lesion.ckpt")


def test_the_paper_has_seven_outputs() -> None:
    assert sum(len(task.outputs) for task in PAPER_TASKS) == 7
