"""Shortest remaining program first, for who knows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.protocols import (
    Changes,
    OraclePolicy,
    ProgramEnded,
    RequestView,
    SchedulerEvent,
    TurnFinished,
)


@dataclass
class SrptOracle(OraclePolicy):
    """An oracle: the program with the fewest tokens of replies left, over all its turns, first.

    Shortest remaining processing time, without preemption of those that run.
    """

    changes: ClassVar[Changes] = "program"
    _done: Counter[str] = field(default_factory=Counter, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__init__()

    def key(self, request: RequestView, now_s: float) -> int:
        """Tokens of replies that are still to come."""
        program = request.program.program_id
        return sum(self.replies[program]) - self._done[program] - request.generated_tokens

    def observe(self, event: SchedulerEvent) -> None:
        """Count what is done."""
        if isinstance(event, TurnFinished):
            self._done[event.request.program.program_id] += event.request.generated_tokens
        elif isinstance(event, ProgramEnded):
            del self._done[event.program_id]
