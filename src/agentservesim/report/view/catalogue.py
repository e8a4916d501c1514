"""The runs below a folder, and the files of them that may be shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentservesim.model import InputError
from agentservesim.report.html import REPORT
from agentservesim.report.html.comparisons import comparison_file
from agentservesim.report.html.wording import per_hour, seconds, share
from agentservesim.report.saved_run import SavedRun, read_run
from agentservesim.results.run_folder import SUMMARY

MAX_DEPTH = 5
KINDS = {
    ".parquet": "application/vnd.apache.parquet",
    ".pftrace": "application/octet-stream",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
}
"""Files of a run that are sent as they are, by the end of their names. Reports are drawn anew."""


@dataclass(frozen=True)
class Catalogue:
    """The runs in `root` and below it. Nothing outside it is ever read, whatever a path or a link says."""

    root: Path

    def runs(self) -> Iterator[dict[str, Any]]:
        """A row for each run, comparison or sweep that can be read, by path."""
        for path, folders, files in os.walk(self.root):
            here = Path(path)
            if len(here.relative_to(self.root).parts) >= MAX_DEPTH:
                folders.clear()
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = here.relative_to(self.root).as_posix()
            if comparison_file(here) is not None:
                yield _comparison_row(here, inside)
            elif SUMMARY in files:
                try:
                    yield _row(self.run(inside), inside)
                except (InputError, KeyError, TypeError):
                    continue  # not a run, or one of another version

    def run(self, path: str) -> SavedRun:
        """The run in a folder, given relative to the root. Raises InputError if there is none."""
        return read_run(self._inside(path))

    def file(self, path: str) -> tuple[bytes, str]:
        """The content and type of a file of a run. Raises InputError if it is none that may be shown."""
        place = self._inside(path)
        kind = KINDS.get(place.suffix)
        if kind is None or not place.is_file():
            raise InputError(f"{path}: no such file of a run")
        self.report(place.parent.relative_to(self.root.resolve()).as_posix())
        return place.read_bytes(), kind

    def report(self, path: str) -> tuple[Path, int]:
        """The folder of a run, a comparison or a sweep, and when it was written.

        Raises InputError if it is none of these.
        """
        place = self._inside(path)
        told = comparison_file(place) or read_run(place).folder / SUMMARY
        return place, told.stat().st_mtime_ns

    def _inside(self, path: str) -> Path:
        try:
            place = (self.root / path).resolve()
        except (OSError, ValueError):
            raise InputError("no such path") from None
        if not place.is_relative_to(self.root.resolve()):
            raise InputError("the path is outside the folder")
        return place


def _comparison_row(folder: Path, path: str) -> dict[str, Any]:
    blank = dict.fromkeys(("policies", "turns", "latency", "ttft", "hits", "rate"), "")
    return {
        **blank,
        "path": path,
        "report": f"run/{path}/{REPORT}",
        "name": folder.name,
        "marks": "comparison",
    }


def _row(run: SavedRun, path: str) -> dict[str, Any]:
    summary = run.summary
    scenario, latency, ttft = summary["scenario"], summary["program"]["latency_s"], summary["turn"]["ttft_s"]
    families = ("residency", "router", "scheduler", "admission")
    marks = ["incomplete"] if "incomplete" in summary else []
    marks += ["oracle"] if summary["provenance"].get("oracle") else []
    marks += ["SLO missed"] if not all(slo["met"] for slo in summary.get("slo", ())) else []
    return {
        "path": path,
        "report": f"run/{path}/{REPORT}",
        "name": run.name,
        "policies": ", ".join(str(scenario[family]) for family in families if family in scenario),
        "marks": ", ".join(marks),
        "turns": f"{summary['counts']['turns'] or 0:,}",
        "latency": seconds(latency["p50"]),
        "ttft": seconds(ttft["p99"]),
        "hits": share(summary["tokens"]["hit_rate"]),
        "rate": per_hour(summary["throughput"]["programs_per_s"]),
    }
