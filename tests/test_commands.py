"""What is printed for a person to run means the same to the shell, make and Hydra."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from liverattn.commands import make, option

AWKWARD = "/tmp/a b/ü,x=1/it's (5%) [new] $HOME"
TEXTS = st.text("aZ_09 ü=,;:.'\"\\/$`!*?(){}[]<>|&#~@%+-", min_size=1)


def read(typed: str) -> object:
    """What Hydra makes of one word of a command."""
    (word,) = shlex.split(typed)
    return OverridesParser.create().parse_override(word).value()


@given(TEXTS)
@example(AWKWARD)
@example("1_2")
@example("null")
@example("NaN")
@example("1e5")
@example("a\\")
def test_any_text_is_read_as_it_is(text: str) -> None:
    assert read(option("out", text)) == text


@given(st.lists(TEXTS))
def test_so_is_a_list(texts: list[str]) -> None:
    assert read(option("members", texts)) == texts


@pytest.mark.parametrize("text", ["outputs/runs/a-r0_f1.x", "/data/new", "../x", "./5", "bundle"])
def test_what_needs_no_quotes_has_none(text: str) -> None:
    assert option("out", text) == f"out={text}" and read(f"out={text}") == text


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["train", "sweep", "status", "ensemble", "compare", "predict", "export", "prepare"])
def test_make_takes_any_outputs(target: str) -> None:
    assert outputs_of(make(target, AWKWARD)) == AWKWARD
    assert make(target, "outputs") == f"make {target}" and outputs_of(f"make {target}") is None


def outputs_of(command: str) -> object:
    """The outputs that a target hands on, without running it."""
    root = Path(__file__).parent.parent
    more = ["-s", "-o", "setup", "RUN=printf '%s\\n'"]
    done = subprocess.run(["bash", "-c", f"{command} {shlex.join(more)}"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [word for word in done.stdout.splitlines() if word.startswith("paths.outputs=")]
    return read(shlex.quote(found[0])) if found else None
