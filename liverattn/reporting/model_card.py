"""The model card of a bundle, Markdown: what it is for, what it rests on, what it cannot do."""

from collections.abc import Mapping
from typing import Any

import jinja2

from liverattn.reporting.figures import RESEARCH_ONLY


def model_card(contents: Mapping[str, Any], choice: str, results: str) -> str:
    """Fill the card.

    Args:
        contents: ``bundle.json`` as plain values.
        choice: ``one`` or ``all`` fold runs of each architecture.
        results: Tables by protocol, Markdown.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("liverattn.reporting"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    card: str = environment.get_template("model_card.md").render(
        **contents, choice=choice, results=results, research_only=RESEARCH_ONLY, span=_span
    )
    return card


def _span(found: Mapping[str, float | None]) -> str:
    """``.913 (.880 to .941)``."""
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return "undefined"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
