"""Routers. Ties go to the lowest index."""

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


@dataclass
class LeastLoaded:
    """Every turn goes to the instance with the fewest unfinished turns."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The index of the smallest load."""
        loads = [instance.load for instance in instances]
        return loads.index(min(loads))


@dataclass
class SessionAffinity:
    """A session stays where it began; a new one goes to the instance given the fewest sessions.

    A sub-agent is a session of its own, and begins where its program is.
    """

    _sessions: list[int] = field(default_factory=list, init=False, repr=False)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The home of the turn, or the instance that was given the fewest programs so far."""
        if turn.home is not None:
            return turn.home
        if not self._sessions:
            self._sessions = [0] * len(instances)
        index = self._sessions.index(min(self._sessions))
        self._sessions[index] += 1
        return index
