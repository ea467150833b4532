"""Scores and attention quality: pure functions on arrays."""
