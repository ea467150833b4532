"""Time to box images on the annotation page, by a script that drives a real browser as a person would.

Twenty AUL images, evenly spaced over the set, none labeled at first. For each: wait until the picture is there, press
the mouse in a corner of the lesion, move in ten steps, release, press the key of the label, go on; a lesion-free
image gets one key. Then the table is compared with the outlines. Once without pauses (what the tool itself costs) and
once with a person's: looking, reaching for the mouse, drawing, each key (seconds in ``PAUSES``).

    LIVERATTN_AUL=/path/to/aul python benchmarks/annotate.py            # needs playwright and a chromium
    LIVERATTN_AUL=/path/to/aul python benchmarks/annotate.py advance=true

Further arguments are those of ``liverattn.annotate``.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

from liverattn.data.manifest import read_manifest
from liverattn.data.sources.aul import AulSource

IMAGES = 20
STEPS = 10
PAUSES = {"look": 2.0, "reach": 0.4, "draw": 0.8, "key": 0.3}
NO_PAUSES = dict.fromkeys(PAUSES, 0.0)


def blank_table(folder: Path) -> list[dict[str, Any]]:
    """Copy the images beside a table without labels; returns the true cases."""
    manifest = AulSource(root=os.environ["LIVERATTN_AUL"]).manifest()
    rows = manifest.table[manifest.table["boxes"].notna()]
    chosen = rows.iloc[np.linspace(0, len(rows) - 1, IMAGES).astype(int)].to_dict("records")
    for case in chosen:
        shutil.copyfile(manifest.root / case["path"], folder / f"{case['image_id']}.jpg")
    names = [case["image_id"] for case in chosen]
    (folder / "cases.csv").write_text("image_id,path,lesion\n" + "".join(f"{name},{name}.jpg,\n" for name in names))
    return chosen


def annotate(page: Page, cases: list[dict[str, Any]], pauses: dict[str, float], *, advances: bool) -> list[float]:
    """Box and label every case; returns seconds per image."""
    seconds = []
    for case in cases:
        started = time.perf_counter()
        expect(page.locator(".name")).to_have_text(case["image_id"])
        page.wait_for_selector(".canvas svg.ready")
        time.sleep(pauses["look"])
        if case["lesion"]:
            time.sleep(pauses["reach"])
            for box in case["boxes"]:
                draw(page, box, pauses["draw"])
        last = case is cases[-1]
        keys = ["n" if not case["lesion"] else "m" if case["malignant"] == 1 else "b"]
        for key in [*keys, *([] if advances or last else [" "])]:
            time.sleep(pauses["key"])
            page.keyboard.press(key)
        seconds.append(time.perf_counter() - started)
    expect(page.locator(".top")).to_contain_text(f"{len(cases)} done")
    return seconds


def draw(page: Page, box: Any, seconds: float) -> None:
    """Draw one box, given in image pixels."""
    where = "(() => { const m = document.querySelector('.canvas svg').getScreenCTM(); return [m.a, m.e, m.f]; })()"
    scale, left, top = page.evaluate(where)
    x0, y0, x1, y1 = (edge * scale + (left, top)[i % 2] for i, edge in enumerate(box))
    page.mouse.move(x0, y0)
    page.mouse.down()
    for step in range(1, STEPS + 1):
        time.sleep(seconds / STEPS)
        page.mouse.move(x0 + (x1 - x0) * step / STEPS, y0 + (y1 - y0) * step / STEPS)
    page.mouse.up()


def run(pauses: dict[str, float], arguments: list[str]) -> list[float]:
    """One whole session: server, browser, comparison of what was saved with the outlines."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        cases = blank_table(Path(folder))
        table = Path(folder) / "cases.csv"
        command = [sys.executable, "-m", "liverattn.annotate", f"data.manifest={table}", "port=0", *arguments]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = next(found.group() for line in server.stdout if (found := re.search(r"http://\S+", line)))
        found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        browser = playwright.chromium.launch(executable_path=next(found))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        seconds = annotate(page, cases, pauses, advances="advance=true" in arguments)
        browser.close()
        server.send_signal(signal.SIGINT)
        server.communicate()
        saved = read_manifest(table).table
    wrong = [
        case["image_id"]
        for case, boxes, lesion in zip(cases, saved["boxes"], saved["lesion"], strict=True)
        if lesion != case["lesion"] or not np.allclose(boxes, case["boxes"], atol=1)
    ]
    print(f"{len(cases) - len(wrong)} of {len(cases)} as outlined" + (f", not {wrong}" if wrong else ""))
    return seconds


def main() -> None:
    """Run the benchmark."""
    for name, pauses in (("without pauses", NO_PAUSES), (f"pauses {PAUSES}", PAUSES)):
        seconds = run(pauses, sys.argv[1:])
        print(f"{name}: {np.sum(seconds):.1f} s, {np.mean(seconds):.2f} s an image (median {np.median(seconds):.2f})")


if __name__ == "__main__":
    main()
