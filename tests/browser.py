"""The machine's own Chromium, driven by playwright; tests that need it skip where it is absent."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser (extra: dev)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser, google-chrome")


@contextmanager
def opened_page(file: Path) -> "Iterator[tuple[sync_api.Page, list[str]]]":
    """A page of a file, and a list of everything that went wrong on it: errors, and requests to anywhere."""
    problems: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if _is_here(request.url, file) else problems.append(request.url))
        page.goto(file.as_uri())
        yield page, problems
        browser.close()


def _is_here(address: str, file: Path) -> bool:
    return address == file.as_uri() or address.startswith("data:")
