"""The numbers that the paper printed, to be shown beside ours.

Schmauch et al., Diagnostic and Interventional Imaging 100 (2019) 227-233: Tables 2 and 3, mean (deviation) over three
shuffled three-fold cross-validations. The scores by Eq. 4 are computed from them. The deviation of "AUC type" is the
mean of the five classes' deviations (.0584 in Table 3), not that of the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CITATION = "Schmauch et al. 2019, Tables 2 and 3, on data that are not public"
OUTPUTS = ("lesion", "malignancy", "angioma", "hcc", "fnh", "cyst", "metastasis")


@dataclass(frozen=True)
class Published:
    """A printed number.

    Attributes:
        mean: Over nine fold runs.
        deviation: None where the paper gives none.
        deviation_of_outputs: Mean of the types' deviations.
    """

    mean: float
    deviation: float | None = None
    deviation_of_outputs: float | None = None


def _row(lesion: Published, malignancy: Published, types: Published, score: float) -> dict[str, Published]:
    return {"lesion": lesion, "malignancy": malignancy, "type": types, "score": Published(score)}


def _types(mean: float, deviation: float) -> Published:
    return Published(mean, deviation_of_outputs=deviation)


# By the experiment of ours that repeats it: trunk, height x width, scales of Eq. 3.
Design = tuple[str, tuple[int, int], tuple[float, ...]]
DESIGNS: Mapping[str, Design] = {
    "resnet_240": ("resnet50", (240, 345), (1.0,)),
    "resnet_480": ("resnet50", (480, 690), (1.0,)),
    "densenet_240": ("densenet121", (240, 345), (0.25, 1.0)),
}

# fmt: off
TABLE_2: Mapping[str, Mapping[str, Published]] = {
    "resnet_240": _row(Published(.913, .027), Published(.930, .040), _types(.895, .060), .9145),
    "resnet_480": _row(Published(.906, .029), Published(.910, .044), _types(.910, .060), .9080),
    "densenet_240": _row(Published(.912, .021), Published(.917, .044), _types(.900, .062), .9111),
    "ensemble": _row(Published(.935, .022), Published(.942, .044), _types(.916, .058), .9333),
}
TABLE_3: Mapping[str, Published] = {
    "angioma": Published(.898, .067),
    "metastasis": Published(.886, .052),
    "hcc": Published(.931, .072),
    "cyst": Published(.954, .017),
    "fnh": Published(.909, .084),
    "type": _types(.9156, .0584),
}
# fmt: on
