"""The ensemble of a bundle, applied to images one batch after the other."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit

from liverattn.bundle.bundle import Bundle
from liverattn.bundle.contents import MemberPart
from liverattn.data.dicom import FrameChoice
from liverattn.data.images import ImageError
from liverattn.data.preprocessing import PreparedImage, Window
from liverattn.errors import InputError, expect_choice, expect_whole
from liverattn.models.classifier import LesionClassifier
from liverattn.prediction.images import Case, Grey, cases_of
from liverattn.prediction.maps import PlacedMap
from liverattn.prediction.results import Prediction, failed, predictions_table, preparation_warnings

Precision = Literal["float32", "bfloat16"]
NO_BOXES = np.zeros((0, 4))
_Running = dict[str, list[Future[tuple[NDArray[np.float64], NDArray[np.float32]]]]]


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A decoded image, prepared for every architecture."""

    case: Case
    image: Grey
    remarks: tuple[str, ...]
    region: Window | None
    parts: tuple[PreparedImage, ...]


class Predictor:
    """Averages a bundle's members, each task from its own copy; networks that are the same run once.

    An image is prepared from its pixels alone: boxes that are known of it change nothing, so that the same picture
    gives the same numbers wherever it comes from.

    Args:
        bundle: The networks and how images are prepared for them.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.
        precision: ``float32``; ``bfloat16`` is faster where the processor has it, and changes probabilities in the
            second or third digit.
        batch_size: Images at once.
        workers: Threads that decode and prepare ahead; None: one, which keeps two cores busy.

    Raises:
        InputError: No such device, or a bundle whose weights do not fit.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        precision: Precision = "float32",
        batch_size: int = 8,
        workers: int | None = None,
    ) -> None:
        expect_choice("precision", precision, ("float32", "bfloat16"))
        expect_whole("batch_size", batch_size, 1)
        self.contents, self.digest, self.batch_size, self.precision = (
            bundle.contents,
            bundle.digest,
            batch_size,
            precision,
        )
        self.device = _device(device)
        self._workers = workers or max(1, (os.cpu_count() or 1) // 4)
        # Many passes with one thread each are faster than one pass with many: they do not wait for each other, nor for
        # a core that decodes or draws just now.
        self._streams = torch.get_num_threads() if self.device.type == "cpu" else 1
        self._networks = {
            digest: network.to(self.device).to(memory_format=torch.channels_last)
            for digest, network in bundle.networks().items()
        }
        self._steps = [one.preparation.steps() for one in self.contents.architectures]
        self._outputs = list(self.contents.outputs)

    def predict(
        self, images: Any, *, root: str | Path | None = None, frames: FrameChoice = "middle"
    ) -> list[Prediction]:
        """Predict on everything that ``images`` names; see :func:`~liverattn.prediction.images.cases_of`.

        Returns:
            One prediction per image, in order; a broken image has its ``error`` set.
        """
        cases, _ = cases_of(images, root=None if root is None else Path(root), frames=frames)
        return list(self.stream(cases))

    def table(self, predictions: Sequence[Prediction]) -> pd.DataFrame:
        """Predictions as the table that ``python -m liverattn.predict`` writes."""
        return predictions_table(predictions, self.contents)

    def stream(self, cases: Iterable[Case]) -> Iterator[Prediction]:
        """Predict one batch after the other, in order; memory does not grow with their number."""
        with (
            ThreadPoolExecutor(self._workers) as pool,
            ThreadPoolExecutor(self._streams, initializer=_one_thread, initargs=(self._streams,)) as passes,
        ):
            waiting: deque[Future[_Prepared | Prediction]] = deque()
            source = iter(cases)
            try:
                running: Iterator[Prediction] = iter(())
                while True:
                    while len(waiting) < 3 * self.batch_size and (case := next(source, None)) is not None:
                        waiting.append(pool.submit(self._prepare, case))
                    count = min(self.batch_size, len(waiting))
                    begun = self._batch([waiting.popleft().result() for _ in range(count)], passes)
                    yield from running  # while the next batch is in the networks
                    if not count:
                        return
                    running = begun
            finally:
                pool.shutdown(cancel_futures=True)
                passes.shutdown(cancel_futures=True)

    def _prepare(self, case: Case) -> _Prepared | Prediction:
        try:
            image, remarks, region = case.read()
            made: dict[Any, PreparedImage] = {}
            for steps in self._steps:
                made.setdefault(steps, steps.apply(image, NO_BOXES))
            return _Prepared(case, image, remarks, region, tuple(made[steps] for steps in self._steps))
        except ImageError as error:
            return failed(case, str(error))
        except MemoryError:
            return failed(case, "is too large for this machine's memory")

    def _batch(self, batch: Sequence["_Prepared | Prediction"], passes: Executor) -> Iterator[Prediction]:
        """Send a batch to the networks at once; its predictions follow when they are asked for."""
        good = [one for one in batch if isinstance(one, _Prepared)]
        running = self._begin(good, passes) if good else {}

        def predictions() -> Iterator[Prediction]:
            done = iter(self._predictions(good, running) if good else [])
            yield from (next(done) if isinstance(one, _Prepared) else one for one in batch)

        return predictions()

    def _predictions(self, batch: Sequence[_Prepared], running: "_Running") -> Iterator[Prediction]:
        logits, attention = self._collected(running)
        members = np.stack([self._probabilities(member, logits) for member in self.contents.members])
        weights = np.array([member.weight for member in self.contents.members])[:, None, None] * ~np.isnan(members)
        weights /= weights.sum(axis=0)
        mean = np.nansum(weights * members, axis=0)
        spread = np.sqrt(np.nansum(weights * (members - mean) ** 2, axis=0))
        for row, one in enumerate(batch):
            yield Prediction(
                case=one.case,
                probabilities=dict(zip(self._outputs, mean[row].tolist(), strict=True)),
                spread=dict(zip(self._outputs, spread[row].tolist(), strict=True)) if len(members) > 1 else {},
                maps=tuple(self._placed(k, attention[k][row], part) for k, part in enumerate(one.parts)),
                image=one.image,
                kept=one.parts[0].kept,
                median=one.parts[0].median,
                region=one.region,
                warnings=(*one.remarks, *preparation_warnings(one.parts[0], self._steps[0])),
            )

    def _begin(self, batch: Sequence[_Prepared], passes: Executor) -> "_Running":
        """Every network's passes over its shares of a batch."""
        inputs: dict[Any, Sequence[torch.Tensor]] = {}
        running: _Running = {}
        for member in self.contents.members:
            steps = self._steps[member.architecture]
            if steps not in inputs:
                images = self._input([one.parts[member.architecture] for one in batch], clip=steps.clip)
                inputs[steps] = images.chunk(self._streams)
            for copy in member.copies.values():
                if copy.network not in running:
                    network = self._networks[copy.network]
                    running[copy.network] = [passes.submit(self._run, network, part) for part in inputs[steps]]
        return running

    def _collected(self, running: "_Running") -> tuple[Mapping[str, NDArray[np.float64]], list[NDArray[np.float32]]]:
        """Probabilities (B, K) of every network, and each architecture's attention sigmoid(s) (B, h, w)."""
        probabilities, scores = {}, {}
        for digest, parts in running.items():
            done = [part.result() for part in parts]
            probabilities[digest] = np.concatenate([found for found, _ in done])
            scores[digest] = np.concatenate([found for _, found in done])
        return probabilities, [self._attention(k, scores) for k in range(len(self._steps))]

    def _input(self, parts: Sequence[PreparedImage], *, clip: bool) -> torch.Tensor:
        """(B, 1, H, W) intensities after Eq. 1, in float32 as in training."""
        image = torch.from_numpy(np.stack([part.image for part in parts]))[:, None].to(self.device)
        factor = torch.tensor([part.factor for part in parts], dtype=torch.float32, device=self.device)
        scaled = image.float() * factor.view(-1, 1, 1, 1)
        return scaled.clamp(max=255.0) if clip else scaled

    @torch.inference_mode()
    def _run(self, network: LesionClassifier, images: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            logits, scores = network(images)
        return expit(logits.double().cpu().numpy()), torch.sigmoid(scores.float())[:, 0].cpu().numpy()

    def _probabilities(self, member: MemberPart, networks: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """(B, K) of one member, each output from its task's copy; NaN where the member has none."""
        columns = []
        for task in self.contents.tasks:
            places = [self._outputs.index(output) for output in task.outputs]
            copy = member.copies.get(task.name)
            some = next(iter(networks.values()))
            columns.append(
                np.full((len(some), len(places)), np.nan) if copy is None else networks[copy.network][:, places]
            )
        return np.concatenate(columns, axis=1)

    def _attention(self, architecture: int, scores: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, h, w): the mean over an architecture's fold runs, of the copy of the first task that each has."""
        copies = [
            next(member.copies[task.name] for task in self.contents.tasks if task.name in member.copies)
            for member in self.contents.members
            if member.architecture == architecture
        ]
        return np.asarray(np.mean([scores[copy.network] for copy in copies], axis=0), dtype=np.float32)

    def _placed(self, architecture: int, attention: NDArray[np.float32], part: PreparedImage) -> PlacedMap:
        weight = sum(m.weight for m in self.contents.members if m.architecture == architecture)
        return PlacedMap(attention, part.window, weight)


def _one_thread(streams: int) -> None:
    if streams > 1:
        torch.set_num_threads(1)  # of this thread's operations only


def _device(name: str) -> torch.device:
    expect_choice("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this machine has no GPU that torch can use. Use device=auto or device=cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
