"""The commands that tell what is there and what is meant, and how far the simulation is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from agentservesim.cli.options import Json
from agentservesim.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from agentservesim.workload.profiles import Profile

Listed = Literal[
    "models",
    "gpus",
    "tables",
    "links",
    "profiles",
    "bundles",
    "schedulers",
    "routers",
    "admission",
    "residency",
]


def list_(
    what: Annotated[
        Listed | None,
        typer.Argument(metavar="WHAT", help="What to list; all if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List models, GPUs, measured tables, links, synthetic workload profiles and policies of all families."""
    chosen = {kind: _entries(kind) for kind in get_args(Listed) if what in (None, kind)}
    if as_json:
        print_json(chosen if what is None else chosen[what])
        return
    for name, entries in chosen.items():
        print(f"{name}:")
        print_rows(entries, indent="  ")


def _entries(kind: Listed) -> dict[str, str]:
    """Names of a kind, each with a line on what it is."""
    match kind:
        case "models":
            from agentservesim.cost.modelnames import list_models

            return list_models()
        case "gpus":
            from agentservesim.cost.accelerators import list_gpus

            return list_gpus()
        case "tables":
            from agentservesim.cost.catalogued import list_tables

            return list_tables()
        case "links":
            from agentservesim.kv.catalogue import list_links

            return list_links()
        case "profiles":
            from agentservesim.workload.profiles import PROFILES

            return {name: _described(profile) for name, profile in PROFILES.items()}
        case "bundles":
            from agentservesim.policies.bundles import list_bundles

            return list_bundles()
        case "schedulers" | "routers" | "admission" | "residency":
            from agentservesim.policies import list_policies

            return list_policies(kind.removesuffix("s"))


def _described(profile: Profile) -> str:
    agents = "with" if profile.sub_agents else "without"
    return (
        f"{agents} sub-agents; {profile.shared_prefix:,} tokens of instructions are the same in all programs"
    )


def metrics(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a page in Markdown.")] = False,
) -> None:
    """Print the definition of every metric.

    Each has its name in summary.json, its unit, its formula and its meaning.
    """
    from dataclasses import asdict

    from agentservesim.results.metrics import METRICS

    if as_json:
        print_json([asdict(metric) for metric in METRICS])
        return
    if markdown:
        from agentservesim.report.definitions import metrics_markdown

        print(metrics_markdown(), end="")
        return
    for metric in METRICS:
        unit = f" [{metric.unit}]" if metric.unit else ""
        print(f"{metric.name}{unit}")
        if metric.formula:
            print(f"    = {metric.formula}")
        print(f"    {metric.meaning}")
    print(
        "\nFormulas are SQL over the columns of turns.parquet (turn.*), instances.parquet and links.parquet"
    )
    print(
        "(kv.*, but for hit rates), tenants.parquet (fairness.jain_tenants) and programs.parquet (the rest)."
    )
    print("<tier>, <link>: there is one for each.")
    print("Percentiles interpolate linearly between neighbouring values.")
