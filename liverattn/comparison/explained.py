"""What finished fold runs say of every held-out image, and where they looked: from their files, without a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liverattn.comparison.architectures import FinishedRun
from liverattn.comparison.consistency import check_folds
from liverattn.comparison.held_out import REMEDY, FoldPredictions, join, read_folds
from liverattn.comparison.subjects import Member, Subject
from liverattn.data.cache import PreparedCases
from liverattn.data.manifest import Manifest
from liverattn.data.targets import boxes_to_mask, mask_to_grid
from liverattn.errors import InputError
from liverattn.evaluation.crossvalidation import average_probabilities
from liverattn.evaluation.localization import attention_quality
from liverattn.evaluation.mean_attention import Attention, mean_attention
from liverattn.training.outputs import Outputs, read_outputs
from liverattn.training.results import QUALITY, attention_maps

Maps = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """The images of a member, as its configuration names them.

    Attributes:
        manifest: All cases.
        cases: The same, prepared.
    """

    manifest: Manifest
    cases: PreparedCases


@dataclass(frozen=True)
class Explained:
    """Every held-out image once, in the order of their image_ids.

    Attributes:
        subject: Whose predictions.
        data: All cases, prepared as for the first member.
        rows: (n,) of the data.
        truth: (n, K) 0, 1, or NaN where unknown.
        probability: (n, K) averaged over members, then over repeats; NaN where there is no copy.
        weights: (n, h, w) attention maps by task, averaged likewise; NaN where there is no copy.
        scores: (n, h, w) attention logits by task: those of the mean of sigmoid(s).
    """

    subject: Subject
    data: Data
    rows: NDArray[np.int64]
    truth: NDArray[np.float64]
    probability: NDArray[np.float64]
    weights: Mapping[str, Maps]
    scores: Mapping[str, Maps]

    @property
    def seen_task(self) -> str:
        """The task whose copies stand for where the networks look: ``lesion``, or the first that has copies."""
        with_copies = [task for task, scores in self.scores.items() if not np.isnan(scores).all()]
        return "lesion" if "lesion" in with_copies else [*with_copies, *self.scores][0]

    @property
    def table(self) -> pd.DataFrame:
        """Their n rows of the manifest's table."""
        return self.data.manifest.table.loc[self.rows].reset_index(drop=True)

    def boxes(self, case: int) -> NDArray[np.float64] | None:
        """(N, 4) of one image in prepared pixels; None where unknown."""
        return self.data.cases.boxes[int(self.rows[case])]

    def image(self, case: int) -> NDArray[np.float64]:
        """(H, W) intensities of one image as the network gets it."""
        row = int(self.rows[case])
        return np.asarray(self.data.cases.image(row) * self.data.cases.factors[row], dtype=np.float64)

    def quality(self, task: str) -> pd.DataFrame:
        """Attention quality of every image under the copies of one task; NaN where there is none."""
        found: list[dict[str, Any]] = []
        for case, (weights, scores) in enumerate(zip(self.weights[task], self.scores[task], strict=True)):
            if np.isnan(scores).any():
                found.append({})
                continue
            boxes, size = self.boxes(case), self.data.cases.size
            target = None if boxes is None else mask_to_grid(boxes_to_mask(boxes, size), scores.shape)
            found.append(asdict(attention_quality(weights, scores, target, boxes, size)))
        return pd.DataFrame(found, columns=list(QUALITY))


def explain(subject: Subject, data: Sequence[Data]) -> Explained:
    """Read the fold runs of a subject, check them, and average over members and repeats.

    Args:
        subject: With M members.
        data: Of each of them.

    Raises:
        InputError: The images or labels are not those that a run was made from, or a file is absent or damaged.
    """
    for member, of_member in zip(subject.members, data, strict=True):
        _check_data(member, of_member)
    inner = subject.members[0].any_run.is_inner
    folds = [read_folds(member.architecture, subject.cells, inner=inner) for member in subject.members]
    if subject.kind == "ensemble":
        check_folds([fold for of_member in folds for fold in of_member])
    joined = [join(of_member) for of_member in folds]
    keys = joined[0].keys
    images, places = np.unique(keys["image_id"].to_numpy(dtype=str), return_inverse=True)
    probability = average_probabilities(
        [part.probabilities[subject.protocol] for part in joined],
        np.array([member.weight for member in subject.members]),
    )
    maps = {task.name: _attention(subject, data, folds, images, task.name) for task in subject.tasks}
    return Explained(
        subject=subject,
        data=data[0],
        rows=_rows(images, data[0], subject.folder.name),
        truth=_means(joined[0].truth, places),
        probability=_means(probability, places),
        weights={task: weights for task, (weights, _) in maps.items()},
        scores={task: scores for task, (_, scores) in maps.items()},
    )


