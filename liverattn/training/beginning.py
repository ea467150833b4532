"""What a run is, recorded when it begins and checked when it goes on."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import yaml

from liverattn.errors import InputError
from liverattn.files import replacing, write_json
from liverattn.provenance import environment_since, versions
from liverattn.runs import RunFolder, anew
from liverattn.training.distributed import is_leader
from liverattn.training.hardware import Hardware
from liverattn.training.outputs import read_outputs


def begin(
    run: RunFolder,
    config: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    parts: Mapping[str, Sequence[str]],
    parameters: int,
    hardware: Hardware,
    fastest: Callable[[Hardware], Hardware] | None,
) -> Hardware:
    """Record what a new run is, or check that a resumed one is still the same, and whole.

    Args:
        run: Its folder.
        config: The composed configuration, plain.
        fingerprints: ``data`` and ``assignment``: what may not change while a run is unfinished.
        parts: image_ids of the cases to train on, held out and to select by.
        parameters: Number of the network's.
        hardware: The usual choices for the machine.
        fastest: What to take in their place, where the settings leave it to a timing.

    Returns:
        The choices for the machine; a resumed run keeps those that it began with.

    Raises:
        InputError: Data or folds changed since the run began.
    """
    record = run.record()
    changed = [name for name, value in fingerprints.items() if record.get(name, value) != value]
    if changed:
        raise InputError(
            f"The {' and the '.join(changed)} changed since this run was begun, so it cannot go on. {anew(run.path)}"
        )
    # A resumed run keeps what was chosen, or it would not end in the same weights.
    recorded = {name: record[name] for name in ("precision", "channels_last", "threads") if name in record}
    if recorded:
        hardware = replace(hardware, **recorded)
    elif fastest is not None:
        hardware = fastest(hardware)
    if is_leader():
        if _forget_damaged(run):
            record = {}
        chosen = {"precision": hardware.precision, "channels_last": hardware.channels_last, "threads": hardware.threads}
        now = {**versions(), "machine": hardware.machine}
        run.update_record(**fingerprints, **chosen, parameters=parameters, environment=environment_since(record, now))
        write_json(run.split, {"assignment": fingerprints["assignment"], **parts})
        with replacing(run.config) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False))
    return hardware


def _forget_damaged(run: RunFolder) -> bool:
    # A machine that loses its power may leave files without their content, which no process that is killed does.
    checkpoints, epochs = run.last.parent, run.epoch(0).parent
    damaged = [path for path in sorted(checkpoints.glob("*.ckpt")) if not _is_whole_archive(path)]
    damaged += [path for path in sorted(epochs.glob("*.safetensors")) if not _is_whole_table(path)]
    if damaged:
        print(f"{damaged[0]} is damaged (did the machine lose its power?): this run begins anew.")
        for folder in (checkpoints, epochs):
            shutil.rmtree(folder, ignore_errors=True)
    return bool(damaged)


def _is_whole_archive(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError:  # the disk cannot be read: nobody knows what is in the file
        raise
    except Exception:  # zipfile raises half a dozen kinds for damaged directories
        return False


def _is_whole_table(path: Path) -> bool:
    try:
        read_outputs(path)
    except InputError as error:
        if isinstance(error.__cause__, OSError):  # likewise
            raise
        return False
    return True
