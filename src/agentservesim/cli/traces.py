"""The commands about traces: stats, synth, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentservesim.cli.options import Json, checked
from agentservesim.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from agentservesim.model import Workload


def trace_stats(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A trace, or demo: the shipped one.")],
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Describe a trace: programs, turns, tokens, gaps, reuse.

    Reuse is the share of the prompt tokens that an infinite prefix cache would hold.
    """
    from dataclasses import asdict

    from agentservesim.workload import trace_stats as measure

    statistics = measure(_load_trace(file, flags))
    if as_json:
        print_json(asdict(statistics))
        return
    print_rows(dict(statistics.rows()))


def trace_synth(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="What to imitate, as claude-code; see list profiles.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the trace here (.jsonl or .jsonl.gz).")],
    programs: Annotated[int, typer.Option("--programs", min=1, help="Programs to draw.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
) -> None:
    """Draw a synthetic trace from a profile's distributions."""
    from agentservesim.workload import synthesise, write_trace

    write_trace(synthesise(profile, programs, seed), out)


def trace_convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A trace in any format that can be read.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The trace to write, in the canonical format, version 2.")
    ],
    **flags: Any,
) -> None:
    """Convert a trace to the canonical format."""
    from agentservesim.workload import write_trace

    write_trace(_load_trace(file, flags), out)


def _load_trace(file: str, flags: dict[str, Any]) -> Workload:
    from agentservesim.flags import source_settings
    from agentservesim.workload import load_workload

    scenario = checked(source_settings(file, flags))
    return load_workload(scenario.workload, scenario.seed)
