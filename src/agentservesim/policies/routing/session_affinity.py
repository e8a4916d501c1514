"""A session stays where it began."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Choice, InstanceView, TurnView


def hashed(text: str) -> int:
    """64 bits that depend on a text alone."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


@dataclass
class SessionAffinity:
    """A session stays where it began; a new one goes to the instance given the fewest sessions.

    A sub-agent is a session of its own, and begins where its program is. With `ring` a turn goes where a
    ring of hashes has its program instead, each instance being on it `replicas` times. With `bound` an
    instance takes no turn that would make its unfinished turns more than ceil(bound * mean), that turn
    counted: the next on the ring does (bounded loads: Mirrokni, Thorup and Zadimoghaddam, arXiv 1608.01350;
    KubeAI has bound 1.25 and 256 replicas). With `capacity` it takes none beyond so many unfinished turns;
    a session that does not fit goes to the least loaded instance and stays there. Where all are full
    neither limit binds.
    """

    ring: bool = False
    replicas: int = 256
    bound: float = 0.0
    capacity: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "replicas")
        at_least(self, 0, "capacity")
        if self.bound and (not self.bound >= 1 or not self.ring):
            raise ValueError(f"bound must be 1 or more, with ring=true, or 0 for none, got {self.bound:g}")

    def begin(self, instances: int, seed: int) -> None:
        """Lay out the ring."""
        self._sessions = [0] * instances
        places = ((hashed(f"{i}/{n}"), i) for i in range(instances) for n in range(self.replicas))
        self._ring = sorted(places) if self.ring else []

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """The home of the turn, or where its program is on the ring, if that has room for it."""
        if not (self.ring or self.capacity):
            return Choice(self._home(turn))
        loads = [instance.load for instance in instances]
        index = self._on_ring(turn.program_id, loads) if self.ring else self._home(turn)
        if self.capacity and loads[index] >= self.capacity > min(loads):
            index = loads.index(min(loads))
        return Choice(index, loads)

    def _home(self, turn: TurnView) -> int:
        """Where the session began, or begins."""
        if turn.home is not None:
            return turn.home
        index = self._sessions.index(min(self._sessions))
        self._sessions[index] += 1
        return index

    def _on_ring(self, key: str, loads: Sequence[int]) -> int:
        most = ceil(self.bound * (sum(loads) + 1) / len(loads)) if self.bound else sum(loads) + 1
        start = bisect_left(self._ring, (hashed(key), 0))
        for step in range(len(self._ring)):
            _, index = self._ring[(start + step) % len(self._ring)]
            if loads[index] < most:
                return index
        raise AssertionError("the least loaded instance is below any bound of 1 or more")
