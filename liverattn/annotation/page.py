"""The page in the browser: a session, drawn with NiceGUI."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from nicegui import background_tasks, context, ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from liverattn.annotation.labels import LABEL_KEYS, Box
from liverattn.annotation.session import Session
from liverattn.data.images import SMALLEST, ImageError, image_size
from liverattn.errors import InputError

MOVES = {"ArrowRight": 1, " ": 1, "ArrowLeft": -1}
# Shown on the page; those whose key is not None can be clicked, too.
COMMANDS: Sequence[tuple[str, str, str | None]] = (
    ("space  →", "next", " "),
    ("←", "previous", "ArrowLeft"),
    ("ctrl z", "undo", "undo"),
    ("f", "unlabeled only", "f"),
)
GESTURES = (
    ("drag", "new box; move or resize one"),
    ("⇧ drag", "new box on top of another"),
    ("del", "remove selected or last box"),
    ("+ - 0", "zoom (wheel), back"),
    ("c v", "contrast"),
    ("right drag", "shift the picture"),
)
SUGGESTING: Sequence[tuple[str, str, str | None]] = (("s", "show suggestions", "s"), ("a", "accept suggestions", "a"))


class Suggesting(Protocol):
    """Where suggested boxes come from (:class:`liverattn.annotation.suggestions.Suggester`)."""

    seen: frozenset[str]

    def boxes(self, path: Path) -> list[Box]:
        """Boxes of an image file, in its pixels."""
        ...


class BoxCanvas(Element, component="box_canvas.js"):
    """The image with its boxes; gestures are followed in the browser."""


class Desk:
    """One session and the browser tabs that show it.

    Args:
        session: What is worked on.
        advance: An answer that completes a case goes on to the next one.
        suggester: None: no suggestions.
    """

    def __init__(self, session: Session, *, advance: bool, suggester: Suggesting | None) -> None:
        self.session, self.advance, self.suggester = session, advance, suggester
        self.is_suggesting = suggester is not None
        self.suggested: dict[int, list[Box]] = {}
        self.pages: set[Page] = set()
        # The key of the page, and part of the images' addresses: a browser must not show those of an earlier table from
        # its cache.
        self.token = secrets.token_urlsafe(16)
        self._thinking = asyncio.Lock()

    def key(self, case: int, key: str) -> None:
        """Do what a key stands for, on the case that was on the screen."""
        session = self.session
        if key in LABEL_KEYS:
            session.answer(case, key)
            if self.advance and session.table.labels(case).is_complete:
                session.case = case
                session.step(1)
        elif key in MOVES:
            session.case = case
            session.step(MOVES[key])
        elif key == "undo":
            session.undo()
        elif key == "f":
            session.only_open = not session.only_open
        elif key == "s":
            self.is_suggesting = self.suggester is not None and not self.is_suggesting
        elif key == "a" and self.is_suggesting:
            session.accept(case, self.suggested.get(case, []))

    def act(self, action: Callable[[], None]) -> None:
        """Do something and show it everywhere; what cannot be saved is said on the page."""
        try:
            action()
        except ImageError:
            pass  # the page says what is wrong with the image; other cases can still be saved
        except InputError as error:
            self.session.problem = self.session.problem or str(error)
        for page in self.pages:
            page.show()
        if self.is_suggesting:
            for case in (self.session.case, self.session.neighbor(1)):
                if case not in self.suggested:
                    background_tasks.create(self._suggest(case))

    async def _suggest(self, case: int) -> None:
        async with self._thinking:
            is_wanted = case in (self.session.case, self.session.neighbor(1))
            if self.suggester is None or case in self.suggested or not is_wanted:
                return
            try:
                self.suggested[case] = await asyncio.to_thread(self.suggester.boxes, self.session.table.image(case))
            except ImageError:
                self.suggested[case] = []  # the page says what is wrong with the image
        for page in self.pages:
            page.show()

    def trouble(self, case: int) -> str | None:
        """Why a case's image cannot be shown (any more: it could when the table was opened); None: it can."""
        try:
            image_size(self.session.table.image(case))
        except ImageError as error:
            return f"{self.session.table.image(case)} cannot be shown: {error}. Put it back and come back to it."
        return None

    def shown(self, case: int) -> dict[str, Any]:
        """What the canvas needs of a case."""
        session = self.session
        width, height = (SMALLEST, SMALLEST) if self.trouble(case) else image_size(session.table.image(case))
        boxes = session.table.labels(case).box_list()
        suggested = self.suggested.get(case, []) if self.is_suggesting else []
        return {
            "case": case,
            "url": self.address(case),
            "width": width,
            "height": height,
            "boxes": boxes,
            "suggestions": [box for box in suggested if list(box) not in boxes],
            "upcoming": [self.address(session.neighbor(direction)) for direction in (1, -1)],
        }

    def address(self, case: int) -> str:
        """Of a case's image, below the server's."""
        return f"/images/{self.token}/{case}"


