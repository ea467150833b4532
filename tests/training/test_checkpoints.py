"""Which epoch is kept for which task."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from liverattn.errors import InputError
from liverattn.evaluation.scores import PAPER_TASKS, Task
from liverattn.runs import RunFolder
from liverattn.training.checkpoints import TaskCopies, WholeFiles
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


def validate(copies: TaskCopies, epoch: int, lesion: list[float], malignancy: list[float]) -> Module:
    module = Module(np.array([lesion, malignancy]).T)
    strategy = SimpleNamespace(checkpoint_io=WholeFiles())
    trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=epoch, strategy=strategy)
    copies.on_validation_epoch_end(trainer, module)
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
    with pytest.raises(NotADirectoryError):
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
