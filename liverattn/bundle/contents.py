"""``bundle.json``: its schema, and nothing that it takes to read networks."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from liverattn.data.preprocessing import Preprocessing

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

LARGEST_SIDE = 4096  # pixels of an input: a few digits of a bundle must not claim all memory


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrunkPart(_Part):
    """A trunk by name; see :func:`~liverattn.models.backbones.build_backbone`."""

    name: str
    library: Literal["torchvision", "timm"]
    cut: str | None


class PreparationPart(_Part):
    """How an image becomes the network's input; see :class:`~liverattn.data.preprocessing.Preprocessing`."""

    height: int = Field(ge=32, le=LARGEST_SIDE)
    width: int = Field(ge=32, le=LARGEST_SIDE)
    crop: bool
    aspect: Literal["pad", "crop", "stretch"]
    intensity: Literal["top", "brightest", "off"]
    clip: bool

    def steps(self) -> Preprocessing:
        """The steps themselves."""
        return Preprocessing(**self.model_dump())


class ArchitecturePart(_Part):
    """One row of Table 2: what its networks share."""

    label: str
    trunk: TrunkPart
    lambdas: tuple[float, ...] = Field(min_length=1)
    mirror: bool = False  # which bundles of an older version do not say
    preparation: PreparationPart


class CopyPart(_Part):
    """The weights that a task is predicted with: the digest of their file, and the epoch (from 0) that they are of."""

    network: Digest
    epoch: int


class MemberPart(_Part):
    """One fold run: its share of the mean, and each task's own copy."""

    architecture: int = Field(ge=0)
    repeat: int
    fold: int
    weight: float = Field(gt=0)
    copies: dict[str, CopyPart] = Field(min_length=1)


class TaskPart(_Part):
    """See :class:`~liverattn.evaluation.scores.Task`."""

    name: str
    outputs: tuple[str, ...] = Field(min_length=1)
    weight: float
    conditional: bool


class RangePart(_Part):
    """A number with its 95 % interval; null where undefined."""

    value: float | None
    low: float | None
    high: float | None


class PointPart(_Part):
    """A threshold and what it gave on out-of-fold predictions; see ``evaluation.operating_points``."""

    name: str
    threshold: float
    sensitivity: RangePart
    specificity: RangePart
    positives: int
    negatives: int


class MetricsPart(_Part):
    """AUC of every output and task, and ``score`` (Eq. 4), of out-of-fold predictions under one protocol."""

    protocol: str
    fold_runs: int
    cases: int
    auc: dict[str, RangePart]


class CostPart(_Part):
    """Forward passes per image, and their milliseconds as measured when the bundle was made."""

    passes: int
    milliseconds: float
    machine: str


class DataPart(_Part):
    """What the networks were trained on: no names of images or patients."""

    name: str
    fingerprint: str
    assignment: str
    counts: dict[str, int]


class Contents(_Part):
    """``bundle.json``.

    Attributes:
        name: Of the bundle.
        created: Date, ISO 8601.
        protocol: That chose the copies.
        tasks: Their outputs are the columns of predictions, in this order.
        architectures: Of the members.
        members: Averaged with their weights, which add up to 1.
        operating_points: By output.
        metrics: Of the ensemble (of the run) that the bundle comes from.
        data: Trained on.
        costs: Of one image, with ``one`` or ``all`` fold runs of each architecture.
        versions: Of the packages that trained; empty where no run recorded them.
    """

    format: Literal["liverattn-bundle"] = "liverattn-bundle"
    version: Literal[1] = 1
    name: str
    created: str
    protocol: str
    tasks: tuple[TaskPart, ...] = Field(min_length=1)
    architectures: tuple[ArchitecturePart, ...] = Field(min_length=1)
    members: tuple[MemberPart, ...] = Field(min_length=1)
    operating_points: dict[str, tuple[PointPart, ...]]
    metrics: MetricsPart
    data: DataPart
    costs: dict[str, CostPart]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _hangs_together(self) -> "Contents":
        tasks = {task.name for task in self.tasks}
        if {task for member in self.members for task in member.copies} != tasks:
            raise ValueError(f"the members' copies are not of the tasks {', '.join(sorted(tasks))}")
        if {member.architecture for member in self.members} != set(range(len(self.architectures))):
            raise ValueError("members and architectures do not fit together")
        if abs(sum(member.weight for member in self.members) - 1) > 1e-6:
            raise ValueError("the members' weights do not add up to 1")
        if not set(self.operating_points) <= set(self.outputs):
            raise ValueError("an operating point is of no output")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the K outputs."""
        return tuple(output for task in self.tasks for output in task.outputs)

    def thresholds(self, point: str) -> dict[str, float]:
        """Of an operating point, by output; without the outputs that do not have it."""
        found = {
            output: [one for one in points if one.name == point] for output, points in self.operating_points.items()
        }
        return {output: points[0].threshold for output, points in found.items() if points}

    @property
    def digest(self) -> str:
        """Of all that predictions and their meaning rest on: the same whenever and wherever the bundle is made."""
        # Without defaults, so that a bundle keeps its digest when the schema gets another entry.
        content = self.model_dump_json(exclude={"created", "costs"}, exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def networks(self) -> tuple[str, ...]:
        """Digests of all weights, each once."""
        return tuple(dict.fromkeys(found.network for member in self.members for found in member.copies.values()))
