"""A bundle as a model that MLflow serves: image files in, rows like those of ``predictions.csv`` out."""

import base64
import binascii
import io
import logging
import os
import re
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import liverattn
from liverattn.bundle.bundle import Bundle, zip_beside
from liverattn.bundle.contents import Contents
from liverattn.data.phantoms import render_phantom
from liverattn.errors import InputError
from liverattn.files import forget_unfinished, staging
from liverattn.prediction.images import Case, cases_of
from liverattn.prediction.results import POINT, THRESHOLD, prediction_row
from liverattn.provenance import versions
from liverattn.tracking import MlflowTracking  # before MLflow: its telemetry is switched off there

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's, of its own type hints
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc.model import PythonModel, PythonModelContext
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

ARTIFACT = "bundle"
USE = "Research use only"
SCRIPT = Path(__file__).with_name("mlflow_model.py")
DEFAULTS = {"operating_point": POINT, "threshold": THRESHOLD}
# What answering takes (a test compares); named here, so that MLflow does not try it out or ask the network.
PACKAGES = (
    "defusedxml", "mlflow", "numpy", "opencv-python-headless", "pandas", "pandera", "pillow", "pyarrow", "pydantic",
    "pydicom", "python-calamine", "python-gdcm", "pyyaml", "safetensors", "scipy", "timm", "torch",
    "torchvision",
)  # fmt: skip


class BundleModel(PythonModel):
    """What answers requests; a broken image has its ``error`` set in its own row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle that the model carries; it is refused if a byte of it was changed."""
        self._predictor = liverattn.load(context.artifacts[ARTIFACT])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict on the column ``image``.

        Args:
            context: Not used: everything is loaded already.
            model_input: Each row a whole file (PNG, JPEG, DICOM ...), as base64 text or bytes.
            params: ``operating_point`` of the decisions, ``threshold`` of the attention for boxes.

        Returns:
            One row per image with :func:`result_columns`, None where there is nothing to say.

        Raises:
            MlflowException: An unknown operating point (status 400 over HTTP).
        """
        contents, options = self._predictor.contents, {**DEFAULTS, **(params or {})}
        point, threshold = options["operating_point"], options["threshold"]
        if not contents.thresholds(point):
            known = dict.fromkeys(one.name for points in contents.operating_points.values() for one in points)
            raise MlflowException.invalid_parameter_value(
                f"Expected operating_point to be one of {', '.join(known) or 'none'}, but got {point!r}."
            )
        names = list(result_columns(contents))
        with TemporaryDirectory() as folder:
            cases = [_case(value, Path(folder) / str(number)) for number, value in enumerate(model_input["image"])]
            rows = [prediction_row(one, contents, point, threshold) for one in self._predictor.stream(cases)]
        # As objects, because a number that is missing stays None: NaN is no JSON.
        return pd.DataFrame(rows, columns=names, dtype=object)


def _case(value: Any, path: Path) -> Case:
    """An image of a request, written to a file: decoders of DICOM and deep colors take nothing else."""
    if isinstance(value, str):
        try:
            value = base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            return Case(path.name, problem="is not the base64 text of an image file")
    if not isinstance(value, bytes):
        return Case(path.name, problem=f"is no image file, but {type(value).__name__}")
    path.write_bytes(value)
    (case,), _ = cases_of(path)
    return case


def result_columns(contents: Contents) -> dict[str, DataType]:
    """The columns of an answer, as in ``predictions.csv``; each may be empty."""
    outputs = contents.outputs
    columns = {"error": DataType.string, "warnings": DataType.string}
    columns |= {f"{kind}_{output}": DataType.double for kind in ("probability", "spread") for output in outputs}
    columns |= {f"decision_{output}": DataType.long for output in outputs}
    columns |= dict.fromkeys(("boxes", "box_attention", "kept", "region"), DataType.string)  # JSON
    return columns | {"width": DataType.long, "height": DataType.long, "median": DataType.double}


def signature(contents: Contents) -> ModelSignature:
    """Of :class:`BundleModel`. Text in the column ``image`` is base64; Python may give bytes there, too."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image")]),
        outputs=Schema([ColSpec(kind, name, required=False) for name, kind in result_columns(contents).items()]),
        params=ParamSchema(
            [
                ParamSpec("operating_point", DataType.string, DEFAULTS["operating_point"]),
                ParamSpec("threshold", DataType.double, DEFAULTS["threshold"]),
            ]
        ),
    )


