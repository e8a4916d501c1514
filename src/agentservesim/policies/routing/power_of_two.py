"""The better of two instances drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentservesim.policies.protocols import Choice, InstanceView, TurnView
from agentservesim.random import stream

if TYPE_CHECKING:
    from numpy.random import Generator


def better_of_two(instances: Sequence[InstanceView], draws: Generator) -> int:
    """Of two different instances drawn at random the one with fewer unfinished turns."""
    if len(instances) == 1:
        return 0
    one = int(draws.integers(len(instances)))
    other = int(draws.integers(len(instances) - 1))
    other += other >= one
    return min(one, other, key=lambda index: (instances[index].load, index))


@dataclass
class PowerOfTwo:
    """Every turn goes to the less loaded of two instances drawn at random.

    Mitzenmacher, The power of two choices in randomized load balancing; by own knowledge.
    """

    def begin(self, instances: int, seed: int) -> None:
        """Draws come from the stream "router" of the run's seed."""
        self._stream = stream(seed, "router")

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The less loaded of the two."""
        loads = [instance.load for instance in instances]
        return Choice(better_of_two(instances, self._stream), loads)
