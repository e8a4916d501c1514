"""The commands that show runs that were made before."""

from __future__ import annotations

from contextlib import suppress
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


def view(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that holds run folders.")],
    host: Annotated[str, typer.Option("--host", help="The address to serve on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8765,
    public: Annotated[
        bool, typer.Option("--public", help="Allow a --host that other machines can reach.")
    ] = False,
) -> None:
    """Show a folder of runs in the browser: list, filter, open, two side by side.

    Serves to this machine only, and nothing but runs, until it is interrupted (Ctrl-C).
    """
    from agentservesim.report.view import serve

    with suppress(KeyboardInterrupt):
        serve(folder, host, port, public, lambda url: print(f"serving {folder} on {url}", flush=True))
