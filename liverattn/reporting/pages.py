"""HTML pages that work offline: everything inlined, nothing of what a user gave executable."""

import base64
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from liverattn.files import replacing
from liverattn.reporting.figures import RESEARCH_ONLY
from liverattn.reporting.results import Cell, Number


def write_page(template: str, path: Path, **values: Any) -> None:
    """Render a page of ``templates/``, part by part, so that a long one need not fit into memory.

    Args:
        template: Name of the file.
        path: Of the page; what is there is replaced once the new one is whole.
        values: That the template asks for; all text is escaped.

    Raises:
        InputError: The file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("liverattn.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["cell"] = _cell
    stream = environment.get_template(template).stream(**values, research_only=RESEARCH_ONLY)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as page:
        for part in stream:
            page.write(part)


def data_uri(content: bytes, kind: str) -> str:
    """A picture of ``kind`` (jpeg or png) as text, to be inlined."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _cell(cell: Cell) -> Markup:
    bold = Markup("<b>{}</b>").format
    return escape(cell.text(bold) if isinstance(cell, Number) else str(cell))
