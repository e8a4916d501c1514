"""What a router is shown, made by hand."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import TurnView


@dataclass
class View:
    """An instance as a router sees it."""

    index: int
    load: int = 0
    running: int = 0
    waiting: int = 0
    num_blocks: int = 100
    free_blocks: int = 100


def views(*loads: int) -> list[View]:
    return [View(index, load) for index, load in enumerate(loads)]


def asks(program: str = "p", session: str = "p", home: int | None = None) -> TurnView:
    return TurnView(program, session, 0, 16, 0, home)
