"""Damaged inputs for every importer: each is imported rightly or ends in one clear message.

More of them: ``python -m tests.data.test_fuzz --inputs 2000 --seed 0``.
"""

import argparse
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pydicom import examples

from liverattn.configuration import build, config_folder
from liverattn.errors import InputError

from .conftest import save_case

EXPORTS = Path(__file__).parent / "exports"
LONGEST = 5  # seconds
MOST_MEMORY = 2e9  # bytes
PATHS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..\\a.png",
    "a.png\0",
    "C:\\a.png",
    "\\\\host\\a.png",
    "a" * 5000,
    "~/a.png",
    "",
    ".",
]
NUMBERS = [
    "-1",
    "0",
    "1e308",
    "-1e308",
    "1e400",
    "NaN",
    "-Infinity",
    "9" * 400,
    "0.1",
    "true",
    "null",
    '"x"',
    "[]",
    "{}",
    "2147483648",
]
BOMB = b'<!DOCTYPE a [<!ENTITY x "aaaaaaaaaa">' + b"".join(
    f'<!ENTITY x{i} "{"&x;" if i == 0 else f"&x{i - 1};" * 10}">'.encode() for i in range(12)
)
DICTIONARY = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"&x11;",
    b"%",
    b"<",
    b"{",
    b'"',
    b"\r",
    b"\xed\xa0\x80",
    b"[" * 5000,
]
CLASS_COLUMN = ("columns.lesion=null", "columns.class=Befund", "classes.Zyste=cyst", "classes.kein Herd=none")


@dataclass(frozen=True)
class Target:
    """An importer and the file of its input that gets damaged."""

    tool: str
    file: str
    options: tuple[str, ...] = ()


TARGETS = (
    Target("manifest", "cases.csv", ("manifest={root}/cases.csv",)),
    Target("manifest", "a.png", ("manifest={root}/cases.csv",)),
    Target(
        "table",
        "cases.xlsx",
        ("manifest={root}/cases.xlsx", "sheet=Befunde", "columns.path=Bild", *CLASS_COLUMN),
    ),
    Target("table", "cases.csv", ("manifest={root}/cases.csv", "columns.boxes=boxes", "columns.type=type")),
    Target("coco", "coco/annotations/instances_train.json", ("annotations=coco",)),
    Target("voc", "voc/Annotations/c.xml", ("annotations=voc",)),
    Target("yolo", "yolo/obj_train_data/c.txt", ("annotations=yolo",)),
    Target("yolo", "yolo/obj.names", ("annotations=yolo",)),
    Target("cvat", "cvat/train.xml", ("annotations=cvat",)),
    Target("labelme", "labelme/c.json", ("annotations=labelme",)),
    Target("labelstudio", "labelstudio/tasks.json", ("annotations=labelstudio",)),
    Target("masks", "c_mask.png", ("unlisted=lesion_free",)),
    Target("aul", "aul/Benign/segmentation/mass/1.json", ("root={root}/aul",)),
    Target("dicom", "dicom/rgb_color.dcm", ("root={root}/dicom", "folder={out}", "labels={root}/labels.csv")),
    Target(
        "dicom",
        "dicom/palette_color.dcm",
        ("root={root}/dicom", "folder={out}", "labels={root}/labels.csv", "frames=all"),
    ),
    Target("dicom", "dicom/ybr_color.dcm", ("root={root}/dicom", "folder={out}", "labels={root}/labels.csv")),
)


def make_inputs(root: Path) -> None:
    """Whole inputs of all importers."""
    shutil.copytree(EXPORTS, root, dirs_exist_ok=True)
    for seed, name in enumerate("abcdef"):
        save_case(root / f"{name}.png", seed)
    mask = np.zeros((48, 64), np.uint8)
    mask[8:18, 6:20] = 255
    Image.fromarray(mask).save(root / "c_mask.png")
    for name in ("Benign", "Malignant", "Normal"):
        (root / "aul" / name / "image").mkdir(parents=True)
        (root / "aul" / name / "segmentation/mass").mkdir(parents=True)
        save_case(root / "aul" / name / "image/1.png", 1)
        (root / "aul" / name / "segmentation/mass/1.json").write_text("[[10.5, 20], [30, 12.25], [22, 40.5]]")
    (root / "dicom").mkdir()
    names = ("rgb_color", "palette_color", "ybr_color")
    for name in names:
        shutil.copy(examples.get_path(name), root / "dicom" / f"{name}.dcm")
    (root / "labels.csv").write_text("\n".join(["file,lesion", *(f"{name}.dcm,0" for name in names)]))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One to three injuries."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(INJURIES)(content, rng)
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    # Headers are short: half of the injuries hit the beginning.
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 2000)
    for _ in range(rng.choice([1, 1, 4, 50]) if changed else 0):
        changed[rng.randrange(reach)] = rng.randrange(256)
    return bytes(changed)


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice([*DICTIONARY, rng.randbytes(20)]) + content[place:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:end] * rng.choice([1, 1, 30]) + content[end:]


