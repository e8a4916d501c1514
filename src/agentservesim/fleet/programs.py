"""What the servers know of each program, kept up to date by the fleet: the `ProgramView` of all policies."""

from __future__ import annotations

from agentservesim.engine.request import Request
from agentservesim.model import Program, Turn, to_s
from agentservesim.policies.protocols import NO_HINTS


class ProgramRecord:
    """A program as its servers saw it so far.

    The fleet tells it of each turn that is `ready`, `sent` and `done`. It holds nothing of what is to come:
    only ids, times, and the lengths of what was sent and answered.
    """

    __slots__ = (
        "_acting_ps",
        "_arrival_ps",
        "_busy_since_ps",
        "_contexts",
        "_gap_started_ps",
        "_gaps_ps",
        "_path_ends_ps",
        "_paths_ps",
        "_reasoning_ps",
        "_service_ps",
        "_wait_ps",
        "hints",
        "home",
        "program_id",
        "running_turns",
        "tenant",
        "tools",
        "turns_done",
    )

    def __init__(self, program: Program, arrival_ps: int) -> None:
        self.program_id = program.id
        self.tenant = program.tenant
        self.turns_done = 0
        self.running_turns = 0
        self.home: int | None = None
        self.tools: tuple[str, ...] = ()
        self.hints = NO_HINTS
        self._arrival_ps = arrival_ps
        self._service_ps = 0
        self._wait_ps = 0
        self._reasoning_ps = 0
        self._acting_ps = 0
        self._busy_since_ps = arrival_ps
        self._gap_started_ps = arrival_ps
        self._gaps_ps: list[int] = []
        self._contexts: dict[str, int] = {}
        self._paths_ps: dict[int, int] = {}
        self._path_ends_ps: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"ProgramRecord({self.program_id!r}, {self.turns_done} turns done)"

    # ---- what the fleet says ------------------------------------------------------------------

    def ready(self, turn: Turn, now_ps: int) -> None:
        """A turn is ready: its program is in no gap any more."""
        if self.running_turns == 0:
            if self.turns_done:
                self._acting_ps += now_ps - self._gap_started_ps
                self._gaps_ps.append(now_ps - self._gap_started_ps)
            self._busy_since_ps = now_ps
            self.tools = ()
        self.running_turns += 1
        self.hints = turn.hints or NO_HINTS
        self._contexts[turn.session_id] = turn.prompt_tokens
        longest = 0
        for dependency in turn.dependencies:
            path_ps = self._path_ends_ps.get(dependency.turn) or self._paths_ps[dependency.turn]
            if path_ps > longest:
                longest = path_ps
        self._paths_ps[turn.index] = longest

    def sent(self, home: int) -> None:
        """A turn goes to an instance."""
        self.home = home

    def done(self, request: Request, now_ps: int) -> None:
        """The last token of a turn is out."""
        turn = request.turn
        self.running_turns -= 1
        self.turns_done += 1
        service_ps = request.finish_ps - request.scheduled_ps
        self._service_ps += service_ps
        self._wait_ps += request.queue_ps
        self._path_ends_ps[turn.index] = self._paths_ps[turn.index] + service_ps
        self._contexts[turn.session_id] = request.total
        if self.running_turns == 0:
            self._reasoning_ps += now_ps - self._busy_since_ps
            self._gap_started_ps = now_ps
            self.tools = tuple([call.name for call in turn.tools]) if turn.tools else ()

    def path_s(self, turn_index: int) -> float:
        """The critical path up to a turn that is ready, in seconds of service: the longest chain of turns
        that it waited for (Autellix's ATLAS)."""
        return to_s(self._paths_ps[turn_index])

    # ---- what policies see --------------------------------------------------------------------

    @property
    def arrival_s(self) -> float:
        """When it arrived."""
        return to_s(self._arrival_ps)

    @property
    def context_tokens(self) -> int:
        """Prompt, and reply if it is done, of the latest turn of each of its sessions, summed."""
        return sum(self._contexts.values())

    @property
    def service_s(self) -> float:
        """Attained service: over its done turns, the sum of last token - first scheduled."""
        return to_s(self._service_ps)

    @property
    def wait_s(self) -> float:
        """Time its done turns spent in waiting queues."""
        return to_s(self._wait_ps)

    @property
    def in_gap(self) -> bool:
        """Whether it has no turn at the servers."""
        return self.running_turns == 0

    @property
    def gap_started_s(self) -> float | None:
        """Since when it is in its gap; None if it is in none."""
        return to_s(self._gap_started_ps) if self.running_turns == 0 else None

    @property
    def past_gaps_s(self) -> tuple[float, ...]:
        """Its gaps so far, oldest first."""
        return tuple(map(to_s, self._gaps_ps))

    @property
    def reasoning_s(self) -> float:
        """Time with a turn at the servers, up to the end of the latest such stretch."""
        return to_s(self._reasoning_ps)

    @property
    def acting_s(self) -> float:
        """Time in its past gaps."""
        return to_s(self._acting_ps)
