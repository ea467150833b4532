"""The page in a real browser, driven as a person would, and compared with the table."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from liverattn.annotation.labels import Box
from liverattn.annotation.page import Desk
from liverattn.annotation.server import LocalOnly
from liverattn.annotation.session import Session
from liverattn.data.manifest import read_manifest
from liverattn.data.spreadsheets import read_cells
from tests.annotation.conftest import write_images
from tests.browser import CHROMIUM, needs_browser, sync_api


class Served:
    """The command in a process of its own, in an empty working folder."""

    def __init__(self, folder: Path) -> None:
        (folder / "cwd").mkdir(exist_ok=True)
        command = [sys.executable, "-m", "liverattn.annotate", f"data.manifest={folder / 'cases.csv'}", "port=0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder / "cwd"
        )
        assert self.process.stdout is not None
        self.said = ""
        while not (found := re.search(r"http://127.0.0.1:\d+/\?key=[\w-]{22} ", self.said)):
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line
        self.address = found.group().strip()

    def end(self, kind: signal.Signals) -> str:
        """Send a signal; what was said in all."""
        self.process.send_signal(kind)
        rest, _ = self.process.communicate(timeout=20)
        return self.said + rest


class Person:
    """Mouse and keys, in pixels of the shown image."""

    def __init__(self, page: "sync_api.Page", table: Path) -> None:
        self.page, self.table = page, table
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def open(self, address: str, image_id: str) -> None:
        self.page.goto(address)
        self.sees(image_id)

    def sees(self, image_id: str) -> None:
        """Wait until an image is there."""
        sync_api.expect(self.page.locator(".name")).to_have_text(image_id)
        self.page.wait_for_selector(".canvas svg.ready")

    def drag(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        keys: str | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        matrix = "(() => { const m = document.querySelector('.canvas svg').getScreenCTM(); return [m.a, m.e, m.f]; })()"
        scale, left, top = self.page.evaluate(matrix)
        (x0, y0), (x1, y1) = [(left + x * scale, top + y * scale) for x, y in (start, end)]
        if keys is not None:
            self.page.keyboard.down(keys)
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        self.page.mouse.move(x1, y1, steps=5)
        meanwhile()
        self.page.mouse.up()
        if keys is not None:
            self.page.keyboard.up(keys)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def shown(self) -> list[list[float]]:
        """The boxes on the screen."""
        read = "e => ['x', 'y', 'width', 'height'].map(name => Number(e.getAttribute(name)))"
        sides = [box.evaluate(read) for box in self.page.locator(".canvas .box").all()]
        return [[x, y, x + width, y + height] for x, y, width, height in sides]

    def finds(self, case: int, *expected: object) -> None:
        """Wait until lesion, malignant, type and boxes of a case stand in the table."""
        found: object = None
        for _ in range(100):
            row = read_cells(self.table).iloc[case]
            boxes = json.loads(row["boxes"]) if row.get("boxes") else []
            found = (row["lesion"], row.get("malignant", ""), row.get("type", ""), boxes)
            if found == expected:
                return
            time.sleep(0.05)
        raise AssertionError(f"{found} instead of {expected}")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Served]]:
    """Starts the command; nothing is left of it after the test."""
    started: list[Served] = []

    def start() -> Served:
        started.append(Served(tmp_path))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    write_images(tmp_path, 3, size=(300, 200))
    (tmp_path / "cases.csv").write_text("image_id,path,lesion\na,0.png,\nb,1.png,\nc,2.png,\n")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield Person(browser.new_page(viewport={"width": 1000, "height": 600}), tmp_path / "cases.csv")
        browser.close()


@needs_browser
def test_a_person_fills_in_a_table(person: Person, serve: Callable[[], Served], tmp_path: Path) -> None:
    served = serve()
    person.open(served.address, "a")
    person.drag((40, 30), (100, 90))
    person.finds(0, "1", "", "", [[40, 30, 100, 90]])
    person.drag((70, 60), (80, 50))  # inside: moves
    person.finds(0, "1", "", "", [[50, 20, 110, 80]])
    person.drag((110, 80), (150, 120))  # the lower right corner
    person.finds(0, "1", "", "", [[50, 20, 150, 120]])
    person.drag((50, 70), (30, 70))  # the left edge
    person.finds(0, "1", "", "", [[30, 20, 150, 120]])
    person.drag((140, 110), (299, 250), keys="Shift")  # a new one over it, beyond the image
    person.finds(0, "1", "", "", [[30, 20, 150, 120], [140, 110, 299, 200]])
    person.press("+", "v")  # neither zoom nor contrast change boxes
    person.press("0", "Delete")
    person.finds(0, "1", "", "", [[30, 20, 150, 120]])
    person.drag((200, 50), (200.4, 50.4))  # a click
    person.press("2")
    person.finds(0, "1", "1", "hcc", [[30, 20, 150, 120]])
    person.page.reload()
    person.sees("a")
    assert person.shown() == [[30, 20, 150, 120]]
    assert person.page.locator(".choice.chosen").inner_text().split() == ["2", "hcc"]

    person.press(" ")
    person.sees("b")
    person.press("n")
    person.finds(1, "0", "", "", [])
    served.end(signal.SIGKILL)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:500])

    served = serve()
    person.open(served.address, "b")  # where it stopped
    person.press("Control+z", "f")
    person.finds(1, "", "", "", [])
    person.drag((20, 20), (60, 60))
    person.press("b")  # goes before the box is saved only if events overtook each other
    person.finds(1, "1", "0", "", [[20, 20, 60, 60]])
    person.press("ArrowRight")
    sync_api.expect(person.page.locator(".failure")).to_contain_text("2.png cannot be shown: the image data are")
    person.press("n")
    person.finds(2, "0", "", "", [])
    said = served.end(signal.SIGINT)
    assert "Labeled: 3 of 3" in said and "prepare data=manifest data.manifest=" in said and "Traceback" not in said

    manifest = read_manifest(tmp_path / "cases.csv")
    assert [boxes.tolist() for boxes in manifest.table["boxes"]] == [[[30, 20, 150, 120]], [[20, 20, 60, 60]], []]
    assert not list((tmp_path / "cwd").iterdir())
    assert not person.errors
    strangers = [url for url in person.requests if not re.match(r"(http|ws)://127\.0\.0\.1:\d+/", url)]
    assert not strangers and len(person.requests) > 10


def test_what_another_tab_does_during_a_drag_stays(person: Person, serve: Callable[[], Served]) -> None:
    served = serve()
    person.open(served.address, "a")
    other = Person(person.page.context.browser.new_page(), person.table)
    other.open(served.address, "a")

    def draw() -> None:
        other.drag((200, 20), (240, 60))
        sync_api.expect(person.page.locator(".canvas .box")).to_have_count(2)

    def remove() -> None:
        other.drag((220, 40), (220, 40))  # selects it
        other.press("Delete")
        sync_api.expect(person.page.locator(".canvas .box")).to_have_count(1)

    person.drag((40, 30), (80, 70), meanwhile=draw)
    person.finds(0, "1", "", "", [[200, 20, 240, 60], [40, 30, 80, 70]])
    person.drag((60, 50), (80, 70), meanwhile=remove)  # moves the second box, which is the first now
    person.finds(0, "1", "", "", [[60, 50, 100, 90]])
    person.drag((10, 110), (50, 150), meanwhile=lambda: other.drag((200, 110), (240, 150)))  # at the same time
    person.finds(0, "1", "", "", [[60, 50, 100, 90], [200, 110, 240, 150], [10, 110, 50, 150]])


class Known:
    """Suggests the same box everywhere."""

    seen = frozenset({"b"})

    def boxes(self, path: Path) -> list[Box]:
        return [(1, 2, 9, 9)]


def test_an_answer_goes_on_only_if_that_is_wanted_and_completes_the_case(blank: Path) -> None:
    session = Session(blank)
    desk = Desk(session, advance=True, suggester=None)
    desk.key(0, "m")
    assert session.case == 0  # a lesion without boxes
    session.box(0, [[1, 2, 9, 9]])
    desk.key(0, "m")
    assert session.case == 1
    desk.key(1, "n")
    assert session.case == 2
    desk.advance = False
    desk.key(2, "n")
    desk.key(2, "ArrowLeft")
    assert session.case == 1
    desk.key(0, "b")  # the key was pressed while case 0 was still on the screen
    assert session.table.labels(0).malignant == "0" and session.table.labels(1).lesion == "0"


def test_suggestions_are_saved_only_when_accepted(blank: Path) -> None:
    session = Session(blank)
    desk = Desk(session, advance=False, suggester=Known())
    desk.suggested[0] = Known().boxes(blank)
    assert desk.shown(0)["suggestions"] == [(1, 2, 9, 9)] and desk.shown(0)["boxes"] == []
    desk.key(0, "n")
    assert session.table.labels(0).boxes == ""
    desk.key(0, "s")  # not shown, not accepted
    desk.key(0, "a")
    assert desk.shown(0)["suggestions"] == [] and session.table.labels(0).boxes == ""
    desk.key(0, "s")
    desk.key(0, "a")
    assert session.table.labels(0).boxes == "[[1, 2, 9, 9]]"
    assert session.journal.actions[-1].name == "accepted suggestion"
    assert desk.shown(0)["suggestions"] == []  # it is a box now
    desk.key(1, "a")  # none are known yet
    assert session.table.labels(1).lesion == ""


def test_an_image_that_vanishes_is_named_and_the_others_go_on(blank: Path) -> None:
    session = Session(blank)
    desk = Desk(session, advance=False, suggester=None)
    (blank.parent / "0.png").unlink()
    assert (
        desk.trouble(0)
        == f"{blank.parent / '0.png'} cannot be shown: the file does not exist. Put it back and come back to it."
    )
    assert desk.trouble(1) is None and desk.shown(0)["case"] == 0
    desk.act(lambda: session.box(0, [[1, 1, 9, 9]]))
    assert session.problem is None
    desk.act(lambda: session.box(1, [[1, 1, 9, 9]]))
    assert read_cells(blank)["lesion"].tolist() == ["", "1", ""]


@pytest.fixture
def client() -> TestClient:
    server = FastAPI()
    server.add_middleware(LocalOnly, key="secret")

    @server.get("/")
    def page() -> PlainTextResponse:
        return PlainTextResponse("the page")

    @server.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return TestClient(server)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8050"}, 200),
        ({"host": "localhost:9000", "origin": "http://localhost:9000"}, 200),
        ({"host": "evil.example:8050"}, 403),
        ({"host": "127.0.0.1:8050", "origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1:8050", "origin": "http://127.0.0.1:9000"}, 403),
        ({"host": "127.0.0.1:8050", "origin": "null"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "127.0.0.1:8050", "origin": "http://["}, 403),
    ],
)
def test_other_sites_are_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    headers = headers | {"cookie": "other=1; liverattn_80=secret"}
    assert client.get("/", headers=headers).status_code == status
    if status == 200:
        with client.websocket_connect("/ws", headers=headers):
            pass
    else:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws", headers=headers):
            pass


@pytest.mark.parametrize("cookie", ["", "liverattn_80=", "liverattn_80=other", "liverattn_81=secret", "secret"])
def test_other_users_of_the_machine_are_refused(client: TestClient, cookie: str) -> None:
    headers = {"host": "127.0.0.1:80", "cookie": cookie}
    for query in ("", "?key=", "?key=other", "?key=%E4", "?other=secret"):
        refused = client.get(f"/{query}", headers=headers)
        assert refused.status_code == 403 and "with its key" in refused.text and "set-cookie" not in refused.headers
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws", headers=headers):
        pass


def test_the_key_is_kept_as_a_cookie(client: TestClient) -> None:
    headers = {"host": "127.0.0.1:80"}
    kept = client.get("/?key=secret", headers=headers).headers["set-cookie"]
    assert kept == "liverattn_80=secret; Path=/; HttpOnly; SameSite=Strict"
    headers["cookie"] = kept.partition(";")[0]
    assert client.get("/", headers=headers).text == "the page"
    with client.websocket_connect("/ws", headers=headers):
        pass