class Page:
    """The desk in one browser tab."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.edit = desk, 0
        ui.add_css(Path(__file__).with_name("page.css"))
        with ui.element("div").classes("desk") as self.frame:
            with ui.element("div").classes("top"):
                self.name, self.place = ui.label().classes("name"), ui.label()
                self.path, self.done = ui.label().classes("path"), ui.label()
                self.saved = ui.label("saved").classes("saved")
            self.message = ui.label().classes("message")
            self.canvas = BoxCanvas().on("box", self._box).on("key", self._key)
            with ui.element("div").classes("side"):
                self.choices = self._side()
        self.canvas.props["keys"] = [*LABEL_KEYS, *MOVES, "undo", "f", "s", "a"]
        desk.pages.add(self)
        context.client.on_delete(lambda: desk.pages.discard(self))
        desk.act(lambda: None)

    def _side(self) -> dict[str, Element]:
        sections = {
            "This image shows": [(key, name, key) for key, name in LABEL_KEYS.items()],
            "Go": COMMANDS,
            "Boxes and view": [(key, name, None) for key, name in GESTURES],
            **({"Suggestions": SUGGESTING} if self.desk.suggester is not None else {}),
        }
        made = {}
        for title, rows in sections.items():
            ui.label(title).classes("title")
            for shown, name, key in rows:
                with ui.element("div").classes("choice live" if key is not None else "choice") as choice:
                    ui.label(shown).classes("key")
                    ui.label(name)
                if key is not None:
                    choice.on("click", lambda key=key: self._press(self.desk.session.case, key))
                    made[key] = choice
        self.warning = ui.label().classes("warning")
        ui.label("Research use only").classes("title")
        return made

    def _box(self, event: GenericEventArguments) -> None:
        self.edit = event.args["edit"]
        change = [event.args[name] for name in ("case", "before", "after")]
        self.desk.act(lambda: self.desk.session.change(*change))

    def _key(self, event: GenericEventArguments) -> None:
        self._press(event.args["case"], event.args["key"])

    def _press(self, case: int, key: str) -> None:
        self.desk.act(lambda: self.desk.key(case, key))

    def show(self) -> None:
        """Bring the tab up to date."""
        desk, session = self.desk, self.desk.session
        case, progress = session.case, session.progress()
        image_id, labels = session.table.image_ids[case], session.table.labels(case)
        self.canvas.props["shown"] = {**desk.shown(case), "edit": self.edit}
        self.name.text = image_id
        self.place.text = f"{case + 1} of {progress.cases}"
        self.path.text = session.table.paths[case]
        self.done.text = f"{progress.complete} done, {progress.left} left"
        if progress.seconds is not None:
            self.done.text += f", {progress.seconds:.1f} s an image"
        self.frame.style(f"--done: {100 * progress.complete / progress.cases:.1f}%")
        self.message.text = session.problem or desk.trouble(case) or ""
        self.message.visible = bool(self.message.text)
        self.saved.visible = session.problem is None
        is_seen = desk.suggester is not None and image_id in desk.suggester.seen
        self.warning.text = "The model was trained on this very image." if is_seen and desk.is_suggesting else ""
        chosen = {key for key, answer in LABEL_KEYS.items() if answer == labels.describe()}
        chosen |= {key for key, is_on in {"f": session.only_open, "s": desk.is_suggesting}.items() if is_on}
        for key, choice in self.choices.items():
            choice.classes(**({"add": "chosen"} if key in chosen else {"remove": "chosen"}))
