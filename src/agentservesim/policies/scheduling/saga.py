"""SAGA's agent fair share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.protocols import (
    Changes,
    ProgramEnded,
    ProgramView,
    RequestView,
    SchedulerEvent,
    TurnArrived,
    TurnFinished,
)

Standing = tuple[ProgramView, float, float]
"""A program that is active, the service it still needs and its deadline, in seconds."""


@dataclass
class SagaShare:
    """Service so far over the tenant's share, the least first (SAGA's AFS, arXiv 2605.00528).

    From the abstract and from the rule of the released AgentServeSim: a tenant's share is the sum over its
    programs of remaining service / max(`slack_s`, deadline - now), and the key 1000 * service / share. A
    server does not know the remaining service: it is taken to be what programs that ended had on average,
    less what this one had, but no less than a turn of it. The deadline is a program's hint `deadline_s`
    after its arrival, or the parameter of that name. Shares are looked at every `tick_s`.
    """

    deadline_s: float = 600.0
    slack_s: float = 1.0
    tick_s: float = 1.0
    changes: ClassVar[Changes] = "time"
    wants: ClassVar[Mapping[str, str]] = {
        "deadline_s": "every program has the deadline of the parameter",
        "tenant": "all programs have one share",
    }
    _active: dict[str, Standing] = field(default_factory=dict, init=False, repr=False)
    _served: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _mean: tuple[int, float] = field(default=(0, 1.0), init=False, repr=False)
    _shares: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _stale: set[str] = field(default_factory=set, init=False, repr=False)
    _at: int = field(default=-1, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.slack_s > 0):
            raise ValueError("deadline_s and slack_s must be above 0")

    def key(self, request: RequestView, now_s: float) -> float:
        """1000 * service of the program / share of the tenant."""
        if int(now_s / self.tick_s) != self._at:
            self._at = int(now_s / self.tick_s)
            self._look(now_s)
        program = request.program
        share = self._shares.get(program.tenant)
        if not share:
            _, left_s, due_s = self._standing(program)
            share = left_s / max(self.slack_s, due_s - now_s)
        return 1000 * program.service_s / share

    def _look(self, now_s: float) -> None:
        """Sum the urgency of every tenant's programs."""
        for name in self._stale & self._active.keys():
            self._active[name] = self._standing(self._active[name][0])
        self._stale.clear()
        shares, slack_s = dict[str, float](), self.slack_s
        for program, left_s, due_s in self._active.values():
            rest_s = due_s - now_s
            urgency = left_s / (rest_s if rest_s > slack_s else slack_s)
            shares[program.tenant] = shares.get(program.tenant, 0.0) + urgency
        self._shares = shares

    def _standing(self, program: ProgramView) -> Standing:
        """What is left of a program, in seconds of service, and when it is due."""
        turn_s = program.service_s / program.turns_done if program.turns_done else 1.0
        hint = program.hints.get("deadline_s")
        deadline_s = hint if isinstance(hint, (int, float)) else self.deadline_s
        left_s = max(self._mean[1] - program.service_s, turn_s, 1e-9)
        return program, left_s, program.arrival_s + deadline_s

    def observe(self, event: SchedulerEvent) -> None:
        """Know who is active, and how much service programs have."""
        if isinstance(event, ProgramEnded):
            self._active.pop(event.program_id, None)
            count, mean = self._mean
            service_s = self._served.pop(event.program_id, 0.0)
            self._mean = count + 1, (mean * count + service_s) / (count + 1)
            self._stale = set(self._active)
        elif isinstance(event, (TurnArrived, TurnFinished)):
            program = event.request.program
            self._active[program.program_id] = program, 0.0, 0.0
            self._stale.add(program.program_id)
            if isinstance(event, TurnFinished):
                self._served[program.program_id] = program.service_s
