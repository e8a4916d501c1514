"""The commands that show runs that were made before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Run folders, as run --out writes them.")
    ],
    perfetto: Annotated[
        bool, typer.Option("--perfetto", help="Write trace.pftrace too, to be opened on ui.perfetto.dev.")
    ] = False,
) -> None:
    """Write the report of a run anew, and a timeline on request.

    Every run --out writes report.html by itself. The timeline has a track for each program, instance, tier
    and link, and the steps if the run kept them (--steps).
    """
    from agentservesim.report.html import write_report

    for folder in folders:
        print(write_report(folder))
        if perfetto:
            from agentservesim.report.perfetto import write_trace

            print(write_trace(folder))
