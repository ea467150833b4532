"""The contract on disk."""

from pathlib import Path

import pandas as pd
import pytest

from liverattn.errors import InputError
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


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(InputError, match=r"metrics.json does not exist"):
        run.read_metrics()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run.json is damaged"):
        run.record()
    with pytest.raises(InputError, match=r"predictions.parquet cannot be read"):
        run.read_predictions()
    run.write_predictions(pd.DataFrame({"image_id": ["a"], "task": ["lesion"]}))
    with pytest.raises(InputError, match=r"lacks the column\(s\) patient_id, epoch"):
        run.read_predictions()
