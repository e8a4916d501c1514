"""LMetric: new prompt tokens times batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.protocols import Choice, InstanceView, RouterEvent, TurnView
from agentservesim.policies.routing.books import Books
from agentservesim.policies.routing.choosing import lowest


@dataclass
class LMetric:
    """LMetric: the lowest product of prompt tokens to compute and batch size; it has no parameters.

    Source: arXiv 2603.15202, by notes of others only. Tokens to compute: those of the turn that the instance
    has not cached, and what turns sent there before have still to compute; batch size: unfinished turns
    there, this one counted.
    """

    def begin(self, instances: int, seed: int) -> None:
        """Nothing is under way yet."""
        self._books = Books(instances)

    def observe(self, event: RouterEvent) -> None:
        """Keep the books."""
        self._books.observe(event)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The lowest product."""
        books = self._books
        new = [turn.prompt_tokens - instance.hit_tokens(turn.path) for instance in instances]
        choice = lowest([(books.prefill[i] + new[i]) * (books.loads[i] + 1) for i in range(len(new))])
        books.sent(turn, choice.index, prefill=new[choice.index])
        return choice
