"""The CLAIM 2024 checklist, Markdown: what is known of each of its 44 items, and what is left to the author."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any

import jinja2

from liverattn.reporting.figures import RESEARCH_ONLY
from liverattn.reporting.results import escape_markdown

FILLED, IN_PART, AUTHOR = "filled", "in part", "author"
MISSING = "not recorded: for the author"


def claim_checklist(facts: Mapping[str, Any]) -> str:
    """Fill the checklist (Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300).

    An item's status is ``filled``, ``in part`` or ``author``, and falls by itself where facts are absent: to
    ``in part`` where some of them are, to ``author`` where all are. Absent is what is not there, None, NaN, infinite or
    empty; it is printed as "not recorded: for the author". An empty list among settings is printed as "none". Three
    keys of an architecture may be None as they may be null in the configuration: ``cut`` (the last feature map),
    ``weights`` (a random start), ``ema`` (off).

    Args:
        facts: Plain data; any of it may be absent.

            - ``data``: Name; ``phantom`` is called synthetic.
            - ``images``, ``patients``: How many.
            - ``kept_together``: What ``patients`` counts, in words, if it is not patients alone.
            - ``positives``: Images by output.
            - ``tasks``: Of ``name``, ``outputs``, ``weight`` and ``conditional`` (scored on lesion images only).
            - ``score_weights``: Of Eq. 4, in words.
            - ``folds``, ``repeats``, ``fold_runs`` (of each architecture), ``inner_folds`` (with protocol ``inner``).
            - ``split_file``: Whether the folds were read from a file instead of drawn.
            - ``excluded``: Images that ``data.exclude`` left out.
            - ``protocol``: ``paper``, ``inner`` or ``last``.
            - ``near_duplicates_grouped``: Whether they were kept on one side of every split.
            - ``architectures``: Of ``label``, ``backbone``, ``cut``, ``weights`` (``imagenet`` or a file; of a path
              only the name is shown), ``height`` and ``width`` (pixels), ``lambdas``, ``alpha``, ``parameters``,
              ``epochs``, ``batch_size``, ``optimizer``, ``mixup``, ``ema``, ``augmentation``, ``preprocessing``,
              ``lesion_free``, ``reduction``, ``seed`` and ``precision``; and of what is told only where it is in use:
              ``library``, ``mirror``, ``balanced``, ``devices``, ``gradient_clip``, ``limit_batches``,
              ``overfit_batches``.
            - ``members``: Labels of what the ensemble averages.
            - ``intervals``: ``value``, ``low`` and ``high`` of the ensemble's AUCs by output and task, and ``score``.
            - ``calibration``: ``brier``, ``slope`` and ``intercept`` by output.
            - ``files``: Names in the folder that the checklist lies in.
            - ``versions``: That trained, by package, and ``git_commit``.
            - ``unrecorded``: Of how many fold runs they are not known.
            - ``evaluated``: As ``versions``, of what made tables, figures and intervals.
            - ``machine``: That trained, in words.

    Returns:
        Markdown: a table by section, then how many items have which status.
    """
    rows = _Rows()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("liverattn.reporting"),
        undefined=jinja2.ChainableUndefined,  # an absent fact is printed as such, not refused
        finalize=rows.printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    known = {name: value for name, value in facts.items() if value is not None}
    files = list(known.get("files", []))
    checklist: str = environment.get_template("claim.md").render(
        {**known, "files": files, "written": {name: name for name in files}, "rarest": _rarest(known)},
        research_only=_Ready(RESEARCH_ONLY),
        counts=rows.counts,
        item=rows.item,
        section=_section,
        each=rows.each,
        see=partial(_see, files),
        ready=lambda text: _Ready(" ".join(text.split())),
    )
    return checklist


class _Ready(str):
    """Markdown already, on one line: not to be escaped again."""


class _Rows:
    """Rows of the checklist. Every fact that the template prints passes here and is counted, so none is forgotten."""

    def __init__(self) -> None:
        self.counts = Counter({FILLED: 0, IN_PART: 0, AUTHOR: 0})
        self._known = self._missing = 0

    def item(self, number: int, name: str, best: str, caller: Callable[[], str]) -> str:
        """One row; ``best`` is its status if all its facts are known, ``caller`` gives the text."""
        self._known = self._missing = 0
        text = " ".join(caller().split())
        status = best
        if best != AUTHOR and self._missing:
            status = IN_PART if self._known else AUTHOR
        self.counts[status] += 1
        return f"| {number} | {name} | {status} | {text} |\n"

    def each(self, architectures: Sequence[Mapping[str, Any]], describe: Callable[[Any], str]) -> _Ready:
        """What is to be said of each architecture; those of which the same is to be said share it."""
        groups: dict[str, list[str]] = {}
        for one in architectures or ():
            label = one.get("label")
            shown = MISSING if _is_missing(label) else _plain(label)
            groups.setdefault(" ".join(describe(one).split()), []).append(shown)
        if len(groups) > 1:
            return _Ready("; ".join(f"{', '.join(labels)}: {text}" for text, labels in groups.items()))
        return _Ready(next(iter(groups), None) or self.printed(None))

    def printed(self, value: object) -> str:
        """A fact as text that breaks no table."""
        if isinstance(value, _Ready):
            return value
        if _is_missing(value):
            self._missing += 1
            return MISSING
        if isinstance(value, Mapping):
            return self._span(value) if "value" in value else self._pairs(value)
        if isinstance(value, list | tuple):
            return ", ".join(self.printed(one) for one in value)
        self._known += 1
        return _plain(value)

    def _pairs(self, values: Mapping[str, object]) -> str:
        parts = []
        for name, value in values.items():
            text = self.printed("none" if value in ([], ()) else value)  # such as frozen stages of the trunk
            is_nested = isinstance(value, Mapping) and bool(value) and "value" not in value
            parts.append(f"{escape_markdown(name)} ({text})" if is_nested else f"{escape_markdown(name)} {text}")
        return ", ".join(parts)

    def _span(self, found: Mapping[str, Any]) -> str:
        value, low, high = (found.get(name) for name in ("value", "low", "high"))
        if _is_missing(value):
            return self.printed(None)
        self._known += 1
        if _is_missing(low) or _is_missing(high):
            return f"{value:.3f} (interval {self.printed(None)})"
        return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _see(files: Sequence[str], *names: str) -> _Ready:
    """Points to those that are there, so that no reader looks in vain."""
    there = [escape_markdown(name) for name in names if name in files]
    return _Ready(f"See {', '.join(there)}." if there else "")


def _section(title: str) -> _Ready:
    return _Ready(f"## {title}\n\n| item | about | status | text |\n|---|---|---|---|")


def _rarest(known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The output with the fewest positive images; None where no number is known."""
    counts = {name: count for name, count in known.get("positives", {}).items() if not _is_missing(count)}
    if not counts:
        return None
    name = min(counts, key=lambda output: counts[output])
    return {"output": name, "images": counts[name]}


def _is_missing(value: object) -> bool:
    if isinstance(value, Real):
        return not math.isfinite(float(value))
    return value is None or isinstance(value, jinja2.Undefined) or value in ("", [], (), {})


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.4g}"
    return escape_markdown(str(value))
