"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, its links lead."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="the docs extra is not installed")
REPOSITORY = Path(__file__).parents[1]


class Page(HTMLParser):
    """What a page loads, where it leads, and the places in it that can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values.get("id", ""), values.get("name", "")}
        if "src" in values:
            self.loads.append(values["src"])
        if "href" in values:
            (self.links if tag == "a" else self.loads).append(values["href"])


def built(folder: Path) -> dict[Path, Page]:
    """The pages of the site by file."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {file: Page(file.read_text()) for file in folder.glob("**/*.html")}


def check_links(file: Path, page: Page, site: dict[Path, Page]) -> None:
    for link in page.links + page.loads:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        assert target.exists(), f"{file.name}: {link}"
        if parts.fragment and target in site:
            assert unquote(parts.fragment) in site[target].places, f"{file.name}: {link}"


def test_the_site(tmp_path: Path) -> None:
    site = built(tmp_path)
    assert {"index.html", "five-minutes.html", "fields.html", "lru.html"} <= {file.name for file in site}
    assert len(site) > len(list((REPOSITORY / "docs").glob("**/*.md")))
    for file, page in site.items():
        assert not [load for load in page.loads if urlsplit(load).netloc], file.name
        if file.name != "404.html":
            check_links(file, page, site)
