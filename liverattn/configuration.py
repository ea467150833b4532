"""From the command line to plain Python: the only place that knows Hydra's ``instantiate``."""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from liverattn import commands
from liverattn.errors import INTERRUPTED, InputError, expect_boolean, written
from liverattn.files import digest, forget_unfinished, unusable, usable_folder

# What changes where or how fast a run happens, but not its result.
NOT_IDENTITY = ("paths", "tracking", "hydra", "name", "debug", "out")
NOT_IDENTITY_OF = {"trainer": ("num_workers", "probe", "cuda_graphs", "data_on_device"), "protocol": ("name",)}

# Folders of the outputs to which several processes may write, and the seconds after which none still writes a file.
SHARED, DAY = ("checked", "comparisons", "ensembles", "imported", "phantoms", "splits", "sweeps"), 86400


def config_folder() -> Path:
    """``conf/`` beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    return next(folder for folder in (package.parent / "conf", package / "conf") if (folder / "train.yaml").exists())


def verb(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a command of a function: Hydra composes its config; a user's mistake ends it with one message.

    See :func:`plain_errors`. In a multirun errors are passed on to the sweep, which goes on with the other jobs.
    """

    def decorate(command: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(command)
        def guarded(cfg: DictConfig) -> Any:
            with plain_errors():
                _check_whose(HydraConfig.get().job.config_name, config_name)
            with plain_errors(pass_on=HydraConfig.get().mode == RunMode.MULTIRUN):
                if HydraConfig.get().job.chdir:
                    raise InputError(
                        "Expected hydra.job.chdir to be false, but got true: relative paths, as of the outputs, would "
                        "mean another place in every run. Leave it out."
                    )
                return command(cfg)

        main: Callable[[], None] = hydra.main(
            version_base="1.3", config_path=str(config_folder()), config_name=config_name
        )(guarded)

        @functools.wraps(command)
        def started() -> None:
            with plain_errors(), _terminated_as_interrupted():
                sys.argv[1:] = map(_at_home, sys.argv[1:])
                for before, word in pairwise(sys.argv):
                    if not before.startswith("--config"):  # a folder or a file
                        _check_grammar(word)
                main()

        return started

    return decorate


def _check_whose(given: str | None, own: str) -> None:
    """Refuse the configuration of another verb; one of a person's own is theirs to get right."""
    name = Path(str(given)).stem
    if name != own and (config_folder() / f"{name}.yaml").exists():
        raise InputError(
            f"--config-name={given} is the configuration of python -m liverattn.{name}, not of liverattn.{own}. Leave "
            "it out, or give that command."
        )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """What schedulers, containers and ``kill`` send stops a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _at_home(word: str) -> str:
    """An option whose value begins with ``~``: behind an equals sign shells leave it as it is, and so does Hydra."""
    option, _, value = word.partition("=")
    text = value.strip("\"'")
    path = os.path.expanduser(text)
    if path == text or set("\"',\\") & set(path):
        return word
    return f"{option}={path}" if word.startswith("-") else f'{option}="{path}"'


def _check_grammar(word: str) -> None:
    """Refuse an option that Hydra cannot parse; it would name the sign, but not the quotes that mend it."""
    option, _, value = word.partition("=")
    if word.startswith("-") or not value:
        return
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        texts = [text.strip().strip("\"'") for text in value.strip("[]").split(",")]
        remedy = commands.option(option, texts if value.startswith("[") else value)
        raise InputError(
            f"The option {word} cannot be read. Texts with blanks, brackets or other signs need quotes, and so does "
            f"the whole option: {remedy}"
        ) from None


@contextmanager
def plain_errors(*, pass_on: bool = False) -> Iterator[None]:
    """End the command with one message where the user can mend what is wrong.

    The message goes to the standard error output and the exit status is 1; with ``HYDRA_FULL_ERROR=1`` the stack trace
    is shown. Ctrl-C says how to go on and exits with status 130.

    Args:
        pass_on: Leave the errors to the caller.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_say(INTERRUPTED, 130))
    except (InputError, OmegaConfBaseException, OSError) as error:
        said = unusable(error) if isinstance(error, OSError) else str(error)
        if said is None or os.environ.get("HYDRA_FULL_ERROR") or pass_on:
            raise
        sys.exit(_say(f"Error: {said}", 1))


