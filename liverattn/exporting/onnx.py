"""Traced programs as ONNX files. Needs the extra ``onnx``, and onnxruntime to try what was written."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from liverattn.errors import InputError
from liverattn.exporting.programs import Graph, first_line, largest_difference
from liverattn.files import replacing

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when onnxruntime is imported

NEEDED = ("onnx", "onnxscript")
LARGEST = 2**31 - 2**24  # bytes of weights: a file holds 2 GiB


def require_onnx() -> None:
    """Raise an InputError that says how to install what is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"formats: onnx needs {' and '.join(missing)}, which is not installed. "
            "Install it: python -m pip install 'liverattn[onnx]'. Or leave onnx out: formats=[torch,mlflow]."
        )


def write_onnx(graph: Graph, program: ExportedProgram, path: Path) -> float | None:
    """Write one ``.onnx`` file with everything in it.

    Args:
        graph: What is exported.
        program: Of the graph.
        path: Of the file.

    Returns:
        The largest difference on the trials (:func:`~liverattn.exporting.programs.largest_difference`) as onnxruntime
        runs it; None where that is not installed.

    Raises:
        InputError: An operation has no counterpart, the weights are too large for one file, or the file gives other
            numbers.
    """
    weights = sum(value.nbytes for value in graph.module.state_dict().values())
    if weights > LARGEST:
        raise InputError(f"its weights are {weights / 2**30:.1f} GiB, and one ONNX file holds 2. Use its networks.")
    try:
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["image"],
            output_names=graph.outputs,
            dynamic_shapes=(dict(graph.axes),),
            verbose=False,
        )
    except Exception as error:  # the translation lets errors of several libraries through
        raise InputError(f"it cannot be translated to ONNX ({first_line(error)}).") from error
    assert translated is not None
    _label(translated.model, graph.about)
    with replacing(path) as temporary:
        translated.save(temporary, external_data=False)
        return None if find_spec("onnxruntime") is None else largest_difference(graph, _run(temporary, graph.trials))


def _label(model: Any, about: Mapping[str, str]) -> None:
    """Say what it is, and nothing of where it was made."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)
    model.graph.metadata_props.clear()
    model.doc_string = about["use"]
    model.metadata_props.update(about)


def _run(path: Path, trials: Sequence[Tensor]) -> list[list[Tensor]]:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return [[torch.from_numpy(one) for one in session.run(None, {"image": trial.numpy()})] for trial in trials]
