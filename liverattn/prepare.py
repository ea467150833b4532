"""Any source to a checked manifest and prepared images: ``python -m liverattn.prepare data=...``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from liverattn.configuration import build, verb

if TYPE_CHECKING:
    from liverattn.data.cache import PreparedCases
    from liverattn.data.manifest import Manifest

PLAUSIBLE_MEDIAN = (20, 150)


def prepared_data(cfg: DictConfig) -> tuple["Manifest", "PreparedCases"]:
    """Read and check the cases of ``cfg.data`` and prepare their images, as far as that is not done yet."""
    from liverattn.data.cache import prepare_cases
    from liverattn.data.sources import without

    manifest = without(build(cfg.data.source).manifest(), cfg.data.exclude)
    return manifest, prepare_cases(manifest, build(cfg.data.preprocessing), Path(cfg.paths.cache))


def findings(manifest: "Manifest", cases: "PreparedCases") -> Sequence[str]:
    """What a person should know of the data, counted."""
    import numpy as np

    low, high = PLAUSIBLE_MEDIAN
    lesion = manifest.table["lesion"].to_numpy() == 1
    height, width = cases.size
    counted = {
        "lesion image(s) without boxes: no part in the attention loss": sum(
            is_lesion and boxes is None for is_lesion, boxes in zip(lesion, cases.boxes, strict=True)
        ),
        "image(s) with a black top region: intensities left as they are": int(np.isnan(cases.medians).sum()),
        f"image(s) with m outside {low} to {high}": int(((cases.medians < low) | (cases.medians > high)).sum()),
        f"image(s) smaller than {width}x{height}: enlarged": int(
            ((cases.originals[:, 0] < width) | (cases.originals[:, 1] < height)).sum()
        ),
    }
    return [*manifest.warnings, *(f"{count} {what}" for what, count in counted.items() if count)]


def report(manifest: "Manifest", cases: "PreparedCases") -> None:
    """Print counts in the form of Table 1, distributions and warnings."""
    import numpy as np
    from rich.console import Console

    from liverattn.data.splits import strata
    from liverattn.reporting.tables import counts_table, distribution_table

    kinds = strata(manifest.table)
    counts = {kind: kinds.count(kind) for kind in ("none", *sorted(set(kinds) - {"none"})) if kind in kinds}
    boxed = [boxes for boxes in cases.boxes if boxes is not None]
    area = [100 * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum() / np.prod(cases.size) for boxes in boxed]
    quantities = {
        "m of Eq. 1 (0 to 255)": cases.medians[~np.isnan(cases.medians)],
        "width (pixels)": cases.originals[:, 0],
        "height (pixels)": cases.originals[:, 1],
        "boxes (% of the prepared lesion image)": np.array([share for share in area if share > 0]),
    }
    names = {"min": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "max": 1.0}
    console = Console()
    console.print(counts_table(counts))
    console.print(
        distribution_table(
            {
                quantity: {name: float(np.quantile(values, q)) for name, q in names.items()}
                for quantity, values in quantities.items()
                if len(values)
            }
        )
    )
    for warning in findings(manifest, cases):
        print(f"Warning: {warning}")


@verb("prepare")
def main(cfg: DictConfig) -> None:
    """Prepare the data of ``cfg.data`` and report on them."""
    manifest, cases = prepared_data(cfg)
    report(manifest, cases)
    print(f"Prepared images: {cfg.paths.cache} (data fingerprint {cases.fingerprint[:12]})")
    print(f"Next: python -m liverattn.train +experiment=resnet_240 data={cfg.data.name} ...")


if __name__ == "__main__":
    main()
