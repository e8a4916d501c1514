"""Autellix's multi-level feedback queue of programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import (
    Changes,
    ProgramEnded,
    RequestView,
    SchedulerEvent,
    TurnFinished,
)
from agentservesim.policies.scheduling.levels import Levels


@dataclass
class AutellixMlfq:
    """Queues by the program's service; long prompts sink, who waits long rises (Autellix, arXiv 2502.13965).

    By notes that quote the paper, and by the re-implementation released with MARS, whose constants these
    are. A call enters the queue of its program's service in tokens (`boundaries`), may compute one of the
    `quanta` of tokens a step, and goes down a queue when it has used one up. It goes up to the first when
    its program's and its own time of waiting reach `starvation` times their service; both are then counted
    anew. `tick_s` is how often that is looked at. With `preempts` a running call gives way then, if one of a
    better queue finds no room; its KV is computed again.
    """

    boundaries: str = "2048/8192/32768"
    quanta: str = "2048/1024/512/256"
    starvation: float = 2.0
    tick_s: float = 1.0
    preempts: bool = False
    changes: ClassVar[Changes] = "time"
    _levels: Levels = field(init=False, repr=False)
    _level: dict[RequestView, int] = field(default_factory=dict, init=False, repr=False)
    _tokens: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _forgiven: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "tick_s")
        above(self, 0, "starvation")
        self._levels = Levels(self.boundaries, self.quanta)

    def key(self, request: RequestView, now_s: float) -> int:
        """The call's queue."""
        level = self._level.get(request)
        if level is None:
            level = self._level[request] = self._levels.entry(self._tokens[request.program.program_id])
        elif level and self._starves(request):
            level = self._level[request] = 0
        return level

    def _starves(self, request: RequestView) -> bool:
        program = request.program
        before_s, served_s = self._forgiven.get(program.program_id, (0.0, 0.0))
        service_s = program.service_s + request.service_s
        if service_s <= served_s:
            return False
        wait_s = program.wait_s + request.waited_s
        if wait_s - before_s < self.starvation * (service_s - served_s):
            return False
        self._forgiven[program.program_id] = wait_s, service_s
        return True

    def budget(self, request: RequestView, now_s: float) -> float:
        """The quantum of its queue, which is the next one if it used up the last quantum."""
        levels, level = self._levels, self._level[request]
        if level == levels.last:
            return levels.quanta[level]
        computed = request.computed_tokens
        if levels.used_up(request, computed):
            level = self._level[request] = level + 1
        return levels.grant(request, computed, level)

    def observe(self, event: SchedulerEvent) -> None:
        """Count a program's tokens; forget what is done."""
        if isinstance(event, TurnFinished):
            request = event.request
            computed = request.prompt_tokens - request.cached_tokens + request.generated_tokens
            self._tokens[request.program.program_id] += computed
            self._level.pop(request, None)
            self._levels.forget(request)
        elif isinstance(event, ProgramEnded):
            self._tokens.pop(event.program_id, None)
            self._forgiven.pop(event.program_id, None)
