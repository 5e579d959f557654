"""How quick the playground is: the time until it can be used, and how smoothly a gallery of 2,000 pictures scrolls.

A server without a model and headless Chromium, both on this machine. A round opens the page in a new profile, then
again with the same profile, and counts from the start of the navigation until the endpoints are offered and the prompt
has the focus. Then 2,000 pictures are put where the page keeps its history, and the gallery is scrolled for a while;
what counts is how long each frame takes. Headless Chromium draws without a GPU here, so that frames take longer than on
a desktop.

    python -m benchmarks.page --rounds 5
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.load import free_port, plain_environment
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "page.json"
PICTURES = 2_000
SCROLL_MS = 4_000
_READY = """() => {
  window.ready = new Promise((resolve) => {
    const look = () => {
      const isReady = document.querySelector("#endpoints input") && document.activeElement?.id === "prompt";
      if (isReady) resolve(performance.now());
      else requestAnimationFrame(look);
    };
    look();
  });
}"""
# Thumbnails as the page makes them: squares of 192 pixels with something in them.
_KEEP = """async (count) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 192;
  const context = canvas.getContext("2d");
  const thumbnails = Array.from({ length: 50 }, (_, index) => {
    for (let y = 0; y < 192; y += 8) {
      for (let x = 0; x < 192; x += 8) {
        context.fillStyle = `hsl(${index * 7 + x} 60% ${20 + ((x * y + index * 13) % 60)}%)`;
        context.fillRect(x, y, 8, 8);
      }
    }
    return canvas.toDataURL("image/jpeg", 0.8);
  });
  const opening = indexedDB.open("flux-endpoint");
  const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
  const transaction = database.transaction("runs", "readwrite");
  for (let index = 0; index < count; index++) {
    transaction.objectStore("runs").put({
      id: `kept-${index}`, endpoint: "black-forest-labs-flux-1-dev", endpointName: "Flux Dev", createdMs: index,
      status: "COMPLETED", input: { prompt: `a lake, number ${index}`, seed: index }, output: { seed: index },
      thumbnail: thumbnails[index % thumbnails.length],
    });
  }
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  database.close();
}"""
_SCROLL = """async (lasting_ms) => {
  const room = document.getElementById("gallery-room");
  const frames = [];
  const start_ms = performance.now();
  let before_ms = start_ms;
  for (;;) {
    const now_ms = await new Promise(requestAnimationFrame);
    frames.push(now_ms - before_ms);
    before_ms = now_ms;
    if (now_ms - start_ms > lasting_ms) break;
    room.scrollBy(0, 24);
  }
  return { frames: frames.slice(2), scrolled: room.scrollTop };
}"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A gateway that draws flat colours; its address."""
    port = free_port()
    environment = plain_environment() | {
        "FLUX_ENDPOINT_PORT": str(port),
        "FLUX_ENDPOINT_DATA_DIR": str(folder),
        "FLUX_ENDPOINT_MODEL": "fake",
    }
    command = [sys.executable, "-m", "flux_endpoint", "serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{base}/v2/endpoints").raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None:
                    raise RuntimeError(f"serve ended with exit code {process.returncode}") from None
                time.sleep(0.02)
        yield base
    finally:
        process.terminate()
        process.wait()


def interactive_ms(page: Page, base: str) -> float:
    """Milliseconds from the start of a navigation until the page can be used."""
    page.goto(base)
    return page.evaluate("window.ready")


def scroll(page: Page, base: str) -> dict[str, float]:
    """The gallery with 2,000 pictures: milliseconds until it is open, and frames while it scrolls."""
    page.evaluate(_KEEP, PICTURES)
    page.goto(base)
    start_s = time.perf_counter()
    page.click("#gallery-open")
    page.locator("#gallery-grid .tile").nth(50).wait_for()
    open_ms = (time.perf_counter() - start_s) * 1_000
    found: dict[str, Any] = page.evaluate(_SCROLL, SCROLL_MS)
    frames = sorted(found["frames"])
    return {
        "open_ms": open_ms,
        "frames_per_second": 1_000 / statistics.mean(frames),
        "median_frame_ms": statistics.median(frames),
        "p95_frame_ms": frames[int(0.95 * len(frames))],
        "longest_frame_ms": frames[-1],
        "scrolled_px": found["scrolled"],
    }


def measure(browser: Browser, base: str) -> dict[str, float]:
    """One round, in a profile of its own."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(f"({_READY})()")
    try:
        first_ms, again_ms = interactive_ms(page, base), interactive_ms(page, base)
        return {"first_visit_ms": first_ms, "next_visit_ms": again_ms} | scroll(page, base)
    finally:
        context.close()


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as base, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path)
        rounds = [measure(browser, base) for _ in range(arguments.rounds)]
        version = browser.version
        browser.close()
    table = Table("figure", "median", "from", "to")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        table.add_row(name, *(f"{value:,.1f}" for value in (statistics.median(values), min(values), max(values))))
    Console().print(table)
    result = {"machine": describe_machine(("playwright",)), "chromium": version, "pictures": PICTURES, "rounds": rounds}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
