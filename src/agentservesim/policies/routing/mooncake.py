"""Mooncake's Conductor: the shortest estimated time to first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Choice, InstanceView, RouterEvent, TurnView
from agentservesim.policies.routing.books import Books
from agentservesim.policies.routing.choosing import lowest


@dataclass
class Mooncake:
    """Mooncake: the lowest sum of queueing, transfer and prefill time.

    Source: arXiv 2407.00079, by notes of others. Queueing: prefill times of turns sent there that have no
    first token yet. Where another instance has more than `balance` times the cached prefix of this one, its
    prefix is to be sent over the network first (transfer) and need not be computed; without a network each
    instance has what it has.
    """

    balance: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, 0, "balance")

    def begin(self, instances: int, seed: int) -> None:
        """Nothing is under way yet."""
        self._books = Books(instances)

    def observe(self, event: RouterEvent) -> None:
        """Keep the books."""
        self._books.observe(event)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The lowest sum."""
        hits = [instance.hit_tokens(turn.path) for instance in instances]
        best = max(hits)
        source = hits.index(best)
        prefill_s: list[float] = []
        total_s: list[float] = []
        sources: list[int | None] = []
        for instance, own in zip(instances, hits, strict=True):
            transfer_s = instance.transfer_s(best - own, source) if best > self.balance * own else inf
            hit = own if transfer_s == inf else best
            prefill_s.append(instance.prefill_s(turn.prompt_tokens - hit, hit))
            sources.append(None if hit == own else source)
            queue_s = self._books.prefill[instance.index]
            total_s.append(queue_s + (0.0 if transfer_s == inf else transfer_s) + prefill_s[-1])
        index = lowest(total_s).index
        self._books.sent(turn, index, prefill=prefill_s[index])
        return Choice(index, total_s, sources[index])
