"""The server behind the page: this machine only, nothing from elsewhere."""

import secrets
import socket
import warnings
import webbrowser
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import cv2
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from liverattn.annotation.page import Desk, Page
from liverattn.data.images import ImageError, read_grey
from liverattn.errors import InputError

HOST = "127.0.0.1"
LOCAL_NAMES = (HOST, "localhost")
REFUSAL = "Only for this machine's own page: open the whole address that the command has printed, with its key."


class LocalOnly:
    """Refuses requests that were meant for another name, or come from another site's page (DNS rebinding).

    It also refuses those without the key, which the printed address has and a cookie keeps: other users of this machine
    reach the same addresses.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            cookie = f"liverattn_{scope['server'][1]}={self.key}"  # browsers know cookies by name, not by port
            is_opened = self._is_key(parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0])
            is_known = any(
                secrets.compare_digest(one.strip().encode(), cookie.encode())
                for one in headers.get(b"cookie", "").split(";")
            )
            if not _is_own(headers.get(b"host", ""), headers.get(b"origin")) or not (is_opened or is_known):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                else:
                    await PlainTextResponse(REFUSAL, 403)(scope, receive, send)
                return
            if is_opened:
                send = _with_header(send, b"set-cookie", f"{cookie}; Path=/; HttpOnly; SameSite=Strict".encode())
        await self.app(scope, receive, send)

    def _is_key(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.key.encode())


def _with_header(send: Send, name: bytes, value: bytes) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (name, value)]}
        await send(message)

    return sent


def _is_own(host: str, origin: str | None) -> bool:
    try:
        is_local = urlsplit(f"//{host}").hostname in LOCAL_NAMES
        return is_local and (origin is None or urlsplit(origin).netloc == host)
    except ValueError:  # such as half a pair of brackets
        return False


def bound_socket(port: int) -> socket.socket:
    """A socket on this machine only.

    Args:
        port: 0 takes any free one.

    Raises:
        InputError: The port is taken, not allowed or no number.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise InputError(f"Expected port to be a whole number, such as 8050, or 0 for any free one, but got {port}.")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # whoever opens the page before the server is up waits for it
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"Port {port} cannot be used ({error}). Choose another one: port=0 takes any free one."
        ) from None
    return listener


def address(desk: Desk, listener: socket.socket) -> str:
    """Where the page is, with its key."""
    return f"http://{HOST}:{listener.getsockname()[1]}/?key={desk.token}"


def serve(desk: Desk, listener: socket.socket, *, open_browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Args:
        desk: What is shown.
        listener: Of :func:`bound_socket`.
        open_browser: Show the page in the default browser.
    """
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(LocalOnly, key=desk.token)

    @server.get("/images/{token}/{case}")
    def image(token: str, case: int) -> Response:
        if not secrets.compare_digest(token.encode(), desk.token.encode()) or not 0 <= case < len(desk.session.table):
            return PlainTextResponse("No such image.", 404)
        try:
            png = cv2.imencode(".png", read_grey(desk.session.table.image(case)), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        except ImageError as error:
            return PlainTextResponse(f"{desk.session.table.paths[case]} cannot be shown: {error}.", 422)
        return Response(png.tobytes(), media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    ui.run_with(
        server,
        root=lambda: Page(desk) and None,
        title="liverattn annotate",
        dark=True,
        tailwind=False,
        show_welcome_message=False,
    )
    if open_browser:
        nicegui_app.on_startup(lambda: webbrowser.open(address(desk, listener)))
    # NiceGUI looks for its server among all objects there are, and touches a deprecated one of torch.
    warnings.filterwarnings("ignore", "`torch.distributed.reduce_op` is deprecated", FutureWarning)
    config = uvicorn.Config(server, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):  # the usual end
        uvicorn.Server(config).run(sockets=[listener])
