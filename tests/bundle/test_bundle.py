import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from liverattn.bundle.bundle import Bundle, packed
from liverattn.bundle.containers import SUMS
from liverattn.bundle.contents import CostPart
from liverattn.errors import InputError
from tests.bundle.builders import architecture, network, write_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("bundle") / "small").path


def copied(folder: Path, target: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(folder)).write_bytes(path.read_bytes())
    return target


def resum(folder: Path) -> None:
    """Make the sums right again, as somebody would who alters a bundle on purpose."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / SUMS).write_text("".join(lines))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_is_read_is_what_was_written(folder: Path, kind: str) -> None:
    bundle = Bundle(folder if kind == "folder" else folder.with_suffix(".zip"))
    assert bundle.card == "# Card\n"
    assert bundle.contents.outputs == ("lesion", "malignancy")
    first = bundle.contents.members[0].copies["lesion"].network
    expected = network(architecture(), 0)
    image = torch.rand(2, 1, 64, 92) * 255
    with torch.inference_mode():
        for ours, theirs in zip(bundle.networks()[first](image), expected(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_folder_and_zip_have_one_digest(folder: Path) -> None:
    assert Bundle(folder).digest == Bundle(folder.with_suffix(".zip")).digest


def test_the_digest_is_of_what_predictions_rest_on(folder: Path) -> None:
    contents = Bundle(folder).contents
    later = {"created": "2027-03-04", "costs": {"one": CostPart(passes=2, milliseconds=7.5, machine="another")}}
    assert contents.model_copy(update=later).digest == contents.digest == Bundle(folder).digest
    members = tuple(member.model_copy(update={"repeat": 1}) for member in contents.members)
    more = {"version": "0.2.0", **contents.versions}
    points = {"lesion": contents.operating_points["lesion"][:1]}
    for changes in ({"members": members}, {"versions": more}, {"operating_points": points}, {"name": "other"}):
        assert contents.model_copy(update=changes).digest != contents.digest


def test_equal_copies_are_stored_once(tmp_path: Path) -> None:
    bundle = write_small(tmp_path / "b", shared=True)
    assert len(list((tmp_path / "b" / "networks").iterdir())) == 1
    assert len(bundle.networks()) == 1


def test_memory_format_and_views_do_not_change_the_file() -> None:
    weights = {"a": torch.rand(4, 3, 3, 3)}
    shared = torch.rand(8)
    last = {"a": weights["a"].to(memory_format=torch.channels_last)}
    assert packed(weights) == packed(last)
    assert packed({"a": shared[:4], "b": shared[4:]}) == packed({"a": shared[:4].clone(), "b": shared[4:].clone()})


def test_sha256sum_agrees(folder: Path) -> None:
    result = subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_written_again_without_leftovers(tmp_path: Path) -> None:
    write_small(tmp_path / "b", folds=2)
    again = write_small(tmp_path / "b", folds=1)
    assert len(list((tmp_path / "b" / "networks").iterdir())) == 2
    assert Bundle(tmp_path / "b.zip").digest == again.digest


def test_written_again_where_a_kill_left_a_part(tmp_path: Path) -> None:
    path = write_small(tmp_path / "bundle").path
    left = [path / ".bundle.json.0123456789ab.part", tmp_path / ".bundle.zip.0123456789ab.part"]
    for part in left:
        part.write_text("a part")
    assert write_small(path).path == path
    assert not any(part.exists() for part in left)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.docx").write_text("three years")
    with pytest.raises(InputError, match=r"'thesis.docx', which is no part of a bundle"):
        write_small(tmp_path / "b")
    assert (tmp_path / "b" / "thesis.docx").read_text() == "three years"


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_any_changed_byte_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    """100 random bytes of all there is, and every byte of what is not covered by a checksum of its own."""
    random = np.random.default_rng(0)
    if kind == "folder":
        target = copied(folder, tmp_path / "b")
        files = sorted(path for path in target.rglob("*") if path.is_file())
    else:
        target = tmp_path / "b.zip"
        target.write_bytes(folder.with_suffix(".zip").read_bytes())
        files = [target]
    for _ in range(100):
        path = files[random.integers(len(files))]
        original = path.read_bytes()
        altered = bytearray(original)
        altered[random.integers(len(altered))] ^= int(random.integers(1, 256))
        path.write_bytes(altered)
        with pytest.raises(InputError, match=r"refused|cannot be read"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's remarks on what it reads
            Bundle(target)
        path.write_bytes(original)
    Bundle(target)


def test_a_zip_with_a_changed_header_is_refused(folder: Path, tmp_path: Path) -> None:
    """Dates and rights of entries are covered by no checksum, and whoever changes them may have changed more."""
    original = folder.with_suffix(".zip").read_bytes()
    target = tmp_path / "b.zip"
    central = original.rindex(b"PK\x01\x02")
    for place in (10, 12, central + 12, central + 38, len(original) - 2):
        altered = bytearray(original)
        altered[place] ^= 1
        target.write_bytes(altered)
        with pytest.raises(InputError, match="refused"):
            Bundle(target)
    for altered in (original + b"x", b"x" + original):
        target.write_bytes(altered)
        with pytest.raises(InputError, match="refused"):
            Bundle(target)


@pytest.mark.parametrize("name", ["../evil.json", "/etc/passwd", "networks/../../x", "networks/x.pkl", "C:\\x", "a/b"])
def test_zip_entries_that_lead_elsewhere_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "b.zip"
    target.write_bytes(folder.with_suffix(".zip").read_bytes())
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="is no part of a bundle"):
        Bundle(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip"]


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_in_the_place_of_a_network_is_never_run(folder: Path, tmp_path: Path) -> None:
    target, marker = copied(folder, tmp_path / "b"), tmp_path / "ran"
    victim = sorted((target / "networks").iterdir())[0]
    victim.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(InputError, match="was changed"):
        Bundle(target)
    resum(target)
    with pytest.raises(InputError, match="is not plain tensors that fit"):
        Bundle(target).networks()
    torch.save({"x": Malicious(marker)}, victim)
    resum(target)
    with pytest.raises(InputError, match="is not plain tensors that fit"):
        Bundle(target).networks()
    assert not marker.exists()


def test_a_file_too_many_or_too_few_is_refused(folder: Path, tmp_path: Path) -> None:
    target = copied(folder, tmp_path / "b")
    (target / "setup.py").write_text("x")
    with pytest.raises(InputError, match=r"'setup.py' does not belong to it"):
        Bundle(target)
    (target / "setup.py").unlink()
    (target / ".DS_Store").write_text("what a file browser leaves")
    Bundle(target)
    (target / "README.md").unlink()
    with pytest.raises(InputError, match=r"'README.md' is missing"):
        Bundle(target)
    (target / SUMS).unlink()
    with pytest.raises(InputError, match="no SHA256SUMS, so it is not whole"):
        Bundle(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "version"),
        (lambda c: c["members"][0].update(weight=0.5), "do not add up to 1"),
        (lambda c: c["members"][0].update(architecture=7), "do not fit together"),
        (lambda c: c["members"][0]["copies"].pop("lesion"), "copies are not of the tasks"),
        (lambda c: c["members"][0]["copies"]["lesion"].update(network="../../x"), "pattern"),
        (lambda c: c["members"][0]["copies"]["lesion"].update(network="0" * 64), "is missing"),
        (lambda c: c.update(hook="os.system"), "Extra inputs"),
        (lambda c: c["architectures"][0]["preparation"].update(height=10**9), "less than or equal to 4096"),
        (lambda c: c["operating_points"].update(age=[]), "an operating point is of no output"),
    ],
)
def test_contents_that_do_not_hang_together(folder: Path, tmp_path: Path, change: object, message: str) -> None:
    target = copied(folder, tmp_path / "b")
    contents = json.loads((target / "bundle.json").read_text())
    change(contents)  # type: ignore[operator]
    (target / "bundle.json").write_text(json.dumps(contents))
    resum(target)
    with pytest.raises(InputError, match=message):
        Bundle(target)


def test_weights_of_another_network(tmp_path: Path) -> None:
    target = write_small(tmp_path / "b").path
    contents = json.loads((target / "bundle.json").read_text())
    contents["architectures"][0]["trunk"]["cut"] = "layer2"
    (target / "bundle.json").write_text(json.dumps(contents))
    resum(target)
    with pytest.raises(InputError, match="is not plain tensors that fit"):
        Bundle(target).networks()


def test_absent_and_not_a_zip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Bundle(tmp_path / "b")
    (tmp_path / "b.zip").write_text("no zip")
    with pytest.raises(InputError, match="not a readable zip"):
        Bundle(tmp_path / "b.zip")


def test_reading_needs_no_training_stack(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('hydra', 'omegaconf', 'pytorch_lightning', 'lightning', 'mlflow', 'albumentations'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from liverattn.bundle.bundle import Bundle\n"
        f"print(len(Bundle(Path({str(folder)!r})).networks()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "2", result.stderr


def test_random_numbers_go_on_as_if_nothing_was_read(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Bundle(folder).networks()
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_never_ends_is_not_read(folder: Path, tmp_path: Path, kind: str) -> None:
    path = copied(folder, tmp_path / "bundle") / "README.md"
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(InputError, match=r"is refused: README\.md is no plain file\."):
        Bundle(path.parent)
