"""The report in a real browser: drawn without errors, right in number, reachable by mouse and keys."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from agentservesim.report.html import write_report
from agentservesim.report.html.memory import HEAT_BINS, STATES, TIME_BINS
from agentservesim.report.html.pictures import report_data
from agentservesim.report.html.programs import PARTS
from agentservesim.report.html.series import QUANTILES
from agentservesim.report.saved_run import read_run
from agentservesim.report.view.server import make_server
from tests.report.runs import HOSTILE, summary_of
from tests.report.test_comparisons import content

pytestmark = pytest.mark.browser

QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
MARKS = """(id) => {
  const chart = echarts.getInstanceByDom(document.querySelector(`#${id} .chart`));
  return chart ? chart.getModel().getSeries().map((series) => series.getData().count()) : null;
}"""
PAINTED = "(id) => document.querySelectorAll(`#${id} .chart svg path, #${id} .chart svg polyline`).length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


class Tab:
    """A page that remembers what went wrong on it."""

    def __init__(self, browser: Any, url: str, width: int = 1200, **options: Any) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page = context.new_page()
        self.faults: list[str] = []
        self.page.on(
            "console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda r: self._fetched(r.url))
        self.own = url
        self.page.goto(url)

    def _fetched(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")) and url != self.own and "127.0.0.1" not in url:
            self.faults.append(f"fetched {url}")

    def marks(self, picture: str) -> list[int] | None:
        found: list[int] | None = self.page.evaluate(MARKS, picture)
        return found

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    tabs: list[Tab] = []

    def opened(folder: Path, **options: Any) -> Tab:
        tabs.append(Tab(browser, (folder / "report.html").as_uri(), **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.page.context.close()
    assert [fault for tab in tabs for fault in tab.faults] == []


def expected_marks(folder: Path, of: int = 0) -> dict[str, list[int] | None]:
    """What each picture must draw, series by series, for the class of programs `of`."""
    run = read_run(folder)
    data = {p["id"]: p["data"][of] if p["by_class"] else p["data"] for p in report_data(run)["pictures"]}
    bars = len(data["time"]["rows"])
    tiers = data["kv"]["views"][0]["tiers"]
    states = [state for state in STATES if state in tiers[0]["bytes"]]
    segments = [row["segments"] for row in data["slowest"]["rows"]]
    return {
        "time": [bars] * len(PARTS) if bars else None,
        "kv": [TIME_BINS] * len(states) * len(tiers),
        "gaps": [len(data["gaps"]["edges_s"]) - 1] * 4 if data["gaps"]["edges_s"] else None,
        "latency": [len(QUANTILES) for curve in data["latency"] if curve["n"]] or None,
        "load": [len(data["load"]["instances"]) * HEAT_BINS] * 2,
        "links": [TIME_BINS for _ in data["links"]["links"]]
        if any(link["bytes"] for link in data["links"]["links"])
        else None,
        "slowest": [sum(s[1] == part for row in segments for s in row) for part in range(len(PARTS))]
        if segments
        else None,
    }


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("tiered", "light"), ("tiered", "dark"), ("plain", "dark"), ("failed", "light"), ("large", "light")],
)
def test_every_picture_is_drawn_whole(
    opened: Any, request: pytest.FixtureRequest, kind: str, scheme: str
) -> None:
    folder: Path = request.getfixturevalue(kind)
    write_report(folder)
    tab = opened(folder, color_scheme=scheme)
    for picture, marks in expected_marks(folder).items():
        assert tab.marks(picture) == marks, picture
        if marks:
            assert tab.page.evaluate(PAINTED, picture) > 5, f"{picture} has no ink"
        else:
            assert tab.page.locator(f"#{picture} .empty").is_visible()
    assert tab.page.evaluate("document.documentElement.dataset.theme") == scheme


def test_numbers_on_the_page_are_those_of_the_summary(opened: Any, tiered: Path) -> None:
    tab, summary = opened(tiered), summary_of(tiered)
    shown = tab.page.eval_on_selector_all(
        "[data-metric]",
        "nodes => nodes.map((n) => [n.dataset.metric, Number(n.dataset.value), n.textContent])",
    )
    assert len(shown) == 5
    for metric, value, _ in shown:
        known = summary
        for key in metric.split("."):
            known = known[key]
        assert value == known, metric
    texts = {metric: text for metric, _, text in shown}
    assert texts["tokens.hit_rate"] == f"{summary['tokens']['hit_rate']:.0%}"
    assert tab.page.locator(".slos .met").count() == 1
    assert tab.page.locator(".slos .missed").count() == 1


def test_a_failed_run_says_so(opened: Any, failed: Path) -> None:
    tab = opened(failed)
    assert "incomplete" in tab.text(".warning")


def test_hovering_tells_the_value(opened: Any, tiered: Path) -> None:
    tab = opened(tiered)
    chart = tab.page.locator("#time .chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    tab.page.mouse.move(box["x"] + 160, box["y"] + 34 + 30)
    tip = tab.page.locator("#time .tip")
    tip.wait_for(state="visible")
    assert "p99" in tip.inner_text()
    assert "tools, think time" in tip.inner_text()


def test_keys_read_the_values_and_zoom(opened: Any, tiered: Path) -> None:
    tab = opened(tiered)
    for picture in ("time", "kv", "gaps", "latency", "load", "links", "slowest"):
        chart = tab.page.locator(f"#{picture} .chart")
        assert chart.get_attribute("tabindex") == "0"
        assert "?" in chart.get_attribute("aria-label")
        chart.focus()
        heard = []
        for _ in range(3):
            tab.page.keyboard.press("ArrowRight")
            heard.append(tab.text("#spoken") or tab.page.text_content("#spoken"))
        assert len(set(heard)) == 3, (picture, heard)
        assert tab.page.locator(f"#{picture} .tip").is_visible()
    window = "() => echarts.getInstanceByDom(document.querySelector('#kv .chart')).getOption().dataZoom[0]"
    tab.page.locator("#kv .chart").focus()
    tab.page.keyboard.press("+")
    zoomed = tab.page.evaluate(window)
    assert zoomed["end"] - zoomed["start"] == pytest.approx(50)
    tab.page.keyboard.press("0")
    assert tab.page.evaluate(window)["end"] == 100


def test_everything_can_be_reached_with_the_tab_key(opened: Any, tiered: Path) -> None:
    tab = opened(tiered)
    reached = set()
    for _ in range(80):
        tab.page.keyboard.press("Tab")
        reached.add(
            tab.page.evaluate(
                "document.activeElement.closest('section.card')?.id + ' ' + document.activeElement.tagName"
            )
        )
    for picture in expected_marks(tiered):
        assert {f"{picture} DIV", f"{picture} A", f"{picture} SUMMARY"} <= reached, picture
    assert "undefined SELECT" in reached
    assert "undefined BUTTON" in reached


def test_the_filter_shows_a_class_of_programs(opened: Any, tiered: Path) -> None:
    tab = opened(tiered)
    options = tab.page.locator("#class option").all_inner_texts()
    assert options[0] == "all programs (4)"
    for number in range(1, len(options)):
        tab.page.select_option("#class", str(number))
        for picture, marks in expected_marks(tiered, number).items():
            assert tab.marks(picture) == marks, (options[number], picture)


def test_choices_change_what_is_shown(opened: Any, plain: Path) -> None:
    tab = opened(plain)
    tab.page.click("#time .choices button:has-text('shares')")
    most = "() => echarts.getInstanceByDom(document.querySelector('#time .chart')).getOption().xAxis[0].max"
    assert tab.page.evaluate(most) == 100
    tab.page.click("#kv .choices button:has-text('h100-sxm-1')")
    assert tab.page.locator("#kv [aria-pressed=true]").inner_text() == "h100-sxm-1"
    assert tab.marks("kv") == [TIME_BINS]


def test_the_theme_can_be_switched(opened: Any, tiered: Path) -> None:
    tab = opened(tiered, color_scheme="light")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(background)
    tab.page.click("#theme")
    assert tab.page.evaluate(background) != light
    assert tab.page.get_attribute("#theme", "aria-label") == "Switch to light colours"
    assert tab.marks("time") == expected_marks(tiered)["time"]


def test_a_narrow_window_needs_no_sideways_scrolling(opened: Any, tiered: Path) -> None:
    tab = opened(tiered, width=400)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 400
    for picture, marks in expected_marks(tiered).items():
        assert tab.marks(picture) == marks


def test_tables_say_what_pictures_say(opened: Any, tiered: Path) -> None:
    tab = opened(tiered)
    tab.page.click("#latency summary")
    rows = tab.page.locator("#latency tbody tr")
    rows.first.wait_for()  # made when the fold has opened, which the browser tells later than the click
    assert rows.count() == 3
    assert rows.first.locator("td").all_inner_texts()[:2] == [
        "TTFT",
        str(summary_of(tiered)["turn"]["ttft_s"]["n"]),
    ]


def test_it_prints_in_light_colours(opened: Any, tiered: Path, tmp_path: Path) -> None:
    tab = opened(tiered, color_scheme="dark")
    tab.page.pdf(path=str(tmp_path / "report.pdf"))
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    tab.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")


def test_names_are_text(opened: Any, hostile: Path) -> None:
    tab = opened(hostile)
    assert tab.text("#name").startswith("</script><script>")
    assert tab.page.title() == HOSTILE
    for picture in ("time", "gaps", "slowest"):
        tab.page.locator(f"#{picture} .chart").focus()
        for _ in range(4):
            tab.page.keyboard.press("ArrowRight")
    for fold in tab.page.locator("details").all():
        fold.locator("summary").click()
        fold.locator("tbody").wait_for()
    for number in range(tab.page.locator("#class option").count()):
        tab.page.select_option("#class", str(number))
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.locator("img").count() == 0


def test_a_comparison_is_drawn_and_can_be_read(opened: Any, tmp_path: Path) -> None:
    folder = tmp_path / "compared"
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(content()))
    write_report(folder)
    tab = opened(folder)
    assert tab.marks("differences") == [1, 1]
    assert tab.marks("pareto") == [3, 3, 3, 1]
    tab.page.locator("#pareto .chart").focus()
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.text_content("#spoken").startswith("lru, mean. programs: 396/h; mean latency: 11 s")
    assert tab.page.locator("#pareto .tip").is_visible()
    tab.page.locator("#differences .chart").focus()
    tab.page.keyboard.press("ArrowRight")
    assert "good: -22.7% (-27.7% to -17.7%)" in tab.page.text_content("#spoken")


@pytest.fixture
def served(tmp_path: Path, tiered: Path, hostile: Path) -> Iterator[str]:
    for folder in (tiered, hostile):
        shutil.copytree(folder, tmp_path / "runs" / folder.name)
    with make_server(tmp_path / "runs", "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_folder_of_runs_can_be_listed_filtered_opened_and_put_side_by_side(
    browser: Any, served: str
) -> None:
    tab = Tab(browser, served)
    rows = tab.page.locator("#runs tr:visible")
    assert rows.count() == 2
    tab.page.fill("#filter", "tiered demote")
    assert rows.count() == 1
    tab.page.fill("#filter", "no such thing")
    assert rows.count() == 0
    assert tab.page.locator("#none").is_visible()
    tab.page.fill("#filter", "")
    assert tab.page.locator("#two").is_disabled()
    for box in tab.page.locator("#runs input").all():
        box.check()
    tab.page.click("#two")
    tab.page.wait_for_url("**/two?run=*")
    for number in range(2):
        tab.page.frame_locator(f"iframe >> nth={number}").locator("#slowest .chart svg").wait_for()
    tab.page.goto(served)
    tab.page.click("text=tiered >> nth=0")
    tab.page.wait_for_selector("#slowest .chart svg")
    assert tab.marks("time") is not None
    assert tab.page.evaluate("window.hacked") is None
    tab.page.context.close()
    assert tab.faults == []
