"""What several tests of comparisons start from."""

from pathlib import Path

import pytest

from liverattn.runs import RunFolder
from tests.comparison.held_out_runs import COHORT
from tests.finished_runs import write_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Repeat 0, fold 1 of an architecture of which the two other folds are there as well."""
    for fold in (0, 2):
        write_run(tmp_path, "a", COHORT, 0, fold)
    return write_run(tmp_path, "a", COHORT, 0, 1)
