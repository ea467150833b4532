"""A sweep at a glance."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from liverattn.sweeps.matrix import (
    duration,
    first_line,
    legend,
    matrix_table,
    news,
    next_command,
    print_sweep,
    summary,
    summary_table,
)
from tests.sweeps.builders import cell, epochs_done, fail, finish, sweep

WIDE = 200


def printed(table: object) -> str:
    console = Console(width=WIDE, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def line_with(text: str, word: str) -> str:
    (line,) = [line for line in text.splitlines() if word in line]
    return line


def test_the_matrix_shows_every_cell_in_its_place(tmp_path: Path) -> None:
    cells = [cell(f"a{r}{f}", r, f, experiment="[a]") for r in range(2) for f in range(2)]
    recorded = sweep(tmp_path, *cells, cell("b", 1, 0, experiment="b"))
    finish(recorded.run(cells[0]))
    fail(recorded.run(cells[1]), "x")
    epochs_done(recorded.run(cells[2]), 1)
    text = printed(matrix_table(recorded, recorded.progress()))
    assert line_with(text, "0.0").split()[-4:] == ["0.0", "0.1", "1.0", "1.1"]
    assert line_with(text, "[a]").split()[-4:] == ["+", "x", "~25", "."]
    # The only cell of the other row stands below 1.0.
    other = line_with(text, "b ")
    assert other.split()[-1] == "." and other.rindex(".") == line_with(text, "0.0").rindex("1.0") + 1
    said = " ".join(printed(legend(recorded.progress())).split())
    assert said.startswith("Columns: repeat.fold + 1 done ~ 1 interrupted x 1 failed . 2 missing numbers: %")


def test_table_2_fits_into_a_terminal(tmp_path: Path) -> None:
    places = [(repeat, fold) for repeat in range(3) for fold in range(3)]
    cells = [cell(f"{r}{f}", r, f, experiment="densenet_240", architecture="densenet121") for r, f in places]
    recorded = sweep(tmp_path, *cells)
    epochs_done(recorded.run(cells[4]), 4)
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(matrix_table(recorded, recorded.progress()))
    (row,) = [line for line in capture.get().splitlines() if line.startswith("densenet_240")]
    assert row.split() == ["densenet_240", "densenet121", "1", "240x345", *"....", "~99", *"...."]


def test_what_failed_is_told_with_the_command_that_runs_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = sweep(tmp_path, cell("a"), cell("b", fold=1), cell("c", fold=2), jobs=2)
    fail(recorded.run(recorded.cells[0]), "out of memory\nsecond line")
    (tmp_path / "runs" / "a" / "traceback.txt").touch()
    fail(recorded.run(recorded.cells[2]), "no folder")
    epochs_done(recorded.run(recorded.cells[1]), 2, seconds=60)
    print_sweep(recorded, recorded.progress(), Console(color_system=None))
    said = capsys.readouterr().out
    assert "Failed: resnet_240 repeat 0 fold 0: out of memory\n" in said and "second line" not in said
    assert f"trace: {tmp_path}/runs/a/traceback.txt" in said
    assert "again: python -m liverattn.train +experiment=resnet_240 protocol.fold=0\n" in said
    assert "fold 2: no folder\n  again:" in said
    # Two of four epochs at 60 s are left; two at once.
    assert "Time left: 1 min with 2 at once" in said


def test_time_left_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = sweep(tmp_path, cell("a"))
    print_sweep(recorded, recorded.progress(), Console())
    assert "Time left: not known before two epochs are done" in capsys.readouterr().out
    finish(recorded.run(recorded.cells[0]))
    print_sweep(recorded, recorded.progress(), Console())
    assert "Time left" not in capsys.readouterr().out


def test_summary_by_hand(tmp_path: Path) -> None:
    cells = [cell(f"a{i}", fold=i, experiment="a") for i in range(3)]
    recorded = sweep(tmp_path, *cells, cell("b", experiment="b"), cell("c", experiment="c"))
    finish(recorded.run(cells[0]), 0.5, lesion=0.8, type=None)
    finish(recorded.run(cells[1]), 0.7, lesion=0.9, type=0.6)
    finish(recorded.run(recorded.cells[3]), 0.4, lesion=0.3)
    table = summary(recorded, recorded.progress()).set_index("architecture")
    assert table.loc["a", ["cells", "finished"]].tolist() == [3, 2]
    assert table.loc["a", "score"] == pytest.approx(0.6)
    assert table.loc["a", "score_deviation"] == pytest.approx(np.sqrt(0.02))  # (.1^2 + .1^2) / 1
    assert table.loc["a", "lesion_deviation"] == pytest.approx(np.sqrt(0.005))
    assert table.loc["a", "type"] == pytest.approx(0.6)
    assert np.isnan(table.loc["a", "type_deviation"])
    assert table.loc["b", "score"] == 0.4 and np.isnan(table.loc["b", "score_deviation"])
    assert table.loc["c", "finished"] == 0 and np.isnan(table.loc["c", "score"])
    text = printed(summary_table(table.reset_index()))
    assert "0.600 (0.141)" in text and "0.400 (-)" in text and "2 of 3" in text and "- (-)" in text


def test_a_cell_counts_under_its_own_protocol(tmp_path: Path) -> None:
    recorded = sweep(tmp_path, cell("a"), cell("a", protocol="last"), cell("a", protocol="inner"))
    finish(recorded.run(recorded.cells[0]), 0.75)
    table = summary(recorded, recorded.progress())
    assert table["score"].tolist()[:2] == [0.75, 0.25]
    assert np.isnan(table["score"].iloc[2])


def test_news_of_a_cell(tmp_path: Path) -> None:
    recorded = sweep(tmp_path, cell("a"), cell("b", fold=1), cell("c", fold=2))
    epochs_done(recorded.run(recorded.cells[0]), 4, seconds=60)
    finish(recorded.run(recorded.cells[0]), 0.75)
    fail(recorded.run(recorded.cells[1]), "no\nmemory")
    progress = recorded.progress()
    assert news(recorded, 0, progress).endswith(
        "done: resnet_240 repeat 0 fold 0: score 0.750; 1 of 3, about 4 min left"
    )
    assert news(recorded, 1, progress).endswith("failed: resnet_240 repeat 0 fold 1: no")
    assert news(recorded, 2, progress).endswith("missing: resnet_240 repeat 0 fold 2")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (5400, "90 min"), (7200, "2.0 h"), (1e6, "277.8 h")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_first_line() -> None:
    assert first_line("\n a\nb") == "a"
    assert first_line(None) == first_line("") == first_line("\n") == "unknown error"


@pytest.mark.parametrize(
    ("protocols", "args"),
    [
        (["inner", "inner"], " ARGS=protocol=inner"),
        (["last"], " ARGS=protocol=last"),
        (["paper"], ""),
        (["paper", "last"], ""),
    ],
)
def test_tables_are_made_under_the_protocol_of_the_sweep(tmp_path: Path, protocols: list[str], args: str) -> None:
    recorded = sweep(tmp_path, *(cell(f"r{i}", fold=i, protocol=name) for i, name in enumerate(protocols)))
    assert next_command(recorded) == f"make ensemble{args} OUTPUTS={tmp_path}"
