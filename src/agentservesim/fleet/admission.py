"""The gate before the router: turns that are ready pass it when the admission policy lets them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Any

from agentservesim.fleet.orchestrator import ProgramRun
from agentservesim.kernel import Event as Timer
from agentservesim.kernel import Kernel
from agentservesim.model import PS_PER_S, InputError, Turn, to_ps, to_s
from agentservesim.policies.admission.always import Always
from agentservesim.policies.asking import FAULTS, fault_of, tick_ps
from agentservesim.policies.protocols import (
    ADMIT,
    Admit,
    Hold,
    InstanceView,
    Prefilled,
    ProgramEnded,
    ProgramView,
    Reject,
    TurnEnded,
    TurnView,
)

Session = tuple[str, str]

LONGEST_IDLE_PS = 86_400 * PS_PER_S
"""Turns that are held for a day while nothing runs are held for good."""


@dataclass(slots=True)
class FleetState:
    """The `FleetView` of all policies: the fleet as it is now."""

    _kernel: Kernel
    instances: Sequence[InstanceView]
    programs: dict[str, ProgramView] = field(default_factory=dict)
    held: int = 0

    @property
    def now_s(self) -> float:
        """The time."""
        return to_s(self._kernel.now)


@dataclass(slots=True, eq=False)
class Held:
    """A turn that is ready, and when its policy wants to be asked again: at the `timer`, or, if it is
    `untimed`, whenever a turn ends."""

    number: int
    run: ProgramRun
    turn: Turn
    gap_ps: int
    ready_ps: int
    untimed: bool = False
    timer: Timer | None = None

    @property
    def session(self) -> Session:
        """Program id and session id."""
        return self.run.program.id, self.turn.session_id


class Gate:
    """Asks the admission policy about every turn, and holds those that it does not let in.

    see: makes a turn's view. pass_on(run, turn, gap_ps, hold_ps): the turn goes to the router, after it was
    held for hold_ps. hold(run, turn): the turn has to wait. reject(run, reason): the program ends here.
    A program that is paused is not asked about.
    """

    def __init__(
        self,
        policy: Any,
        fleet: FleetState,
        see: Callable[[ProgramRun, Turn], TurnView],
        pass_on: Callable[[ProgramRun, Turn, int, int], None],
        hold: Callable[[ProgramRun, Turn], None],
        reject: Callable[[ProgramRun, str], None],
    ) -> None:
        self._policy = None if type(policy) is Always else policy
        self._name = f"admission {type(policy).__name__}"
        self.observes = getattr(policy, "observe", None) is not None
        self._fleet = fleet
        self._kernel = fleet._kernel
        self._see = see
        self._pass_on = pass_on
        self._hold = hold
        self._reject = reject
        self._numbers = count()
        self._line: dict[int, Held] = {}
        self._untimed = 0
        self._paused: set[str] = set()
        self._moved_ps = 0
        every_ps = tick_ps(policy, self._name)
        if every_ps and getattr(policy, "review", None) is not None:
            self._kernel.every(every_ps, self._tick, lambda: bool(self._line))

    def ready(self, run: ProgramRun, turn: Turn, gap_ps: int) -> None:
        """A turn is ready: it passes, waits, or is the end of its program."""
        if self._policy is None and not self._paused:
            self._moved_ps = self._kernel.now
            self._fleet.programs.setdefault(run.program.id, run.known)
            self._pass_on(run, turn, gap_ps, 0)
            return
        held = Held(next(self._numbers), run, turn, gap_ps, self._kernel.now)
        if self._decide(held) is not None:
            self._line[held.number] = held
            self._fleet.held += 1
            self._hold(run, turn)

    def ended(self, run: ProgramRun, turn: Turn, cached_tokens: int) -> None:
        """A turn's last token is out."""
        self._moved_ps = self._kernel.now
        ends = run.turns_left == 0
        if ends:
            self._fleet.programs.pop(run.program.id, None)
        if self.observes:
            name, lengths = run.program.id, (turn.prompt_tokens, turn.output_tokens)
            self._call("observe", name, TurnEnded(run.known, turn.session_id, *lengths, cached_tokens))
            if ends:
                self._call("observe", name, ProgramEnded(name, len(run.program.turns)))
        if self._untimed:
            self._ask_again(lambda held: held.untimed)

    def prefilled(self, event: Prefilled) -> None:
        """A turn's first token is out."""
        self._call("observe", event.turn.program_id, event)

    def pause(self, program_id: str) -> None:
        """Turns of the program that become ready are held."""
        self._paused.add(program_id)

    def restore(self, program_id: str) -> None:
        """The program's turns are asked about again."""
        self._paused.discard(program_id)
        self._ask_again(lambda held: held.run.program.id == program_id)

    def check_empty(self) -> None:
        """Raises InputError if turns are held that nothing will let in."""
        held = [held for held in self._line.values() if not held.run.rejected]
        if held:
            name = held[0].run.program.id
            who = "the router's Pause" if name in self._paused else self._name
            raise InputError(f"{who} holds {len(held):,} turns for good, the first of program '{name}'")

    # ---- asking -------------------------------------------------------------------------------

    def _tick(self) -> None:
        wanted = self._reviewed()
        self._ask_again(lambda held: wanted is None or held.run.rejected or held.session in wanted)
        if self._line:
            self._check_idle(next(iter(self._line.values())))

    def _reviewed(self) -> set[Session] | None:
        """Have the policy look at the fleet; returns whose turns to ask about again, None for everybody's."""
        answer = self._call("review", "", self._fleet)
        if answer is None or isinstance(answer, Iterable):
            return None if answer is None else set(answer)
        raise InputError(
            f"{self._name}: review() returned {answer!r}; it must be sessions to ask about again, or None"
        )

    def _ask_again(self, wanted: Callable[[Held], bool]) -> None:
        """Ask about those in line that are wanted, in order, until one blocks the others."""
        gone = []
        for held in self._line.values():
            if wanted(held):
                answer = self._decide(held)
                if answer is None:
                    gone.append(held)
                elif answer.blocks:
                    break
        for held in gone:
            self._leave(held)

    def _time_is_up(self, held: Held) -> None:
        if self._decide(held) is None:
            self._leave(held)

    def _leave(self, held: Held) -> None:
        del self._line[held.number]
        self._fleet.held -= 1

    def _decide(self, held: Held) -> Hold | None:
        """Let a turn in, or end its program, or say how it is held."""
        self._wake(held)
        if held.run.rejected:
            return None
        answer = self._answer(held)
        if isinstance(answer, Hold):
            self._wait(held, answer)
            return answer
        self._moved_ps = self._kernel.now
        if isinstance(answer, Reject):
            self._fleet.programs.pop(held.run.program.id, None)
            self._reject(held.run, answer.reason)
            return None
        self._fleet.programs.setdefault(held.run.program.id, held.run.known)
        self._pass_on(held.run, held.turn, held.gap_ps, self._kernel.now - held.ready_ps)
        return None

    def _answer(self, held: Held) -> Admit | Hold | Reject:
        program_id = held.run.program.id
        if program_id in self._paused:
            return Hold()
        if self._policy is None:
            return ADMIT
        view = self._see(held.run, held.turn)
        answer = self._call("admit", program_id, held.run.known, view, self._fleet)
        if not isinstance(answer, (Admit, Hold, Reject)):
            raise InputError(
                f"{self._name}: admit() of program '{program_id}' returned {answer!r}; "
                "it must be an Admit, a Hold or a Reject"
            )
        return answer

    def _wait(self, held: Held, answer: Hold) -> None:
        """Note when to ask again."""
        until = answer.until_s
        self._check_idle(held)
        if until is None:
            held.untimed = True
            self._untimed += 1
        elif not isinstance(until, (int, float)) or not until > -inf:
            raise InputError(f"{self._name}: until_s is {until!r}; it must be a time in seconds, or None")
        elif until < inf:
            held.timer = self._kernel.at(max(to_ps(until), self._kernel.now + 1), self._time_is_up, held)

    def _check_idle(self, held: Held) -> None:
        """Raises InputError if a turn is held for good."""
        idle_ps = self._kernel.now - max(self._moved_ps, held.ready_ps)
        if idle_ps > LONGEST_IDLE_PS and not any(instance.load for instance in self._fleet.instances):
            self._line.setdefault(held.number, held)
            self.check_empty()

    def _wake(self, held: Held) -> None:
        """Forget when to ask again."""
        if held.timer is not None:
            self._kernel.cancel(held.timer)
        elif held.untimed:
            self._untimed -= 1
        held.untimed, held.timer = False, None

    def _call(self, name: str, program_id: str, *arguments: object) -> Any:
        try:
            return getattr(self._policy, name)(*arguments)
        except FAULTS as error:
            whose = f" of program '{program_id}'" if program_id else ""
            raise fault_of(f"{self._name}: {name}(){whose}", error) from error
