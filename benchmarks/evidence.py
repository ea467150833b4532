"""Intervals, tests and all evidence from 27 fold runs of the paper's size: where the time goes.

367 cases, seven outputs. The run folders are synthetic, written by the tests' own builder; everything after that is
what `liverattn.ensemble` does.

    python -m benchmarks.evidence
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from liverattn.comparison.architectures import finished_runs, group_architectures
from liverattn.comparison.evidence import evidence_tables, write_evidence
from liverattn.comparison.members import candidates
from liverattn.comparison.pairs import compare_pairs, interval_table
from liverattn.comparison.results import compare
from liverattn.comparison.scored import rank, read
from tests.finished_runs import Cohort, write_architecture

Result = TypeVar("Result")
PAPER = Cohort(counts=(258, 17, 6, 8, 30, 48))  # Table 1


def timed(name: str, work: Callable[[], Result]) -> Result:
    started = time.perf_counter()
    result = work()
    print(f"{name:<60} {time.perf_counter() - started:6.2f} s", flush=True)
    return result


def main() -> None:
    """Time each step once."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        for name, noise in (("a", 0.8), ("b", 1.0), ("c", 1.2)):
            write_architecture(outputs, name, PAPER, noise=noise, backbone__name=name)
        found = timed("read and group 27 runs", lambda: group_architectures(finished_runs(outputs)))
        scored = timed("read and check predictions", lambda: read(candidates(found, None, inner=False, repeats=None)))
        ranking = timed("numbers of every fold run", lambda: rank(scored, "paper"))
        labels = [one.label for one in ranking]
        both = timed("the ensemble", lambda: compare(ranking, labels, None, "paper", are_named=False))
        timed("intervals of 4 rows, 2 000 draws", lambda: interval_table(both.rows, "paper", both.tasks))
        timed(
            "paired tests of one architecture with two",
            lambda: compare_pairs(scored[0], scored[1:], "paper", draws=2000, seed=0),
        )
        tables = timed("all tables (intervals again among them)", lambda: evidence_tables(both))
        timed("figures, pages and files", lambda: write_evidence(both, tables, outputs / "evidence"))
        command = [
            sys.executable,
            "-m",
            "liverattn.ensemble",
            f"paths.outputs={outputs}",
            "tracking=none",
            "bundle=null",
        ]
        timed("liverattn.ensemble, the command", lambda: subprocess.run(command, check=True, capture_output=True))


if __name__ == "__main__":
    main()
