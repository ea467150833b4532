"""Intervals and p-values as cells of a table."""

from liverattn.evaluation.intervals import Interval
from liverattn.reporting.results import Number


def interval_number(interval: Interval, digits: int = 2, *, signed: bool = False) -> Number:
    """A number with its limits in parentheses, where it has some."""
    limits = {} if interval.low != interval.low else {"low": interval.low, "high": interval.high}
    return Number(interval.value, limits, digits, signed, between=" to ")


def p_number(p: float) -> Number:
    """Four digits; smaller ones as ``<0.0001``."""
    return Number(p, digits=4, smallest=0.0001)
