"""JSON and XML from strangers: read whole or refused in lines that name the place."""

from pathlib import Path
from typing import TypeVar
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from liverattn.data.annotations import Findings

Content = TypeVar("Content")
MOST_PROBLEMS = 20  # of one file
LONGEST_SHOWN = 60


class Part(BaseModel):
    """Part of a JSON document: fields of other names are passed over, numbers must be finite."""

    model_config = ConfigDict(allow_inf_nan=False, frozen=True)


def read_json(path: Path, form: type[Content], findings: Findings) -> Content | None:
    """Read a JSON file in UTF-8.

    Args:
        path: The file.
        form: What it must hold: a :class:`Part`, or a list of them.
        findings: Gets a line for every place that is not of the form.

    Returns:
        The content, or None if anything in it cannot be used.
    """
    try:
        return TypeAdapter(form).validate_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        findings.errors += [f"{path}: {_described(dict(problem))}" for problem in problems[:MOST_PROBLEMS]]
        if len(problems) > MOST_PROBLEMS:
            findings.errors.append(f"{path}: ... and {len(problems) - MOST_PROBLEMS} more")
    except OSError as error:
        findings.errors.append(f"{path}: cannot be read ({error.strerror})")
    return None


def read_part(value: object, form: type[Content], place: str) -> Content:
    """Part of a document that shows only when it is read what it is.

    Args:
        value: The part.
        form: What it must be.
        place: Where it stands, for the message.

    Raises:
        ValueError: It is not; with the first place that is not of the form.
    """
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        raise ValueError(_described({**problem, "loc": (place, *problem["loc"])})) from None


def _described(problem: dict[str, object]) -> str:
    location = problem["loc"]
    assert isinstance(location, tuple)
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")
    if problem["type"] == "json_invalid":
        return str(problem["msg"])
    value = repr(problem["input"])
    shown = value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}..."
    return f"{place or 'the document'}: {problem['msg']}, but got {shown}"


def read_xml(path: Path, root: str, findings: Findings) -> Element | None:
    """Read an XML file; documents that define entities are refused, because expanding them can fill the memory.

    Args:
        path: The file.
        root: Name that its outermost element must have.
        findings: Gets a line if it cannot be used.

    Returns:
        The outermost element, or None.
    """
    try:
        element: Element = fromstring(path.read_bytes())
    except DefusedXmlException:
        findings.errors.append(f"{path}: defines XML entities or refers to other files, which is refused")
    except (ParseError, ValueError, LookupError) as error:
        findings.errors.append(f"{path}: is not XML ({error})")
    except OSError as error:
        findings.errors.append(f"{path}: cannot be read ({error.strerror})")
    else:
        if element.tag == root:
            return element
        findings.errors.append(f"{path}: expected <{root}>, but got <{str(element.tag)[:LONGEST_SHOWN]}>")
    return None


def number(element: Element, name: str) -> float:
    """A number in an element's attribute or in its child of that name.

    Raises:
        ValueError: Absent or not a number.
    """
    text = element.get(name, element.findtext(name))
    try:
        return float(text)  # type: ignore[arg-type] # None is answered below
    except (TypeError, ValueError):
        raise ValueError(f"<{element.tag}> needs a number {name}, but got {text!r}") from None
