"""The code of a served model: MLflow copies this file beside the bundle and runs it, so that nothing is pickled."""

import mlflow

from liverattn.exporting.pyfunc import BundleModel

mlflow.models.set_model(BundleModel())
