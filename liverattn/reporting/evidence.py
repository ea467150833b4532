"""The report on an ensemble and all that was compared: one HTML file that works offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from liverattn.reporting.pages import data_uri, write_page
from liverattn.reporting.results import ResultTable


@dataclass(frozen=True)
class EvidenceSection:
    """Tables and figures that answer one question.

    Attributes:
        title: Of the section.
        question: That it answers, and what to look at first.
        tables: In this order.
        figures: PNG files by what they show, below the tables.
    """

    title: str
    question: str
    tables: Sequence[ResultTable]
    figures: Sequence[tuple[str, Path]] = ()


def write_evidence_page(
    title: str, facts: Sequence[tuple[str, str]], sections: Sequence[EvidenceSection], path: Path
) -> None:
    """Render the page.

    Args:
        title: Names the ensemble.
        facts: What was compared, by name.
        sections: Those without tables are left out.
        path: Of the page.

    Raises:
        InputError: The file cannot be written, or a figure cannot be read.
    """
    write_page(
        "evidence.html",
        path,
        title=title,
        facts=facts,
        sections=[section for section in sections if section.tables],
        picture=lambda figure: data_uri(figure.read_bytes(), "png"),
    )
