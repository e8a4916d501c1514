"""The page: template, style, script, plotting library and data in one file."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import orjson

from agentservesim.files import write_whole
from agentservesim.report.html.comparisons import comparison_data, comparison_file
from agentservesim.report.html.pictures import report_data
from agentservesim.report.saved_run import read_run

REPORT = "report.html"
_SCRIPTS = (
    "vendor/echarts.min.js",
    "format.js",
    "charts.js",
    "programs.js",
    "memory.js",
    "comparisons.js",
    "report.js",
)


def write_report(folder: str | Path) -> Path:
    """Write report.html into the folder of a run, a comparison or a sweep, and return its path.

    It is written whole or not at all. Raises InputError if the folder is none of these or cannot be written
    to.
    """
    return write_whole(Path(folder) / REPORT, render(Path(folder)).encode())


def render(folder: Path) -> str:
    """The report as HTML. Raises InputError like `write_report`."""
    compared = comparison_file(folder)
    return _fill(report_data(read_run(folder)) if compared is None else comparison_data(compared))


def _fill(data: dict[str, Any]) -> str:
    """The page with its data: text in it can be anything, and stays text."""
    scripts = "\n".join(f"<script>\n{_asset(name)}\n</script>" for name in _SCRIPTS)
    return Template(_asset("page.html")).substitute(
        title=escape(data["name"]), style=_asset("report.css"), data=as_script_text(data), scripts=scripts
    )


def as_script_text(data: object) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or opens a comment."""
    return orjson.dumps(data).decode().replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
