"""Bundles for other programs: graphs that need no Python of ours, and a model that MLflow serves."""