def example() -> pd.DataFrame:
    """One small phantom, a PNG."""
    image = Image.fromarray(render_phantom("cyst", np.random.default_rng(0)).image)
    stream = io.BytesIO()
    image.resize((160, 120), Image.Resampling.BOX).save(stream, "PNG")
    return pd.DataFrame({"image": [stream.getvalue()]})


def requirements() -> list[str]:
    """Pinned packages of a served bundle; builds of torch for one kind of GPU go by their version alone."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]


def save_model(bundle: Bundle, folder: Path) -> None:
    """Write an MLflow model with the bundle's zip and this package's code in it.

    Args:
        bundle: What is served.
        folder: Replaced if it is there.

    Raises:
        InputError: The bundle was changed in the meantime, or the disk is full.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    forget_unfinished(folder)
    with staging(folder) as place:
        path = place / "model"
        archive = bundle.path
        if not archive.is_file():  # packed anew: a zip that lies beside the folder may be another bundle
            archive = zip_beside(place / archive.resolve().name)
            bundle.pack(archive)
        mlflow.pyfunc.save_model(
            path,
            python_model=str(SCRIPT),
            artifacts={ARTIFACT: str(archive.resolve())},
            code_paths=[str(Path(liverattn.__file__).parent)],
            signature=signature(bundle.contents),
            input_example=(example(), dict(DEFAULTS)),
            pip_requirements=requirements(),
            metadata={"bundle": bundle.digest, "use": USE},
        )
        _forget_paths(path)
        if folder.exists():
            shutil.rmtree(folder)
        path.rename(folder)


def _forget_paths(folder: Path) -> None:
    """A model that is passed on says nothing of the machine that it was made on."""
    model = Model.load(folder)
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    model.save(folder / "MLmodel")


def register(bundle: Bundle, tracking: MlflowTracking, name: str, folder: Path | None = None) -> str:
    """Register a bundle as a new version of a model, unless one of its versions is the same.

    MLflow then uses that tracking database for the rest of the process.

    Args:
        bundle: What is served.
        tracking: Where.
        name: Of the model.
        folder: Where :func:`save_model` has written it; None: it is written for this.

    Returns:
        Its address: ``models:/NAME/VERSION``.

    Raises:
        InputError: The bundle was changed in the meantime, or the tracking server does not answer as one.
    """
    if folder is None:
        with TemporaryDirectory() as temporary:
            save_model(bundle, Path(temporary) / "model")
            return register(bundle, tracking, name, Path(temporary) / "model")
    tags = {"bundle": bundle.digest, "use": USE}
    tags |= {package: versions()[package] for package in ("liverattn", "git_commit")}
    mlflow.set_tracking_uri(tracking.address)
    try:
        return f"models:/{name}/{_version(tracking, name, tags, folder)}"
    except MlflowException as error:
        raise InputError(
            f"MLflow at {tracking.address} cannot be used: {error}. Correct MLFLOW_TRACKING_URI (or tracking.uri), or "
            "go on without it: tracking=none."
        ) from error


def _version(tracking: MlflowTracking, name: str, tags: dict[str, str], folder: Path) -> str:
    client, experiment = tracking.store()
    known = client.search_model_versions(f"name = '{name}'")
    same = [one for one in known if one.tags == tags and not tags["git_commit"].endswith("-dirty")]
    if same:
        return str(same[0].version)
    model = client.create_logged_model(experiment, name=name, tags=tags)
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"{USE}. Not a medical device.")
    source = f"models:/{model.model_id}"
    return str(client.create_model_version(name, source, tags=tags, model_id=model.model_id).version)


def model_name(contents: Contents) -> str:
    """Of a bundle's model, with no character that a registry refuses."""
    return f"liverattn-{re.sub(r'[^A-Za-z0-9_-]', '_', contents.name)}"
