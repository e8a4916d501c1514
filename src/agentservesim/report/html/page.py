"""The page: template, style, script, plotting library and data in one file."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import orjson

from agentservesim.report.files import write_whole
from agentservesim.report.html.pictures import report_data
from agentservesim.report.saved_run import SavedRun, read_run

REPORT = "report.html"
_SCRIPTS = ("vendor/echarts.min.js", "format.js", "charts.js", "report.js")


def write_report(folder: str | Path) -> Path:
    """Write report.html into a run folder, whole or not at all, and return its path.

    Raises InputError if the folder is no run or cannot be written to.
    """
    run = read_run(folder)
    return write_whole(run.folder / REPORT, render(run).encode())


def render(run: SavedRun) -> str:
    """The report of a run as HTML."""
    return fill_page(run.name, report_data(run))


def fill_page(title: str, data: dict[str, Any]) -> str:
    """The page with its data: text in it can be anything, and stays text."""
    scripts = "\n".join(f"<script>\n{_asset(name)}\n</script>" for name in _SCRIPTS)
    return Template(_asset("page.html")).substitute(
        title=escape(title), style=_asset("report.css"), data=as_script_text(data), scripts=scripts
    )


def as_script_text(data: object) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or opens a comment."""
    return orjson.dumps(data).decode().replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