def _say(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status


class OutputsFolder(Callback):
    """A folder that cannot be made ends the command with one message; Hydra makes it before the command begins.

    What killed processes left in the folders that all commands share is removed, too.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a single run."""
        self._make(config, config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of all runs of a sweep."""
        self._make(config, config.hydra.sweep.dir)

    def _make(self, config: DictConfig, folder: str) -> None:
        with plain_errors():
            if not Path(folder).is_dir():  # what is finished may be shown where nothing can be written any more
                usable_folder(Path(folder), "paths.outputs")
        for shared in (Path(config.paths.cache), *(Path(config.paths.outputs) / name for name in SHARED)):
            forget_unfinished(shared, age=DAY)


def path_of(value: Any, name: str) -> Path:
    """A folder or file that an option names; a name of digits alone comes as a number.

    Raises:
        InputError: It is no name.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(
            f"Expected {name} to be a path, but got {written(value)}. A name that looks like a number: {name}=./NAME."
        )
    return Path(str(value)).expanduser()


def build(node: DictConfig, **more: Any) -> Any:
    """Build what a config node's ``_target_`` names, from plain values.

    Raises:
        InputError: A value is refused; the constructor's own message.
    """
    try:
        return hydra.utils.instantiate(node, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError):
            raise InputError(f"The configuration cannot be used: {error}") from error
        raise


def check_name(option: str, value: Any) -> None:
    """Refuse a name that decides no folder of its own, or one elsewhere, where later commands do not look.

    Raises:
        InputError: It is empty, null, absolute, or leads upward.
    """
    path = Path("" if value is None else str(value))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        shown = written(value) if value is None else repr(value)
        raise InputError(
            f"Expected {option} to name a folder below the outputs, such as {option}=mine, but got {shown}."
        )


def check_text(option: str, value: Any) -> None:
    """Refuse what is no text where one is meant, such as a path: Hydra reads 5 as a number.

    Raises:
        InputError: It is none.
    """
    if not isinstance(value, str):
        quoted = f"In quotes it is one: {commands.option(option, value)}"
        remedy = f"Give one: {option}=..." if value is None else quoted
        raise InputError(f"Expected {option} to be a text, but got {written(value)}. {remedy}")


def check_types(node: DictConfig) -> None:
    """Refuse texts and booleans that are none, by the type hints of what the node's ``_target_`` names.

    Raises:
        InputError: One is of another type.
    """
    hints = get_type_hints(hydra.utils.get_class(node["_target_"]))
    written = OmegaConf.to_container(node, resolve=False)
    assert isinstance(written, dict)
    for name, value in plain(node).items():
        source = str(written[name])  # such as ${data.root}, by which a person knows it
        option = source[2:-1] if source.startswith("${data.") else name
        if hints.get(name) is str or (hints.get(name) == str | None and value is not None):
            check_text(option, value)
        elif hints.get(name) is bool:
            expect_boolean(option, value)


def plain(node: DictConfig | ListConfig) -> Any:
    """A node as dictionaries, lists and numbers, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plain configuration that determines a fold run's training.

    ``protocol.name`` is not in it: the protocols ``paper`` and ``last`` read different epochs of the same training.
    1 and 1.0 are the same, and so are places below the outputs, wherever these lie.
    """
    kept = {
        key: {name: item for name, item in value.items() if name not in NOT_IDENTITY_OF[key]}
        if key in NOT_IDENTITY_OF
        else value
        for key, value in config.items()
        if key not in NOT_IDENTITY
    }
    normalized: dict[str, Any] = _normalized(kept, config.get("paths", {}).get("outputs"))
    return normalized


def _normalized(value: Any, outputs: str | None) -> Any:
    if isinstance(value, Mapping):
        return {key: _normalized(item, outputs) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalized(item, outputs) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and outputs is not None and value.startswith(f"{outputs}/"):
        return f"outputs{value.removeprefix(outputs)}"
    return value


def _cell(*, _root_: DictConfig) -> str:
    """Eight digits that differ between configurations with different results."""
    parts = {key: _root_[key] for key in _root_ if key == "paths" or key not in NOT_IDENTITY}
    values = {str(key): plain(value) if OmegaConf.is_config(value) else value for key, value in parts.items()}
    return digest(identity(values))[:8]


OmegaConf.register_new_resolver("cell", _cell, replace=True)
