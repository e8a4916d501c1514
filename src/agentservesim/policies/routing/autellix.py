"""Autellix's load balancer: long prompts go home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Choice, InstanceView, TurnView


@dataclass
class Autellix:
    """Autellix: a prompt of more than `long_tokens` goes to its program's home, others to the least used.

    A long prompt of a program without a home goes to the least used instance too. Source: arXiv 2502.13965,
    by notes of others, and the rules of the released AgentServeSim.
    """

    long_tokens: int = 2048

    def __post_init__(self) -> None:
        at_least(self, 0, "long_tokens")

    def begin(self, instances: int, seed: int) -> None:
        """No program has a home yet."""
        self._homes: dict[str, int] = {}

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """Home, or the fewest unfinished turns."""
        loads = [instance.load for instance in instances]
        least = loads.index(min(loads))
        home = self._homes.setdefault(turn.program_id, least)
        return Choice(home if turn.prompt_tokens > self.long_tokens else least, loads)
