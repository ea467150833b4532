"""Which precision, memory format and number of threads train a network fastest here (``trainer=auto``): timed."""

import json
import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from liverattn.cuda_graphs import Tensors
from liverattn.files import digest, write_json
from liverattn.models.classifier import LesionClassifier
from liverattn.training.hardware import Hardware, processor
from liverattn.training.objective import attention_loss, output_loss
from liverattn.training.optimization import SgdRecipe
from liverattn.training.training_pass import TrainingPass

SECONDS = 15.0  # no further round is begun after these; the slowest first round on two cores takes 10
ROUNDS = 5
HOPELESS = 1.25  # times the fastest: not timed again
IMAGES = {"cpu": 4, "gpu": 16}  # of a step: on a CPU ratios are those of a whole batch, at a fraction of its time


def fastest(
    candidates: Sequence[Hardware], step: Callable[[Hardware], float]
) -> tuple[Hardware, dict[Hardware, float]]:
    """Time candidates in turns, so that a machine whose speed drifts does not decide, and leave out what is hopeless.

    The fastest step of each counts: other work on the machine can only slow it. For the same reason nothing is left out
    after one step, unless a second round of everything would take too long.

    Args:
        candidates: At least one.
        step: Seconds of one training step.

    Returns:
        The one with the fastest step, and the fastest step of each.
    """
    times: dict[Hardware, list[float]] = {one: [] for one in candidates}
    left, started = list(candidates), time.perf_counter()
    for turn in range(ROUNDS):
        for one in left:
            times[one].append(step(one))
        smallest = {one: min(seconds) for one, seconds in times.items()}
        spent = time.perf_counter() - started
        if turn or spent > SECONDS / 2:
            left = [one for one in left if smallest[one] <= HOPELESS * min(smallest.values())]
        if len(left) == 1 or spent > SECONDS:
            break
    return min(left, key=lambda one: smallest[one]), smallest


def remembered_fastest(
    model: LesionClassifier, size: tuple[int, int], recipe: SgdRecipe, usual: Hardware, *, memory: Path
) -> Hardware:
    """The fastest way to train a network on this machine, timed once and then remembered.

    Args:
        model: Not changed, nor are random numbers.
        size: (height, width) of its input.
        recipe: Frozen stages save time.
        usual: What is chosen without timing; its accelerator stays.
        memory: JSON file of what was timed; if it cannot be read it is written anew.

    Returns:
        One of :func:`candidates`.
    """
    key = digest([_machine(), str(model.trunk), list(size), list(recipe.frozen)])  # a sweep over lambda has one
    known = _read(memory)
    if key not in known:
        stepper = _Stepper(model, size, recipe)
        started = time.perf_counter()
        best, seconds = fastest(candidates(usual), stepper)
        images = IMAGES[usual.accelerator]
        milliseconds = {_name(one): round(1000 * value / images, 2) for one, value in seconds.items()}
        known[key] = {**asdict(best), "ms_per_image": milliseconds, "seconds": round(time.perf_counter() - started, 1)}
        write_json(memory, known)
        print(f"Fastest here: {_name(best)} ({milliseconds[_name(best)]} ms per image; {memory} has the others)")
    found = known[key]
    return replace(usual, precision=found["precision"], channels_last=found["channels_last"], threads=found["threads"])


def candidates(usual: Hardware) -> list[Hardware]:
    """All precisions and memory formats with all threads; on a CPU the usual one with half of them as well.

    Beside float32 the usual precision only: what has no instructions for another one emulates it, several times slower.
    """
    precisions = dict.fromkeys((usual.precision, "32-true"))
    made = [
        replace(usual, precision=precision, channels_last=last)
        for precision, last in product(precisions, (True, False))
    ]
    if usual.accelerator == "cpu" and usual.threads > 1:
        made.append(replace(usual, threads=usual.threads // 2))
    return made


class _Stepper:
    """Training steps of copies of a network on gray images."""

    def __init__(self, model: LesionClassifier, size: tuple[int, int], recipe: SgdRecipe) -> None:
        self.model, self.size, self.recipe = model, size, recipe
        self.grid = model.grid(*size)

    def __call__(self, hardware: Hardware) -> float:
        devices = [torch.cuda.current_device()] if hardware.accelerator == "gpu" else []
        with hardware.limited_threads(), torch.random.fork_rng(devices):
            return self._seconds(hardware)

    def _seconds(self, hardware: Hardware) -> float:
        device = torch.device("cuda" if hardware.accelerator == "gpu" else "cpu")
        kind = torch.channels_last if hardware.channels_last else torch.contiguous_format
        model, images = deepcopy(self.model).to(device), IMAGES[hardware.accelerator]
        model.to(memory_format=kind).train()
        self.recipe.freeze(model)
        optimizer, _ = self.recipe.build(model, ROUNDS)
        labels = torch.zeros(images, model.head.out_features, device=device)
        target = torch.zeros(images, 1, *self.grid, device=device)

        def losses(inputs: Tensors) -> Tensors:
            logits, scores = model(inputs["image"])
            loss = output_loss(logits, labels, torch.ones_like(labels))
            return {"loss": loss + attention_loss(scores, target, torch.ones_like(target[:, 0, 0, 0]))}

        # As it will be trained: launched one by one, the kernels of every way would wait for Python alike.
        training_pass = TrainingPass(losses, model, capture=device.type == "cuda" and hardware.precision != "16-mixed")
        image = torch.full((images, 1, *self.size), 70.0, device=device)
        seconds = 0.0
        for _ in range(2):  # the first one makes plans and takes memory
            started = time.perf_counter()
            with hardware.autocast():
                loss = training_pass({"image": image})["loss"]
            optimizer.zero_grad()
            training_pass.backward(loss)
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        return seconds


def _name(hardware: Hardware) -> str:
    layout = "channels_last" if hardware.channels_last else "contiguous"
    return f"{hardware.precision}, {layout}, {hardware.threads} threads"


def _machine() -> list[object]:
    """What the timings hold for."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return [processor(), os.cpu_count(), torch.get_num_threads(), gpu, torch.__version__]


def _read(memory: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
