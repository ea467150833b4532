"""The folder of an export: graphs, the MLflow model, and ``export.json``, which says what became of each."""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from liverattn.bundle.bundle import Bundle
from liverattn.errors import InputError
from liverattn.exporting.onnx import require_onnx, write_onnx
from liverattn.exporting.programs import Graph, traced, write_program
from liverattn.files import write_json

FORMATS = ("onnx", "torch", "mlflow")
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
RECORD = "export.json"


@dataclass(frozen=True)
class Written:
    """What became of one file.

    Attributes:
        file: Its name.
        difference: The largest from what this program computes; None: not tried.
        problem: Why there is no such file.
    """

    file: str
    difference: float | None = None
    problem: str | None = None


def check_formats(formats: Collection[str]) -> None:
    """Refuse formats that are unknown, or that need what is not installed."""
    unknown = [one for one in formats if one not in FORMATS]
    if unknown:
        raise InputError(f"Expected formats to be any of {', '.join(FORMATS)}, but got {unknown[0]!r}.")
    if "onnx" in formats:
        require_onnx()


class ExportFolder:
    """Where a bundle is exported to; files of another bundle that were exported there before are removed.

    Args:
        path: Of the folder.
        bundle: What is exported.
    """

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self.path, self.bundle = path, bundle
        self._files = self._known()

    def write_graph(self, graph: Graph, formats: Collection[str]) -> Iterator[Written]:
        """Write a graph in those of the formats that hold graphs; one that cannot be written does not stop the rest."""
        wanted = [one for one in SUFFIXES if one in formats]
        try:
            program = traced(graph)
        except InputError as error:
            yield from (self._record(Written(graph.name + SUFFIXES[one], problem=str(error))) for one in wanted)
            return
        writers: Mapping[str, Callable[..., float | None]] = {"onnx": write_onnx, "torch": write_program}
        for one in wanted:
            path = self.path / (graph.name + SUFFIXES[one])
            try:
                yield self._record(Written(path.name, writers[one](graph, program, path)))
            except InputError as error:
                path.unlink(missing_ok=True)
                yield self._record(Written(path.name, problem=str(error)))

    def write_model(self) -> Path:
        """Write the MLflow model."""
        from liverattn.exporting.pyfunc import save_model

        save_model(self.bundle, self.path / "mlflow")
        self._record(Written("mlflow"))
        return self.path / "mlflow"

    def _record(self, written: Written) -> Written:
        self._files[written.file] = asdict(written)
        contents = self.bundle.contents
        about = {"bundle": contents.name, "digest": self.bundle.digest, "use": "Research use only."}
        write_json(self.path / RECORD, {**about, "outputs": contents.outputs, "files": list(self._files.values())})
        return written

    def _known(self) -> dict[str, dict[str, object]]:
        """What an earlier export of this bundle left; what one of another bundle left is removed."""
        try:
            before = json.loads((self.path / RECORD).read_text())
            files = {one["file"]: one for one in before["files"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        if before.get("digest") == self.bundle.digest:
            return files
        for name in files:
            path = self.path / Path(name).name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return {}
