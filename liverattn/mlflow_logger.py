"""Lightning's MLflow logger, sending metrics together."""

import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

INTERVAL = 5.0  # seconds


class MetricsTogether(MLFlowLogger):
    """Sends metrics once in five seconds, and at the end: on a GPU an epoch may be shorter than its three messages."""

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
            self._send()
            self._sent = time.time()

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Send the rest and end the run."""
        self._send()
        super().finalize(status)

    def _send(self) -> None:
        if self._unsent and self.run_id is not None:
            self.experiment.log_batch(run_id=self.run_id, metrics=self._unsent)
        self._unsent = []
