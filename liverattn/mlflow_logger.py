"""Lightning's MLflow logger, sending metrics together."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mlflow.entities import Metric
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from liverattn.mlflow_requests import prompt_requests

INTERVAL = 5.0  # seconds
MOST_AT_ONCE = 1000  # metrics that MLflow takes in one message


class MetricsTogether(MLFlowLogger):
    """Sends metrics once in five seconds, and at the end: on a GPU an epoch may be shorter than its three messages.

    A server that is lost does not stop the training: what could not be sent is kept for the next time.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._unsent: list[Metric] = []
        self._sent = 0.0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep metrics of a step, and send what is there if it is time to."""
        now = time.time()
        self._unsent += [Metric(name, value, int(1000 * now), step or 0) for name, value in metrics.items()]
        if now - self._sent >= INTERVAL:
            with suppress(Exception):
                self._send()
            self._sent = time.time()

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Send the rest and end the run, if the server is there; whoever uploads the results finds out."""
        with suppress(Exception):
            self.complete(status)

    def complete(self, status: str) -> None:
        """Send the rest and end the run.

        Raises:
            Exception: Of MLflow: the server is lost.
        """
        self._send()
        with prompt_requests():
            super().finalize(status)

    def _send(self) -> None:
        while self._unsent and self.run_id is not None:
            with prompt_requests():
                self.experiment.log_batch(run_id=self.run_id, metrics=self._unsent[:MOST_AT_ONCE])
            del self._unsent[:MOST_AT_ONCE]
