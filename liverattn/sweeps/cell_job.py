"""One cell of a sweep, in whatever process the launcher runs it."""

import functools
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from liverattn.locks import BusyError
from liverattn.runs import RunFolder

MOTHER = "LIVERATTN_SWEEP_PROCESS"


def work_on_cell(run: RunFolder, work: Callable[[], None]) -> str | None:
    """Do the work of one cell; whatever happens to it, the sweep goes on.

    Cells that run beside others write what they have to say to ``output.log`` in their run folder.

    Args:
        run: The cell's.
        work: Trains, unless the run is finished.

    Returns:
        Why it failed.
    """
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    mother = os.environ.get(MOTHER)
    is_alone = launcher == "basic" or mother == str(os.getpid())  # joblib starts no process for one job
    if launcher in ("joblib", "local") and mother is not None and not is_alone:
        _leave_with(int(mother))
    with _output_to(run, is_alone=is_alone):
        try:
            work()
        except KeyboardInterrupt:
            if is_alone:
                raise
            sys.exit(130)  # the sweep's own process gets Ctrl-C as well and says how to go on, once
        except BusyError as busy:
            print(f"Skipped for now: {busy}")
        except Exception as error:
            message = str(error) or type(error).__name__
            print(f"Error: {message}", file=sys.stderr)
            if os.environ.get("HYDRA_FULL_ERROR"):
                traceback.print_exc()
            return message
        finally:
            _free_memory()
    return None


@contextmanager
def _output_to(run: RunFolder, *, is_alone: bool) -> Iterator[None]:
    if is_alone:
        yield
        return
    run.path.mkdir(parents=True, exist_ok=True)
    with (run.path / "output.log").open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        yield


def _free_memory() -> None:
    # The next cell in this process, or others on the same GPU, may need what a failed one held.
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


@functools.cache
def _leave_with(mother: int) -> None:
    # A worker whose sweep was killed would go on with what is queued, and hold runs that the restarted sweep wants.
    def watch() -> None:
        while _lives(mother):
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks only
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # not on Linux
        return True
    return state != "Z"  # killed, and its own parent has not looked yet
