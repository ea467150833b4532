"""``python -m liverattn.annotate``, without its page."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from liverattn import annotate
from liverattn.annotation.journal import Journal
from liverattn.configuration import build, config_folder, plain
from liverattn.models.classifier import LesionClassifier
from liverattn.runs import RunFolder
from tests.conftest import TINY, Result

Command = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images; the current folder is another one."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(30, 200, (64, 92), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return images


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Nothing to annotate. Give a table, data.manifest=..., or a folder of images, data.root=..."),
        (["data.manifest={}/no.csv"], "no.csv does not exist"),
        (["data.root={}/no"], "no does not exist. Give a folder of images"),
        (["data.root={}", "suggest={}"], "is not the folder of a finished fold run"),
        (["data.root={}", "port=70000"], "Port 70000 cannot be used"),
        (["data.root={}", "port=abc"], "Expected port to be a whole number, such as 8050, or 0 for any free one, but"),
        (["data.root={}", "advance=no"], "Expected advance to be true or false, but got no"),
        (["data.root=5"], "Expected data.root to be a text, but got 5. In quotes it is one: 'data.root=\"5\"'"),
    ],
)
def test_what_cannot_be_opened_is_said(command: Command, folder: Path, arguments: list[str], said: str) -> None:
    result = command(annotate.main, *(argument.format(folder) for argument in arguments))
    assert result.status == 1 and said in result.err and "Traceback" not in result.err
    assert not list(Path.cwd().iterdir())


def test_a_busy_port_is_said(command: Command, folder: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = command(annotate.main, f"data.root={folder}", f"port={port}")
    assert result.status == 1
    assert f"Port {port} cannot be used" in result.err and "port=0" in result.err


def test_two_processes_do_not_share_a_table(command: Command, folder: Path) -> None:
    annotate.opened(None, str(folder)).close()
    journal = Journal(folder / "cases.journal.jsonl")
    result = command(annotate.main, f"data.root={folder}", "port=0")
    journal.close()
    assert result.status == 1 and "Another process annotates this table" in result.err


def test_the_end_says_what_to_do_next(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = annotate.opened(str(folder.parent / "all.csv"), str(folder))
    assert session.table.paths == ["0.png", "1.png"]  # relative to the root
    session.answer(0, "n")
    annotate.show(session)
    assert "Labeled: 1 of 2\n" in (said := capsys.readouterr().out)
    assert "Left:    1" in said and "the same command goes on" in said
    session.answer(1, "n")
    annotate.show(session)
    assert (
        f"python -m liverattn.prepare data=manifest data.manifest={folder.parent / 'all.csv'} data.root={folder}"
        in capsys.readouterr().out
    )
    session.close()


def test_a_finished_run_suggests(folder: Path, tmp_path: Path) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("train", list(TINY))
    network = LesionClassifier(build(cfg.backbone), lambdas=[1.0], outputs=4)
    torch.nn.init.constant_(network.attention.bias, 5.0)  # all cells count as lesion
    run = RunFolder(tmp_path / "run")
    run.copy("lesion").parent.mkdir(parents=True)
    content = {"epoch": 0, "aucs": {"lesion": 0.9}, "state_dict": network.state_dict(), "config": plain(cfg)}
    torch.save(content, run.copy("lesion"))
    run.split.write_text(json.dumps({"held_out": ["a"], "train": ["b", "c"], "selection": ["d"]}))
    run.metrics.write_text("{}")
    suggester = annotate.suggesting(run, threshold=0.5)
    assert suggester.seen == {"b", "c", "d"}
    assert suggester.boxes(folder / "0.png") == [(0, 0, 92, 64)]
    assert annotate.suggesting(run, threshold=0.999).boxes(folder / "0.png") == []


def test_images_that_came_since_are_offered_of_a_folder_not_of_a_table(folder: Path) -> None:
    table = folder / "cases.csv"
    annotate.opened(None, str(folder)).close()
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes())
    for manifest, count in ((str(table), 2), (None, 3)):
        session = annotate.opened(manifest, str(folder))
        assert len(session.table) == count
        session.close()
