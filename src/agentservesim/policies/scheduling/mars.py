"""MARS: levels by what is left to prefill, with ageing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import Changes, RequestView, SchedulerEvent, TurnFinished
from agentservesim.policies.scheduling.levels import Levels


@dataclass
class Mars:
    """Short prefills before long ones, in chunks of a quantum; ageing against starvation (MARS, 2604.26963).

    By its released code. A waiting request's level is that of its prompt (`boundaries`), one better for
    each `ageing_s` that it has waited; a preempted one is at level 0. A running one's is the worse of what
    is left of its prompt and of how often it used up its quantum; once it decodes, 0. The window of 30
    active programs that MARS admits is the admission policy `max-programs`.
    """

    boundaries: str = "2048/8192/32768"
    quanta: str = "2048/1024/512/256"
    ageing_s: float = 30.0
    tick_s: float = 1.0
    changes: ClassVar[Changes] = "time"
    _levels: Levels = field(init=False, repr=False)
    _sunk: dict[RequestView, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "tick_s")
        above(self, 0, "ageing_s")
        self._levels = Levels(self.boundaries, self.quanta)

    def key(self, request: RequestView, now_s: float) -> int:
        """The level."""
        if request.running:
            return self._running(request)
        if request.preemptions:
            return 0
        return max(self._levels.bucket(request.prompt_tokens) - int(request.waited_s / self.ageing_s), 0)

    def _running(self, request: RequestView) -> int:
        left = request.prompt_tokens - request.computed_tokens
        return max(self._levels.bucket(left), self._sunk.get(request, 0)) if left > 0 else 0

    def budget(self, request: RequestView, now_s: float) -> float:
        """The quantum of its level."""
        levels, computed, sunk = self._levels, request.computed_tokens, self._sunk.get(request, 0)
        left = request.prompt_tokens - computed
        if sunk == levels.last:
            return levels.quanta[sunk if left > 0 else 0]
        if levels.used_up(request, computed):
            self._sunk[request] = sunk = sunk + 1
        return levels.grant(request, computed, max(levels.bucket(left), sunk) if left > 0 else 0)

    def observe(self, event: SchedulerEvent) -> None:
        """Forget what is done."""
        if isinstance(event, TurnFinished):
            self._sunk.pop(event.request, None)
            self._levels.forget(event.request)
