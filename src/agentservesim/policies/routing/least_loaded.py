"""The fewest unfinished turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.protocols import Choice, InstanceView, TurnView
from agentservesim.policies.routing.choosing import lowest


@dataclass
class LeastLoaded:
    """Every turn goes to the instance with the fewest unfinished turns.

    What load balancers call least connections, by own knowledge.
    """

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The lowest of the loads."""
        return lowest([instance.load for instance in instances])
