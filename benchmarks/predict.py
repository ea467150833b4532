"""Prediction from files on disk against a bare loop of the same networks on prepared tensors, side by side.

    python -m benchmarks.predict BUNDLE IMAGES [--root FOLDER] [--images 96] [--rounds 5] [--plain]

Both run in one process and take turns; the job decodes, prepares, predicts, and writes its journal, an overlay and the
report's picture of every image. ``--plain``: without overlays and pictures. Printed are the ratio of the medians (the
target is 0.85 or more) and both speeds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch

import liverattn
from liverattn.prediction.images import Case, cases_of
from liverattn.prediction.job import JobOptions, PredictionJob
from liverattn.prediction.predictor import Predictor, _Prepared


def prepared_batches(predictor: Predictor, cases: Sequence[Case]) -> list[list[torch.Tensor]]:
    """Per batch, the input of every architecture."""
    size, found = predictor.batch_size, [predictor._prepare(case) for case in cases]
    good = [one for one in found if isinstance(one, _Prepared)]
    return [
        [
            predictor._input([one.parts[k] for one in good[i : i + size]], clip=steps.clip)
            for k, steps in enumerate(predictor._steps)
        ]
        for i in range(0, len(good), size)
    ]


@torch.inference_mode()
def bare(predictor: Predictor, batches: list[list[torch.Tensor]]) -> float:
    """Seconds of the forward passes alone."""
    architecture_of = {
        copy.network: member.architecture for member in predictor.contents.members for copy in member.copies.values()
    }
    started = time.perf_counter()
    for inputs in batches:
        for digest, network in predictor._networks.items():
            network(inputs[architecture_of[digest]])
    return time.perf_counter() - started


def job(predictor: Predictor, cases: Sequence[Case], options: JobOptions) -> float:
    """Seconds of a whole job in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        work = PredictionJob(Path(folder), predictor, cases, options)
        started = time.perf_counter()
        work.run()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("images")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--images", dest="count", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    cases = cases_of(arguments.images, root=arguments.root)[0][: arguments.count]
    predictor = liverattn.load(arguments.bundle)
    point = next(point.name for points in predictor.contents.operating_points.values() for point in points)
    options = JobOptions(operating_point=point, overlays=not arguments.plain, pictures=0 if arguments.plain else 2000)
    batches = prepared_batches(predictor, cases)
    bare(predictor, batches[:1])
    times: dict[str, list[float]] = {"bare": [], "job": []}
    for _ in range(arguments.rounds):
        times["bare"].append(bare(predictor, batches))
        times["job"].append(job(predictor, cases, options))
    speed = {name: len(cases) / statistics.median(values) for name, values in times.items()}
    spans = {name: f"{len(cases) / max(v):.1f} to {len(cases) / min(v):.1f}" for name, v in times.items()}
    print(f"{len(predictor.contents.networks)} networks, {len(cases)} images, {torch.get_num_threads()} threads")
    for name, value in speed.items():
        print(f"{name:5} {value:6.2f} images/s ({spans[name]})")
    print(f"job / bare = {speed['job'] / speed['bare']:.3f}")


if __name__ == "__main__":
    main()
