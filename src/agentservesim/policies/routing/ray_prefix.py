"""Ray Serve's prefix router: matches while queues are balanced, power of two otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import at_least, share
from agentservesim.policies.protocols import Choice, InstanceView, TurnView
from agentservesim.policies.routing.power_of_two import better_of_two
from agentservesim.policies.routing.prefixes import PrefixIndex
from agentservesim.random import stream


@dataclass
class RayPrefix:
    """Ray Serve's prefix router: the longest match while queues are balanced, else power of two choices.

    Queues are balanced if the longest and the shortest differ by no more than `imbalance` turns. Then the
    turn goes to the instance with the longest match if that is at least `threshold` of the prompt, else to
    the one with the smallest index. Nothing is evicted.
    """

    imbalance: int = 10
    threshold: float = 0.1

    def __post_init__(self) -> None:
        at_least(self, 0, "imbalance")
        share(self, "threshold")

    def begin(self, instances: int, seed: int) -> None:
        """Draws come from the stream "router" of the run's seed."""
        self._index = PrefixIndex(instances)
        self._stream = stream(seed, "router")

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """By match or size in balance, else the better of two."""
        loads, matches = [instance.load for instance in instances], self._index.match(turn.path, now_s)
        if max(loads) - min(loads) > self.imbalance:
            index = better_of_two(instances, self._stream)
        elif max(matches) >= self.threshold * turn.prompt_tokens:
            index = matches.index(max(matches))
        else:
            index = self._index.tokens.index(min(self._index.tokens))
        self._index.insert(index, turn.path, now_s)
        return Choice(index, [match / turn.prompt_tokens for match in matches])
