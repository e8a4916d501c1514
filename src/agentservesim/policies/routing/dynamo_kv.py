"""NVIDIA Dynamo's KV router: a cost of blocks to compute and blocks to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from typing import ClassVar

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Choice, InstanceView, RouterEvent, TurnView
from agentservesim.policies.routing.books import Books
from agentservesim.policies.routing.choosing import lowest
from agentservesim.policies.routing.prefixes import PrefixIndex
from agentservesim.random import stream


@dataclass
class DynamoKv:
    """Dynamo's KV router: the lowest `overlap_weight * prefill_blocks + decode_blocks`.

    prefill_blocks are blocks of prompts under way to their first token, this one's without those that the
    index says are cached; decode_blocks are those of all prompts under way, this one's too. The index holds
    what was sent where in the last `ttl_s` seconds (Dynamo's approximate mode). With a `temperature` above 0
    the instance is drawn, with the softmax of -cost / temperature, costs being scaled to [0, 1]. After a turn
    with the hint `speculative_prefill` the beginning of the next prompt is computed.
    """

    overlap_weight: float = 1.0
    temperature: float = 0.0
    ttl_s: float = 120.0
    wants: ClassVar[Mapping[str, str]] = {"speculative_prefill": "no prompt is computed before its turn"}

    def __post_init__(self) -> None:
        at_least(self, 0, "overlap_weight", "temperature", "ttl_s")

    def begin(self, instances: int, seed: int) -> None:
        """Draws come from the stream "router" of the run's seed."""
        self._books = Books(instances)
        self._index = PrefixIndex(instances, self.ttl_s)
        self._stream = stream(seed, "router")

    def observe(self, event: RouterEvent) -> None:
        """Keep the books."""
        self._books.observe(event)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The lowest cost, or a draw."""
        size = instances[0].block_size
        prompt = -(-turn.prompt_tokens // size)
        new = [(turn.prompt_tokens - m // size * size) / size for m in self._index.match(turn.path, now_s)]
        books = self._books
        costs = [
            self.overlap_weight * (books.prefill[i] + new[i]) + books.held[i] + prompt
            for i in range(len(new))
        ]
        choice = Choice(self._drawn(costs), costs) if self.temperature else lowest(costs)
        books.sent(turn, choice.index, prefill=new[choice.index], held=prompt)
        self._index.insert(choice.index, turn.path, now_s)
        return choice

    def looks_ahead(self, turn: TurnView) -> bool:
        """If its client asked for it."""
        return turn.hints.get("speculative_prefill") is True

    def _drawn(self, costs: Sequence[float]) -> int:
        low, spread = min(costs), (max(costs) - min(costs)) or 1.0
        weights = [exp(-(cost - low) / spread / self.temperature) for cost in costs]
        sums = list(accumulate(weights))
        at = self._stream.random() * sums[-1]
        return next((index for index, upto in enumerate(sums) if at < upto), len(costs) - 1)
