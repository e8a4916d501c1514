"""Every turn to the next instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentservesim.policies.protocols import InstanceView, TurnView


@dataclass
class RoundRobin:
    """Every turn goes to the next instance."""

    _next: int = field(default=0, init=False, repr=False)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The instance after the one chosen last."""
        index = self._next % len(instances)
        self._next = index + 1
        return index
