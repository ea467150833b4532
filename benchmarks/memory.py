"""Peak memory of a fold run against a bare loop: same network, precision, batch and threads, each in its own process.

    python -m benchmarks.memory +experiment=resnet_240 backbone.weights=null data=aul

Two short epochs; the bare loop holds its batches as prepared float tensors, and neither validates nor writes anything.
It gives freed memory back to the system, as a program does that says nothing of it; a fold run keeps it.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.machine import described
from benchmarks.runs import composed
from liverattn.training import fold_run
from liverattn.training.objective import attention_loss, output_loss

STEPS = 4


def bare(fold: fold_run.FoldRun) -> None:
    """As many steps as two epochs of the fold run have."""
    data = fold._data(fold.model.grid(*fold.cases.size))
    data.trainer = None
    batches = [data.on_after_batch_transfer(batch, 0) for batch, _ in zip(data.train_dataloader(), range(STEPS))]  # noqa: B905
    model = fold.model.to(memory_format=torch.channels_last if fold.hardware.channels_last else torch.contiguous_format)
    model.train()
    for stage in fold.recipe.freeze(model):
        stage.eval()
    optimizer, _ = fold.recipe.build(model, 2 * STEPS)
    enabled = fold.hardware.precision != "32-true"
    with fold.hardware.limited_threads():
        for batch in 2 * batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                logits, scores = model(batch["image"])
            loss = output_loss(logits, batch["labels"], batch["label_weight"])
            optimizer.zero_grad()
            (loss + attention_loss(scores, batch["target"], batch["target_weight"])).backward()
            optimizer.step()


def main() -> None:
    """Print MiB of both, what was there before the first step, and the ratio."""
    ways = {"bare": bare, "framework": fold_run.FoldRun.execute}
    if sys.argv[1] in ways:
        way, folder, *overrides = sys.argv[1:]
        fold = composed(overrides, Path(folder) / way)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ways[way](fold)
        print("PEAK", before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in ("framework", "bare", "framework"):  # the first one also prepares and times what is fastest
            more = [
                f"trainer.limit_batches={STEPS}",
                "trainer.max_epochs=2",
                "tracking=none",
                f"paths.outputs={folder}",
            ]
            command = [sys.executable, "-m", "benchmarks.memory", way, folder, *sys.argv[1:], *more]
            environment = os.environ | ({"GLIBC_TUNABLES": "glibc.malloc.check=0"} if way == "bare" else {})
            told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
            before, peaks[way] = map(float, told.splitlines()[-1].split()[1:])
            print(f"{way:10s} {peaks[way]:6.0f} MiB at the peak, {before:6.0f} before the first step")
            if way == "framework" and "bare" not in peaks:
                (Path(folder) / way).rename(Path(folder) / "first")
    print(f"{described()}; {' '.join(sys.argv[1:])}")
    print(f"framework / bare = {peaks['framework'] / peaks['bare']:.2f}")


if __name__ == "__main__":
    main()
