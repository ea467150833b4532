"""The contract on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from liverattn.errors import InputError
from liverattn.locks import BusyError
from liverattn.runs import RunFolder, find_runs


def test_a_run_is_finished_when_its_metrics_are_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    assert run.record() == {}
    assert not run.is_finished
    run.update_record(state="running", data="f00d")
    run.update_record(state="finished")
    assert run.record() == {"state": "finished", "data": "f00d"}
    assert [found.path for found in find_runs(tmp_path)] == [run.path]
    run.metrics.write_text('{"score": null}')
    assert run.is_finished
    assert run.read_metrics() == {"score": None}


@pytest.mark.parametrize("content", ["", '{"score": ', "\0\0", "[]", "null", '"text"'])
def test_a_run_whose_metrics_are_damaged_is_gone_on_with(tmp_path: Path, content: str) -> None:
    run = RunFolder(tmp_path)
    run.update_record(state="finished")
    run.metrics.write_text(content)
    assert not run.is_finished and run.state == "interrupted"
    with pytest.raises(InputError, match=rf"metrics.json is damaged .* Remove the folder {tmp_path}, then run"):
        run.read_metrics()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(InputError, match=r"metrics.json does not exist"):
        run.read_metrics()
    for content in ("{", "null", "[]"):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(InputError, match=r"run.json is damaged"):
            run.record()
    with pytest.raises(InputError, match=rf"predictions.parquet cannot be read: .* Remove {run.metrics}, then run"):
        run.read_predictions()
    run.write_predictions(pd.DataFrame({"protocol": ["paper"], "image_id": ["a"], "task": ["lesion"]}))
    with pytest.raises(InputError, match=rf"lacks the column\(s\) patient_id, epoch. Remove {run.metrics}, then run"):
        run.read_predictions()


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_a_table_that_is_not_what_the_run_wrote_is_named(tmp_path: Path, share: float) -> None:
    run = RunFolder(tmp_path)
    run.epochs.write_text("epoch,cases,score\n0,held_out,0.5\n1,held_out,0.6\n")
    whole = run.epochs.read_bytes()
    for metrics in ("{}", json.dumps({"digests": run.digests()})):  # of an older version, and of this one
        run.metrics.write_text(metrics)
        table = run.read_epochs()
        assert table is not None and len(table) == 2
    for damaged in (whole[: int(share * len(whole))], whole[: int(share * len(whole))].ljust(len(whole), b"\0")):
        run.epochs.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"epochs.csv cannot be read: its content .* Remove {run.metrics}, then"):
            run.read_epochs()
    run.epochs.unlink()
    with pytest.raises(InputError, match=rf"epochs.csv cannot be read: .*No such file.* Remove {run.metrics}, then"):
        run.read_epochs()
    run.metrics.write_text("{}")
    assert run.read_epochs() is None  # older versions wrote none


def test_work_begins_without_what_a_killed_process_was_writing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    left = run.last.with_name(".last.ckpt.0123456789ab.part")
    left.parent.mkdir()
    left.write_text("a part")
    with run.working():
        assert not left.exists()


def test_the_state_of_a_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a")
    assert run.state == "missing" and not run.path.exists()
    with run.working():
        assert run.state == "running"
    assert run.state == "interrupted"  # it ended without results
    run.metrics.write_text("{}")
    assert run.state == "finished"


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match="out of memory"), run.working():
        raise RuntimeError("out of memory")
    assert run.state == "failed" and run.record()["error"] == "out of memory"
    assert 'raise RuntimeError("out of memory")' in (tmp_path / "traceback.txt").read_text()
    with run.working():  # begun again
        assert run.record() == {"state": "running", "error": None}


def test_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt), run.working():
        raise KeyboardInterrupt
    assert run.state == "interrupted"


def test_two_processes_never_work_on_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: monkeypatch.setattr("time.monotonic", lambda: float("inf")))
    with run.working():
        with pytest.raises(BusyError, match="Another process works on"), RunFolder(tmp_path).working():
            pass
        assert run.record()["state"] == "running"


def test_a_killed_process_releases_its_run(tmp_path: Path) -> None:
    run = f"RunFolder(Path({str(tmp_path)!r}))"
    held = f"from liverattn.runs import *\nwith {run}.working(): print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    assert RunFolder(tmp_path).state == "running"
    process.kill()
    process.communicate()
    assert RunFolder(tmp_path).state == "interrupted"
