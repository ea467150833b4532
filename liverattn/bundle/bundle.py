"""Bundles, written and read."""

import copy
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from liverattn.bundle.containers import CARD, CONTENTS, LINE, NETWORKS, SUMS, open_container, write_zip
from liverattn.bundle.contents import ArchitecturePart, Contents
from liverattn.errors import InputError
from liverattn.files import forget_unfinished, replacing
from liverattn.models.backbones import build_backbone
from liverattn.models.classifier import LesionClassifier


def packed(weights: Mapping[str, Tensor]) -> tuple[str, bytes]:
    """The file of a network, and its SHA-256; equal weights give equal bytes."""
    # A tensor's memory is written as it lies: channels_last would not be equal, nor views of each other allowed.
    content = save(
        {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    )
    return hashlib.sha256(content).hexdigest(), content


def write_bundle(folder: Path, contents: Contents, networks: Iterable[tuple[str, bytes]], card: str) -> "Bundle":
    """Write a bundle's folder, and one zip of the same name beside it.

    A bundle that is interrupted while it is written lacks ``SHA256SUMS`` and is refused until it is written again.

    Args:
        folder: A bundle that lies there is replaced.
        contents: ``bundle.json``.
        networks: Digest and file (:func:`packed`) of every network; one that comes again is written once.
        card: Model card, Markdown.

    Raises:
        InputError: The disk is full or may not be written to, or the folder holds something else than a bundle.
    """
    known = {CONTENTS, CARD, SUMS, NETWORKS}
    for place in (folder, zip_beside(folder)):
        forget_unfinished(place)
    strange = sorted({path.name for path in folder.iterdir()} - known) if folder.exists() else []
    if strange:
        raise InputError(f"{folder} holds {strange[0]!r}, which is no part of a bundle. Choose another folder.")
    (folder / SUMS).unlink(missing_ok=True)
    sums: dict[str, str] = {}
    for digest, content in networks:
        name = f"{NETWORKS}/{digest}.safetensors"
        if name not in sums:
            sums[name] = _put(folder / name, content)
    for path in set((folder / NETWORKS).iterdir()) - {folder / name for name in sums}:
        path.unlink()
    sums[CONTENTS] = _put(folder / CONTENTS, (contents.model_dump_json(indent=1) + "\n").encode())
    sums[CARD] = _put(folder / CARD, card.encode())
    _put(folder / SUMS, _listed(sums))
    with replacing(zip_beside(folder)) as temporary, temporary.open("wb") as stream:
        write_zip(stream, ((name, (folder / name).read_bytes()) for name in sorted([*sums, SUMS])))
    return Bundle(folder)


def blank_network(architecture: ArchitecturePart, outputs: int) -> LesionClassifier:
    """A network as an architecture says, for inference, with random weights.

    Args:
        architecture: Its trunk and scales.
        outputs: K.
    """
    with torch.random.fork_rng(devices=[]):  # the weights are drawn, but nobody's random numbers change
        trunk = build_backbone(**architecture.trunk.model_dump(), weights=None)
        network = LesionClassifier(trunk, lambdas=architecture.lambdas, outputs=outputs, mirror=architecture.mirror)
    return network.eval().requires_grad_(False)


def zip_beside(folder: Path) -> Path:
    """The zip of a bundle's folder."""
    return folder.with_name(f"{folder.name}.zip")


def _listed(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())).encode()


def _put(path: Path, content: bytes) -> str:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


class Bundle:
    """A bundle, checked: every file is there and has the bytes that it was written with.

    Args:
        path: Its folder or zip.

    Raises:
        InputError: Absent, incomplete, changed, or not a bundle; nothing of it is used then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = open_container(path)
        self._sums = self._read_sums()
        for name in self._sums:
            self._checked(name)
        try:
            self.contents = Contents.model_validate_json(self._checked(CONTENTS))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise self._refused(f"{CONTENTS} does not fit this version ({place}: {first['msg']})") from None
        self.digest = self.contents.digest
        absent = [digest for digest in self.contents.networks if f"{NETWORKS}/{digest}.safetensors" not in self._sums]
        if absent:
            raise self._refused(f"the network {absent[0][:12]} is missing")

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self._checked(CARD).decode()

    def pack(self, path: Path) -> None:
        """Write all of it as one zip, each file checked once more.

        Raises:
            InputError: A file was changed in the meantime, or the disk is full.
        """
        files = [*self._sums, SUMS]
        with replacing(path) as temporary, temporary.open("wb") as stream:
            write_zip(stream, ((name, self._checked(name)) for name in sorted(files)))

    def networks(self) -> dict[str, LesionClassifier]:
        """All networks by digest, ready for inference, on the CPU.

        Raises:
            InputError: Weights that do not fit the networks that ``bundle.json`` names.
        """
        blank: dict[int, LesionClassifier] = {}
        found: dict[str, LesionClassifier] = {}
        for member in self.contents.members:
            if member.architecture not in blank:
                blank[member.architecture] = blank_network(
                    self.contents.architectures[member.architecture], len(self.contents.outputs)
                )
            for one in member.copies.values():
                if one.network not in found:
                    # A traced trunk forgets when it is copied that it was in evaluation mode.
                    network = copy.deepcopy(blank[member.architecture]).eval()
                    found[one.network] = self._filled(network, one.network)
        return found

    def _filled(self, network: LesionClassifier, digest: str) -> LesionClassifier:
        try:
            network.load_state_dict(load(self._checked(f"{NETWORKS}/{digest}.safetensors")))
        except (SafetensorError, RuntimeError, ValueError) as error:
            problem = " ".join(str(error).split())[:200]
            raise self._refused(f"the network {digest[:12]} is not plain tensors that fit ({problem})") from None
        return network

    def _checked(self, name: str) -> bytes:
        if name == SUMS:
            return _listed(self._sums)
        content = self._store.read(name)
        if hashlib.sha256(content).hexdigest() != self._sums[name]:
            raise self._refused(f"{name} was changed: its SHA-256 is not the one in {SUMS}")
        return content

    def _read_sums(self) -> dict[str, str]:
        names = self._store.names()
        if SUMS not in names:
            raise self._refused(f"it has no {SUMS}, so it is not whole")
        text = self._store.read(SUMS).decode("ascii", errors="replace")
        lines = [LINE.fullmatch(line) for line in text.removesuffix("\n").split("\n")]
        if not all(lines) or not text.endswith("\n"):
            raise self._refused(f"{SUMS} was changed")
        sums = {line[2]: line[1] for line in lines if line is not None}
        for problem, wrong in (
            ("is missing", {CONTENTS, CARD, *sums} - names),
            ("does not belong to it", names - {*sums, SUMS}),
        ):
            if wrong:
                raise self._refused(f"{sorted(wrong)[0]!r} {problem}")
        return sums

    def _refused(self, problem: str) -> InputError:
        return InputError(f"The bundle {self.path} is refused: {problem}. Nothing of it was used. Get it again.")
