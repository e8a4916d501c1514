"""Continuum: whoever lost its KV or still has it, then the oldest program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView, SchedulerEvent, TurnFinished

UNPINNED = 1 << 40


@dataclass
class Continuum:
    """Preempted requests, then those whose KV is pinned, then the others, each by the program's arrival.

    Continuum, arXiv 2511.02230, sections on scheduling; read. Preempted is the latest program first. With
    `stamped` it is the rule of the released AgentServeSim: a key that a request has from its arrival on,
    (0 if it is pinned then, else 2^40) + the program's arrival in whole milliseconds.
    """

    stamped: bool = False
    changes: ClassVar[Changes] = "program"
    _stamps: dict[RequestView, int] = field(default_factory=dict, init=False, repr=False)

    def key(self, request: RequestView, now_s: float) -> tuple[float, ...]:
        """Class, and when the program arrived."""
        arrival_s = request.program.arrival_s
        if self.stamped:
            stamp = (0 if request.pinned else UNPINNED) + int(arrival_s * 1000)
            return (self._stamps.setdefault(request, stamp),)
        return (not request.preemptions, not request.pinned, arrival_s)

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The program that arrived last first; of one program, the request that was admitted last."""
        return sorted(running, key=lambda request: request.program.arrival_s)[::-1]

    def observe(self, event: SchedulerEvent) -> None:
        """Forget what is done."""
        if isinstance(event, TurnFinished):
            self._stamps.pop(event.request, None)
