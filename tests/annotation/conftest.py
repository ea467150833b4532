"""Small tables of images without labels."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liverattn.annotation.journal import Journal

SIZE = (40, 30)  # width, height


def write_images(folder: Path, count: int, size: tuple[int, int] = SIZE) -> None:
    for number in range(count):
        random = np.random.default_rng(number)
        Image.fromarray(random.integers(30, 200, size[::-1], dtype=np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write ``text`` as a table beside three images."""

    def write(text: str, name: str = "cases.csv") -> Path:
        write_images(tmp_path, 3)
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return write


@pytest.fixture
def blank(table: Callable[..., Path]) -> Path:
    """Three cases that nobody has looked at."""
    return table("image_id,path,lesion\na,0.png,\nb,1.png,\nc,2.png,\n")


@pytest.fixture(autouse=True)
def closed_journals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test need not close what it opened."""
    opened: list[Journal] = []
    build = Journal.__init__

    def remembering(journal: Journal, path: Path) -> None:
        build(journal, path)
        opened.append(journal)

    monkeypatch.setattr(Journal, "__init__", remembering)
    yield
    for journal in opened:
        journal.close()
