"""Take the screenshots of README and docs anew: python scripts/make_screenshots.py.

Runs examples/residency-small-dram.toml, a comparison of residency policies, and that of docs/five-minutes.md,
and photographs their reports.
Needs the browser extra and chromium.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from agentservesim.cli import main

REPOSITORY = Path(__file__).parents[1]
SCENARIO = REPOSITORY / "examples" / "residency-small-dram.toml"
PICTURES = {
    # name: folder, colours, what is in the picture, from the first element to the last
    "report": ("run", "light", ("header", "#time")),
    "report-kv": ("run", "light", ("#kv", "#gaps")),
    "report-slowest": ("run", "dark", ("#slowest", "#slowest")),
    "report-comparison": ("comparison", "light", ("header", "#pareto")),
    "five-minutes": ("mine", "light", ("header", "#differences")),
}
MARGIN = 16


def simulate(*words: str) -> None:
    """Run a command of agentservesim."""
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise


def five_minutes(place: Path) -> None:
    """The comparison of docs/five-minutes.md, in `place`/mine."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (REPOSITORY / "docs" / "five-minutes.md").read_text(), re.S | re.M
    )
    with chdir(place):
        Path("mine.jsonl").write_text(blocks[1].partition("\n")[2].removesuffix("END\n"))
        simulate(*shlex.split(blocks[3].replace("\\\n", ""))[1:-1], "mine")


def photograph(browser: Browser, report: Path, scheme: str, ends: tuple[str, str], target: Path) -> None:
    """A part of a report as a PNG."""
    options = {"viewport": {"width": 1080, "height": 900}, "device_scale_factor": 1.5}
    context = browser.new_context(color_scheme=scheme, **options)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(report.as_uri())
    first, last = (page.locator(end).bounding_box() for end in ends)
    assert first is not None
    assert last is not None
    top, bottom = first["y"] - MARGIN, last["y"] + last["height"] + MARGIN
    clip = {"x": 0, "y": max(top, 0), "width": 1080, "height": bottom - max(top, 0)}
    page.screenshot(path=target, clip=clip, full_page=True)  # type: ignore[arg-type]
    context.close()


if __name__ == "__main__":
    chromium = shutil.which("chromium") or sys.exit("there is no chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        simulate("run", str(SCENARIO), "--quiet", "--out", f"{place}/run")
        arms = "residency=lru,ttl,demote,cost-aware"
        more = ("--program-rate", "0.1", "--seeds", "4", "--quiet", "--out", f"{place}/comparison")
        simulate("compare", str(SCENARIO), "--set", "workload.max_programs=30", "--vary", arms, *more)
        five_minutes(Path(place))
        browser = driver.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        for name, (folder, scheme, ends) in PICTURES.items():
            target = REPOSITORY / "docs" / "img" / f"{name}.png"
            photograph(browser, Path(place, folder, "report.html"), scheme, ends, target)
            print(target)
        browser.close()
