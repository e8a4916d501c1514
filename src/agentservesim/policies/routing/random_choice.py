"""Any instance, each as likely as the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.protocols import InstanceView, TurnView
from agentservesim.random import stream


@dataclass
class RandomChoice:
    """Every turn goes to an instance drawn at random.

    As load balancers offer it, by own knowledge.
    """

    def begin(self, instances: int, seed: int) -> None:
        """Draws come from the stream "router" of the run's seed."""
        self._stream = stream(seed, "router")

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """Drawn."""
        return int(self._stream.integers(len(instances)))
