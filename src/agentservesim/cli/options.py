"""What several commands take, and how they make a scenario of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agentservesim.scenario import Scenario
    from agentservesim.settings import Settings

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A scenario (.toml, .json), a trace, or demo: the shipped trace."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Set any field of the scenario, as --set tools.max_workers=8."
    ),
]
NumInstances = Annotated[int | None, typer.Option("--num-instances", min=1, help="Instances in the fleet.")]

Tiers = Annotated[
    list[str] | None,
    typer.Option(
        "--tier",
        metavar="NAME=SIZE@LINK",
        rich_help_panel="Memory below HBM",
        help="Add a tier, as dram=200GB@pcie5-x16; end in ,node or ,fleet where instances share it. "
        "Repeatable, fastest first.",
    ),
]


def checked(settings: Settings) -> Scenario:
    """The scenario of the settings. Raises InputError with the first fault."""
    from agentservesim.scenario import Scenario
    from agentservesim.settings import validate

    return validate(Scenario, settings)