def _check_data(member: Member, data: Data) -> None:
    for run in member.runs.values():
        if run.fingerprint != data.cases.fingerprint:
            raise InputError(
                f"The images or labels of {run.data_name} are not those that {run.folder.path} was made from: their "
                f"fingerprint is {data.cases.fingerprint[:12]}, and that of the run {run.fingerprint[:12]}. Restore "
                "them (root=... says where they lie now), or run the fold again."
            )


def _means(values: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of every image over its repeats, without the repeats that have none."""
    return np.asarray(pd.DataFrame(values).groupby(places).mean().to_numpy(dtype=np.float64))


def _rows(images: Sequence[str] | NDArray[np.str_], data: Data, name: str) -> NDArray[np.int64]:
    rows = pd.Index(data.manifest.table["image_id"]).get_indexer(list(images))
    if (rows < 0).any():
        stranger = list(images)[int(np.argmin(rows))]
        raise InputError(f"{name}: the image {stranger!r} is not in the data. {REMEDY}")
    return np.asarray(rows, dtype=np.int64)


def _attention(
    subject: Subject,
    data: Sequence[Data],
    folds: Sequence[Sequence[FoldPredictions]],
    images: NDArray[np.str_],
    task: str,
) -> tuple[Maps, Maps]:
    """Mean maps and logits of every image under the copies of one task."""
    parts: dict[str, list[Attention]] = {str(image): [] for image in images}
    for member, of_member, own in zip(subject.members, folds, data, strict=True):
        for fold in of_member:
            for image, attention in _fold_attention(member, fold, own, subject.protocol, task):
                parts[image].append(attention)
    shapes = [part.scores.shape for of_image in parts.values() for part in of_image]
    if not shapes:
        nowhere = np.full((len(images), 1, 1), np.nan)
        return nowhere, nowhere
    grid = (max(shape[0] for shape in shapes), max(shape[1] for shape in shapes))
    rows = _rows(images, data[0], subject.folder.name)
    weights, scores = np.full((2, len(images), *grid), np.nan)
    for place, (row, of_image) in enumerate(zip(rows, parts.values(), strict=True)):
        if of_image:
            weights[place], scores[place] = mean_attention(of_image, grid, data[0].cases.window(row))
    return weights, scores


def _fold_attention(
    member: Member, fold: FoldPredictions, data: Data, protocol: str, task: str
) -> Iterator[tuple[str, Attention]]:
    """Image by image what the task's copy of one fold run attends to; nothing where there is no copy."""
    run = member.runs[fold.cell]
    epoch = _epoch(run, protocol, task)
    if epoch is None:
        return
    images = fold.held_out.keys["image_id"].to_numpy(dtype=str)
    outputs = _held_out(run, epoch, _rows(images, data, fold.name))
    for image, row, weights, scores in zip(
        images, outputs.rows, attention_maps(outputs, run.lambdas), outputs.scores, strict=True
    ):
        yield str(image), Attention(weights, scores, data.cases.window(row), member.weight)


def _epoch(run: FinishedRun, protocol: str, task: str) -> int | None:
    table = run.folder.read_predictions()
    epochs = table.loc[(table["protocol"] == protocol) & (table["task"] == task), "epoch"]
    return None if epochs.empty else int(epochs.iloc[0])


def _held_out(run: FinishedRun, epoch: int, rows: NDArray[np.int64]) -> Outputs:
    """Recorded outputs of one epoch, in the order of these rows."""
    path = run.folder.epoch(epoch)
    outputs = read_outputs(path)
    known = pd.Series(np.arange(len(outputs.rows)), index=outputs.rows).reindex(rows)
    if known.isna().any() or not np.isfinite(outputs.scores).all():
        raise InputError(f"{path} lacks a held-out image, or an attention logit in it is not finite. {REMEDY}")
    chosen = known.to_numpy(dtype=np.int64)
    return Outputs(outputs.rows[chosen], outputs.logits[chosen], outputs.scores[chosen])
