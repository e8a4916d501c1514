"""Shortest expected reply first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.protocols import (
    Changes,
    ProgramEnded,
    RequestView,
    SchedulerEvent,
    TurnFinished,
)

ALL = ""
"""Who all programs are counted under."""


@dataclass
class Sjf:
    """The turn with the fewest expected tokens of reply left first; what is expected is the client's hint.

    Shortest job first by estimate. Without the hint `osl` a reply is expected to be as long as those of its
    program were on average so far, or as those of all programs; before the first, as nothing: fcfs.
    """

    changes: ClassVar[Changes] = "never"
    wants: ClassVar[Mapping[str, str]] = {"osl": "replies are expected to be like those before them"}
    _tokens: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _turns: Counter[str] = field(default_factory=Counter, init=False, repr=False)

    def key(self, request: RequestView, now_s: float) -> float:
        """Expected tokens that are still to come; 0 for a reply that is longer than expected."""
        hint = request.hints.get("osl")
        expected = hint if isinstance(hint, (int, float)) else self._mean(request.program.program_id)
        return max(expected - request.generated_tokens, 0)

    def _mean(self, program_id: str) -> float:
        name = program_id if self._turns[program_id] else ALL
        return self._tokens[name] / max(self._turns[name], 1)

    def observe(self, event: SchedulerEvent) -> None:
        """Learn how long replies are."""
        if isinstance(event, TurnFinished):
            for name in (event.request.program.program_id, ALL):
                self._tokens[name] += event.request.generated_tokens
                self._turns[name] += 1
        elif isinstance(event, ProgramEnded):
            del self._tokens[event.program_id], self._turns[event.program_id]
