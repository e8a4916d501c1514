"""SAGA's agent fair share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import (
    Changes,
    ProgramEnded,
    ProgramView,
    RequestView,
    SchedulerEvent,
    TurnArrived,
    TurnFinished,
)


@dataclass
class SagaShare:
    """Service so far over the tenant's share, the least first (SAGA's AFS, arXiv 2605.00528).

    From the abstract and from the rule of the released AgentServeSim: a tenant's share is the sum over its
    programs of remaining service / max(`slack_s`, deadline - now), and the key 1000 * service / share. A
    server does not know the remaining service: it is taken to be what programs that ended had on average,
    less what this one had, but no less than a turn of it. The deadline is a program's hint `deadline_s`
    after its arrival, or the parameter of that name. Shares are looked at every `tick_s`; that of a tenant
    who is alone is 1, which makes no difference to the order.
    """

    deadline_s: float = 600.0
    slack_s: float = 1.0
    tick_s: float = 1.0
    changes: ClassVar[Changes] = "time"
    wants: ClassVar[Mapping[str, str]] = {
        "deadline_s": "every program has the deadline of the parameter",
        "tenant": "all programs have one share",
    }

    def __post_init__(self) -> None:
        at_least(self, 0, "tick_s")
        above(self, 0, "deadline_s", "slack_s")
        self._active: dict[str, ProgramView] = {}
        self._tenants = Counter[str]()
        self._shares: dict[str, float] = {}
        self._mean = 0, 1.0
        self._at = -1
        self._version = 0

    @property
    def version(self) -> int | None:
        """Where a tenant is alone, only the service of a program whose other turns wait changes keys."""
        return self._version if len(self._tenants) < 2 else None

    def key(self, request: RequestView, now_s: float) -> float:
        """1000 * service of the program / share of the tenant."""
        if int(now_s / self.tick_s) != self._at:
            self._at = int(now_s / self.tick_s)
            self._look(now_s)
        program = request.program
        return 1000 * program.service_s / (self._shares.get(program.tenant) or self._urgency(program, now_s))

    def _look(self, now_s: float) -> None:
        """Sum the urgency of every tenant's programs."""
        self._shares = dict.fromkeys(self._tenants, 1.0 if len(self._tenants) == 1 else 0.0)
        if len(self._shares) > 1:
            for program in self._active.values():
                self._shares[program.tenant] += self._urgency(program, now_s)

    def _urgency(self, program: ProgramView, now_s: float) -> float:
        """What is left of a program, in seconds of service, over the time until it is due."""
        service_s, hint = program.service_s, program.hints.get("deadline_s")
        turn_s = service_s / program.turns_done if program.turns_done else 1.0
        due_s = program.arrival_s + (hint if isinstance(hint, (int, float)) else self.deadline_s)
        return max(self._mean[1] - service_s, turn_s, 1e-9) / max(due_s - now_s, self.slack_s)

    def observe(self, event: SchedulerEvent) -> None:
        """Know who is active, and how much service programs have."""
        if isinstance(event, (TurnArrived, TurnFinished)):
            program = event.request.program
            if program.program_id not in self._active:
                self._active[program.program_id] = program
                self._tenants[program.tenant] += 1
            self._version += isinstance(event, TurnFinished) and program.running_turns > 0
        elif isinstance(event, ProgramEnded) and event.program_id in self._active:
            program, (count, mean) = self._active.pop(event.program_id), self._mean
            self._mean = count + 1, (mean * count + program.service_s) / (count + 1)
            self._tenants -= Counter([program.tenant])
