"""What a router is shown, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from agentservesim.model import Path
from agentservesim.policies.protocols import Prefilled, QueuedTurn, Replied, TurnView


@dataclass
class View:
    """An instance as a router sees it: a prompt token takes a millisecond, blocks are of 10 tokens.

    `cached` tokens of any prompt are in HBM; a token takes `send_s` over the network.
    """

    index: int
    load: int = 0
    running: int = 0
    waiting: int = 0
    num_blocks: int = 100
    free_blocks: int = 100
    queue: Sequence[QueuedTurn] = ()
    running_tokens: int = 0
    block_size: int = 10
    step_s: float = 0.0
    cached: int = 0
    send_s: float = inf

    def hit_tokens(self, path: Path) -> int:
        return self.cached

    def prefill_s(self, tokens: int, history: int = 0) -> float:
        return tokens / 1000

    def transfer_s(self, tokens: int, source: int) -> float:
        return tokens * self.send_s if tokens else 0.0


@dataclass
class Whole:
    """A fleet as `rebalance` sees it."""

    instances: Sequence[View]
    now_s: float = 0.0
    programs: dict[str, Any] = field(default_factory=dict)
    held: int = 0


def views(*loads: int) -> list[View]:
    return [View(index, load) for index, load in enumerate(loads)]


def begun(router: Any, instances: int = 3, seed: int = 0) -> Any:
    """A router that was told of the fleet, if it wants to be."""
    if hasattr(router, "begin"):
        router.begin(instances, seed)
    return router


def asks(
    program: str = "p", session: str = "p", home: int | None = None, path: Path = (), turn: int = 0
) -> TurnView:
    """A turn with a prompt of 16 tokens, or as long as its path."""
    return TurnView(program, session, turn, path[-1][1] if path else 16, 0, home, path)


def first_token(turn: TurnView, index: int) -> Prefilled:
    return Prefilled(turn, index)


def last_token(turn: TurnView, index: int, reply: int = 1) -> Replied:
    return Replied(turn, index, reply)
