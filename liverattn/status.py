"""What has become of a sweep: ``python -m liverattn.status``."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from liverattn.configuration import verb
from liverattn.errors import InputError
from liverattn.sweeps.matrix import next_command, print_sweep
from liverattn.sweeps.record import Sweep, find_sweeps


@verb("status")
def main(cfg: DictConfig) -> None:
    """Show a sweep; records that cannot be read are named last, and make the exit status 1."""
    outputs = Path(cfg.paths.outputs)
    sweeps, problems = find_sweeps(outputs)
    if sweeps:
        show(sweeps[0] if cfg.id is None else chosen(str(cfg.id), sweeps), sweeps)
    elif not problems:
        raise InputError(
            f"No sweep was started in {outputs}. Start one: make sweep. If it is elsewhere: paths.outputs=..."
        )
    if problems:
        raise InputError("\n".join(problems))


def show(sweep: Sweep, sweeps: Sequence[Sweep]) -> None:
    """Print a sweep's matrix, what failed and why, and time left; name the other sweeps."""
    progress = sweep.progress()
    print_sweep(sweep, progress, Console())
    if all(item.state == "finished" for item in progress):
        print(f"\nNext: {next_command(sweep)}")
    else:
        print(f"\nStarted with: {sweep.command}\n              (the same command goes on with what is not finished)")
    others = [other for other in sweeps if other is not sweep]
    if others:
        print("\nOther sweeps: " + "".join(f"\n  id={other.id}  {_in_short(other)}" for other in others))


def _in_short(sweep: Sweep) -> str:
    done = sum(sweep.run(sweep.cells[position]).is_finished for position in sweep.runs())
    return f"{done} of {len(sweep.runs())} finished  {sweep.name}"


def chosen(beginning: str, sweeps: Sequence[Sweep]) -> Sweep:
    """The sweep whose id begins so.

    Raises:
        InputError: There is none, or more than one.
    """
    found = [sweep for sweep in sweeps if sweep.id.startswith(beginning)]
    if len(found) != 1:
        listed = ", ".join(f"{sweep.id} ({sweep.name})" for sweep in sweeps)
        raise InputError(f"Expected id to begin the id of one sweep, but got {beginning!r}. There are: {listed}.")
    return found[0]


if __name__ == "__main__":
    main()
