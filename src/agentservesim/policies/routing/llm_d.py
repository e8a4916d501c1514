"""llm-d's inference gateway: weighted scorers, the highest sum wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Choice, InstanceView, TurnView
from agentservesim.policies.routing.choosing import highest
from agentservesim.policies.routing.prefixes import PrefixIndex


@dataclass
class LlmD:
    """llm-d: the highest weighted sum of prefix match, free KV and short queue.

    prefix: matched blocks of the prompt's full ones (of `block` tokens), by an LRU index of `capacity` blocks
    an instance; kv: 1 - used share of the KV blocks; queue: 1 for the shortest waiting queue, 0 for the
    longest, in proportion between them, 1 for all if they are equal.
    """

    prefix: float = 2.0
    kv: float = 1.0
    queue: float = 1.0
    block: int = 64
    capacity: int = 31_250

    def __post_init__(self) -> None:
        at_least(self, 0, "prefix", "kv", "queue")
        at_least(self, 1, "block", "capacity")

    def begin(self, instances: int, seed: int) -> None:
        """Nothing is known yet."""
        self._index = PrefixIndex(instances, capacity=self.capacity * self.block)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The highest sum."""
        blocks = max(turn.prompt_tokens // self.block, 1)
        matches = self._index.match(turn.path, now_s)
        waiting = [instance.waiting for instance in instances]
        longest, spread = max(waiting), max(waiting) - min(waiting)
        choice = highest(
            [
                self.prefix * (matches[i] // self.block) / blocks
                + self.kv * instance.free_blocks / instance.num_blocks
                + self.queue * ((longest - waiting[i]) / spread if spread else 1.0)
                for i, instance in enumerate(instances)
            ]
        )
        self._index.insert(choice.index, turn.path, now_s)
        self._index.evict(choice.index)
        return choice
