"""How long requests to MLflow's server may take."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

PROMPT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@contextmanager
def prompt_requests() -> Iterator[None]:
    """Requests to a server fail within seconds, so that it is known soon, and training does not wait."""
    added = {name: value for name, value in PROMPT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
