"""Sweeps: their cells, their record on disk, what runs them, their parent run in MLflow."""
