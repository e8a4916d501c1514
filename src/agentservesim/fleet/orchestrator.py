"""The Program Orchestrator: program identity and turn order.

It starts programs (at their arrival, or, in a closed loop, when a place is free), releases a turn only
when everything it waits for is done, and thereby forks and joins sub-agents. What serves the turns is
behind `send`; `finished` tells the orchestrator that a reply is with its client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from agentservesim.fleet.programs import ProgramRecord
from agentservesim.fleet.tools import ToolSimulator
from agentservesim.kernel import Kernel
from agentservesim.kv.sessions import Chain
from agentservesim.model import Dependency, Program, Turn


class ProgramRun:
    """A program under way.

    waiting_for: dependencies of each turn that are still open. ready_ps: when each turn may start, as
    far as known; cause_ps: when the last trigger it waits for fired, the program's start being the
    first. end_ps: the last token so far. homes: instance of each session's last turn (None stands for
    the program). latest: index of that turn. known: what the servers know of it. in_flight: turns at the
    instances. rejected: whether admission ended it. chains: what the memory model last knew of each session.
    """

    __slots__ = (
        "cause_ps",
        "chains",
        "dependents",
        "end_ps",
        "homes",
        "in_flight",
        "known",
        "latest",
        "next_turns",
        "program",
        "ready_ps",
        "rejected",
        "start_ps",
        "turns_left",
        "waiting_for",
    )

    def __init__(self, program: Program, start_ps: int) -> None:
        turns = program.turns
        self.program = program
        self.start_ps = start_ps
        self.end_ps = start_ps
        self.next_turns: dict[int, int] = {}
        last: dict[str, int] = {}
        for turn in turns:
            if turn.session_id in last:
                self.next_turns[last[turn.session_id]] = turn.index
            last[turn.session_id] = turn.index
        self.turns_left = len(turns)
        self.in_flight = 0
        self.rejected = False
        self.waiting_for = [len(turn.dependencies) for turn in turns]
        self.ready_ps = [start_ps + turn.not_before_ps for turn in turns]
        self.cause_ps = [start_ps] * len(turns)
        self.homes: dict[str | None, int] = {}
        self.latest: dict[str, int] = {}
        self.chains: dict[str, Chain] = {}
        self.known = ProgramRecord(program, start_ps)
        self.dependents: list[list[tuple[int, Dependency]]] = [[] for _ in turns]
        for turn in turns:
            for dependency in turn.dependencies:
                self.dependents[dependency.turn].append((turn.index, dependency))


Send = Callable[[ProgramRun, Turn, int], None]
"""send(run, turn, gap_ps): a turn is ready, now; it was outside the engine for gap_ps."""


class Orchestrator:
    """Releases the turns of programs in order."""

    def __init__(
        self,
        programs: Iterable[Program],
        kernel: Kernel,
        tools: ToolSimulator,
        send: Send,
        max_concurrency: int | None = None,
    ) -> None:
        self._kernel = kernel
        self._tools = tools
        self._send = send
        self._held_back: deque[Program] = deque()
        self._free_places = max_concurrency
        for program in programs:
            kernel.at(program.arrival_ps, self._arrive, program)

    def _arrive(self, program: Program) -> None:
        if self._free_places is None:
            self._begin(program)
        elif self._free_places:
            self._free_places -= 1
            self._begin(program)
        else:
            self._held_back.append(program)

    def _begin(self, program: Program) -> None:
        run = ProgramRun(program, self._kernel.now)
        for turn, open_ in zip(program.turns, run.waiting_for, strict=True):
            if open_ == 0:
                self._kernel.at(run.ready_ps[turn.index], self._release, (run, turn))

    def _release(self, ready: tuple[ProgramRun, Turn]) -> None:
        run, turn = ready
        if run.rejected:
            return
        for index, dependency in run.dependents[turn.index]:
            if dependency.trigger == "dispatch":
                wait_ps = dependency.delay_ps + (dependency.tools_ps or 0)
                self._resolve(run, index, self._kernel.now, self._kernel.now + wait_ps)
        self._send(run, turn, self._kernel.now - run.cause_ps[turn.index])

    def finished(self, run: ProgramRun, turn: Turn, finish_ps: int) -> None:
        """The last token of a turn reaches its client at `finish_ps` (now or later)."""
        run.turns_left -= 1
        run.in_flight -= 1
        if finish_ps > run.end_ps:
            run.end_ps = finish_ps
        if run.turns_left == 0 and self._free_places is not None:
            self._kernel.at(run.end_ps, self._leave)
        after = [entry for entry in run.dependents[turn.index] if entry[1].trigger == "completion"]
        if not after:
            return
        if self._tools.limited:
            self._kernel.at(finish_ps, lambda _: self._run_tools(run, turn, after, finish_ps))
            return
        for index, dependency in after:
            gap_ps = self._tools.span_ps(turn, dependency.tools_ps) + dependency.delay_ps
            self._resolve(run, index, finish_ps, finish_ps + gap_ps)

    def reject(self, run: ProgramRun) -> int:
        """Send no further turn of a program; returns how many are not served."""
        lost = run.turns_left - run.in_flight
        run.rejected, run.turns_left = True, run.in_flight
        if run.turns_left == 0 and self._free_places is not None:
            self._kernel.after(0, self._leave)
        return lost

    def _run_tools(
        self, run: ProgramRun, turn: Turn, after: list[tuple[int, Dependency]], finish_ps: int
    ) -> None:
        """Run the turn's calls once; those who do not wait for them (tools_ps 0) go on at once."""

        def resolve(entries: list[tuple[int, Dependency]]) -> None:
            for index, dependency in entries:
                self._resolve(run, index, finish_ps, self._kernel.now + dependency.delay_ps)

        resolve([entry for entry in after if entry[1].tools_ps == 0])
        later = [entry for entry in after if entry[1].tools_ps != 0]
        if later:
            spans = [d.tools_ps for _, d in later if d.tools_ps is not None]
            self._tools.run(turn, max(spans, default=None), lambda: resolve(later))

    def _resolve(self, run: ProgramRun, index: int, cause_ps: int, ready_ps: int) -> None:
        """One dependency of a turn is done; the latest one decides when the turn is ready."""
        if ready_ps > run.ready_ps[index]:
            run.ready_ps[index] = ready_ps
        if cause_ps > run.cause_ps[index]:
            run.cause_ps[index] = cause_ps
        run.waiting_for[index] -= 1
        if run.waiting_for[index] == 0:
            self._kernel.at(run.ready_ps[index], self._release, (run, run.program.turns[index]))

    def _leave(self, _: object) -> None:
        assert self._free_places is not None
        if self._held_back:
            self._begin(self._held_back.popleft())
        else:
            self._free_places += 1