def _drop(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + content[end:]


def _number(content: bytes, rng: random.Random) -> bytes:
    words = content.replace(b",", b" , ").split(b" ")
    numeric = [i for i, word in enumerate(words) if word[:1].isdigit()]
    if numeric:
        words[rng.choice(numeric)] = rng.choice(NUMBERS).encode()
    return b" ".join(words)


def _path(content: bytes, rng: random.Random) -> bytes:
    return content.replace(
        rng.choice([b"a.png", b"c.png", b"cyst", b"1"]), json.dumps(rng.choice(PATHS))[1:-1].encode()
    )


def _encoding(content: bytes, rng: random.Random) -> bytes:
    return content.decode("latin-1").encode(rng.choice(["utf-16", "utf-8", "utf-32", "utf-7"]))


def _bomb(content: bytes, rng: random.Random) -> bytes:
    return BOMB + b"]>" + content[content.find(b"<", 5) :].replace(b"c.png", b"&x11;")


def _json(content: bytes, rng: random.Random) -> bytes:
    try:
        document = json.loads(content)
    except ValueError:
        return content
    return json.dumps(_changed(document, rng)).encode()


def _changed(value: Any, rng: random.Random) -> Any:
    if rng.random() < 0.1 or not isinstance(value, dict | list) or not value:
        return rng.choice([None, -1, 1e308, float("nan"), 10**400, "", "x", [], {}, True, *PATHS])
    copy = value.copy()
    key = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
    copy[key] = _changed(copy[key], rng)
    return copy


def _archive(content: bytes, rng: random.Random) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            rng.choice(["../../out.txt", "/tmp/out.txt", "xl/workbook.xml"]), rng.choice([content, bytes(10**7)])
        )
    return packed.getvalue()


def _empty(content: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"\n", b"\0" * 100, rng.randbytes(300)])


INJURIES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_cut, _flip, _flip, _insert, _repeat, _drop, _number, _number, _path, _encoding, _bomb, _json, _json),
    *(_archive, _empty),
)


def inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(Path(path).absolute().is_relative_to(folder) for folder in folders)


class Watch:
    """Files opened for writing outside some folders, while it is on; there can be only one, for hooks stay for ever."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] | None = None
        self.found: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self.folders is None or not isinstance(arguments[0], str):
            return
        reads = (arguments[1] or "r").strip("bt") == "r"
        if not reads and not inside(arguments[0], self.folders) and arguments[0] != "/dev/null":
            self.found.append(arguments[0])


WATCH = Watch()


@contextmanager
def watched(folders: tuple[str, ...], seconds: int) -> Iterator[list[str]]:
    """Files opened for writing elsewhere; an alarm after so many seconds."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    WATCH.folders, WATCH.found = folders, []
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield WATCH.found
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        WATCH.folders = None


def outcome(target: Target, config: DictConfig, root: Path, out: Path) -> str:
    """``imported``, ``refused``, or what went wrong."""
    config = config.copy()
    OmegaConf.set_struct(config, False)  # new class names
    options = [option.format(root=root, out=out) for option in target.options]
    config.data.merge_with_dotlist([f"root={root}", *options])
    with watched((str(out),), LONGEST) as elsewhere:
        try:
            build(config.data.source).manifest()
            result = "imported"
        except InputError as error:
            clear = str(error).strip() and len(str(error)) < 100_000
            result = "refused" if clear else f"message of {len(str(error))} characters: {str(error)[:200]!r}"
        except BaseException:  # the point of the test: nothing else may come
            result = traceback.format_exc()
    return f"wrote {elsewhere}" if elsewhere else result


def fuzz(count: int, seed: int, work: Path) -> Counter[tuple[str, str]]:
    """Outcomes of ``count`` damaged inputs, spread over all importers."""
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    whole = work / "whole"
    make_inputs(whole)
    sys.addaudithook(WATCH)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        configs = {tool: compose("prepare", [f"data={tool}"]) for tool in sorted({target.tool for target in TARGETS})}
    for target in TARGETS:  # undamaged, they are imported
        result = outcome(target, configs[target.tool], whole, work / "out")
        assert result == "imported", (target, result)
    for i in range(count):
        target, root = TARGETS[i % len(TARGETS)], work / "input"
        shutil.copytree(whole, root)
        (root / target.file).write_bytes(damaged((whole / target.file).read_bytes(), rng))
        outcomes[target.tool, outcome(target, configs[target.tool], root, work / "out")] += 1
        shutil.rmtree(root)
        shutil.rmtree(work / "out", ignore_errors=True)
    return outcomes


@pytest.mark.slow
def test_damaged_inputs_are_imported_or_refused(tmp_path: Path) -> None:
    outcomes = fuzz(160, 0, tmp_path)
    assert {result for _, result in outcomes} == {"imported", "refused"}
    assert outcomes.total() == 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        outcomes = fuzz(arguments.inputs, arguments.seed, Path(work))
    for (tool, result), count in sorted(outcomes.items()):
        print(f"{tool:12} {count:5}  {result}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{outcomes.total()} inputs, {time.perf_counter() - began:.0f} s, at most {memory / 1e9:.2f} GB")
    sys.exit(memory > MOST_MEMORY or any(result not in ("imported", "refused") for _, result in outcomes))


if __name__ == "__main__":
    main()
