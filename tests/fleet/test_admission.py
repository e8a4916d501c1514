"""The gate before the router, with numbers worked out by hand: every step takes a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import pytest

from agentservesim.fleet import Fleet
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import InputError, Program, Workload
from agentservesim.policies.admission import Always, MaxPrograms
from agentservesim.policies.protocols import (
    ADMIT,
    AdmissionEvent,
    FleetView,
    Hold,
    Prefilled,
    ProgramEnded,
    ProgramView,
    Reject,
    TurnEnded,
    TurnView,
    Verdict,
)
from agentservesim.policies.routing import RoundRobin
from tests.fleet.parts import Log, S, Served, after, chain, instance, program, turn, with_dispatch_of


def serve(policy: Any, *programs: Program, count: int = 1, **options: Any) -> tuple[Served, Fleet]:
    """Run programs under an admission policy."""
    log = Log()
    fleet = Fleet(
        Workload(programs),
        [instance()] * count,
        router=RoundRobin(),
        tools=ToolsConfig(),
        seed=0,
        listener=log,
        admission=policy,
        **options,
    )
    return Served(log, fleet.run(), fleet.now_ps), fleet


@dataclass
class Says:
    """Answers as it is told."""

    answer: Callable[[TurnView, FleetView], Verdict]
    asked: list[tuple[float, str, int]] = field(default_factory=list)

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        self.asked.append((fleet.now_s, turn.program_id, turn.turn_index))
        return self.answer(turn, fleet)


def test_who_is_held_waits_for_a_program_to_end() -> None:
    a, b = chain("a", [2, 3], gap_s=4), chain("b", [1], arrival_s=1)
    served, _ = serve(MaxPrograms(limit=1), a, b)
    # a: 0 to 2, tools until 6, 6 to 9; b was ready at 1 and is let in at 9
    assert served.times("a:1") == (4, 6, 9)
    assert served.times("b:0") == (0, 1, 10)
    b0 = served["b:0"]
    assert (b0.hold_ps, b0.queue_ps, b0.prefill_ps) == (8 * S, 8 * S, S)
    assert served["a:1"].hold_ps == 0


def test_they_are_let_in_first_come_first_served() -> None:
    programs = [chain(name, [1], arrival_s=n) for n, name in enumerate("abcd")]
    served, _ = serve(MaxPrograms(limit=1), chain("z", [4]), *programs)
    assert [served.times(f"{name}:0")[2] for name in "zabcd"] == [4, 5, 6, 7, 8]


def test_a_time_to_ask_again_is_kept() -> None:
    policy = Says(lambda turn, fleet: ADMIT if fleet.now_s >= 2.5 else Hold(until_s=fleet.now_s + 1.25))
    served, _ = serve(policy, chain("a", [1]))
    assert policy.asked == [(0.0, "a", 0), (1.25, "a", 0), (2.5, "a", 0)]
    assert served.times("a:0") == (0, 0, 3.5)


def test_who_blocks_is_asked_alone() -> None:
    policy = Says(
        lambda turn, fleet: ADMIT if turn.program_id == "z" or not fleet.programs else Hold(blocks=True)
    )
    served, _ = serve(policy, chain("z", [1, 2]), *(chain(name, [1]) for name in "abc"))
    at_0 = [(0.0, name, 0) for name in "zabc"]
    at_4 = [(4.0, "b", 0), (4.0, "c", 0)]
    at_1_and_3 = [(1.0, "a", 0), (1.0, "z", 1), (3.0, "a", 0), (3.0, "b", 0)]
    assert policy.asked == [*at_0, *at_1_and_3, *at_4, (5.0, "c", 0)]
    assert served.times("c:0")[2] == 6


@dataclass
class Ticks(Says):
    """Opens at a tick."""

    tick_s: float = 2.0
    open: bool = False

    def review(self, fleet: FleetView) -> None:
        self.open = fleet.now_s >= 4


def test_ticks_ask_about_everybody_and_keep_a_run_alive() -> None:
    policy = Ticks(lambda turn, fleet: ADMIT if policy.open else Hold(until_s=100.0))
    served, _ = serve(policy, chain("a", [1]), chain("b", [1]))
    assert [time for time, _, _ in policy.asked] == [0, 0, 2, 2, 4, 4]
    assert served.times("b:0") == (0, 0, 5)
    assert served.now_ps == 5 * S


def test_a_tick_may_say_about_whom() -> None:
    class Picks(Ticks):
        def review(self, fleet: FleetView) -> Any:
            super().review(fleet)
            return [("b", "b")] if self.open else []

    policy = Picks(lambda turn, fleet: ADMIT if policy.open else Hold(until_s=inf))
    with pytest.raises(InputError, match="holds 1 turns for good, the first of program 'a'"):
        serve(policy, chain("a", [1]), chain("b", [1]))
    assert policy.asked == [(0, "a", 0), (0, "b", 0), (4, "b", 0)]


@dataclass
class Listens:
    events: list[AdmissionEvent] = field(default_factory=list)
    programs: list[list[str]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        self.programs.append(list(fleet.programs))
        self.held.append(fleet.held)
        return Hold() if program.program_id == "b" and "a" in fleet.programs else ADMIT

    def observe(self, event: AdmissionEvent) -> None:
        self.events.append(event)


def test_it_is_told_what_happens() -> None:
    policy = Listens()
    serve(policy, chain("a", [3, 1]), chain("b", [2]))
    told = [
        (event.turn.program_id, event.turn.turn_index)
        if isinstance(event, Prefilled)
        else (event.program.program_id, event.prompt_tokens, event.output_tokens, event.cached_tokens)
        if isinstance(event, TurnEnded)
        else event
        for event in policy.events
    ]
    assert told == [
        *[("a", 0), ("a", 16, 3, 0), ("a", 1), ("a", 16, 1, 0), ProgramEnded("a", 2)],
        *[("b", 0), ("b", 16, 2, 0), ProgramEnded("b", 1)],
    ]
    assert policy.programs == [[], ["a"], ["a"], ["a"], []]
    assert policy.held == [0, 0, 1, 1, 1]


def test_a_program_that_is_rejected_ends_and_gives_its_place_back() -> None:
    policy = Says(lambda turn, fleet: Reject("no") if turn.program_id == "a" else ADMIT)
    served, fleet = serve(policy, chain("a", [5, 5]), chain("b", [1]), max_concurrency=1)
    assert fleet.rejected == {"a": 0}
    assert set(served.log.by_turn()) == {"b:0"}
    assert served.times("b:0") == (0, 0, 1)


def test_what_runs_of_a_rejected_program_runs_on() -> None:
    sides = turn(1, 5, after(0), session="x"), turn(2, 1, after(0), session="y")
    fork = program(turn(0, 1), *sides, turn(3, 1, after(1)), turn(4, 1, with_dispatch_of(1)))
    policy = Says(lambda turn, fleet: Reject() if turn.turn_index == 2 else ADMIT)
    served, fleet = serve(policy, fork)
    assert set(served.log.by_turn()) == {"0", "1"}
    assert served.times("1")[2] == 6
    assert fleet.rejected == {"p": 0}


def test_dispatch_triggers_fire_when_the_client_sends() -> None:
    pair = program(turn(0, 1), turn(1, 1, with_dispatch_of(0, 1)))
    policy = Says(lambda turn, fleet: ADMIT if turn.turn_index or fleet.now_s >= 5 else Hold(until_s=5.0))
    served, _ = serve(policy, pair)
    assert served.times("1")[1:] == (1, 2)
    assert served.times("0")[1:] == (0, 6)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (lambda t, f: 1 / 0, r"admission Says: admit\(\) of program 'a' raised ZeroDivisionError"),
        (lambda t, f: "yes", r"admission Says: admit\(\) of program 'a' returned 'yes'; it must be an Admit"),
        (lambda t, f: Hold(until_s=float("nan")), "admission Says: until_s is nan; it must be a time"),
        (lambda t, f: Hold(), "admission Says holds 1 turns for good, the first of program 'a'"),
        (lambda t, f: Hold(until_s=inf), "admission Says holds 1 turns for good, the first of program 'a'"),
        (lambda t, f: Hold(until_s=f.now_s + 9999), "admission Says holds 1 turns for good"),
    ],
)
def test_who_answers_nonsense_is_named(answer: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        serve(Says(answer), chain("a", [1]))


def test_a_review_names_sessions_or_nobody() -> None:
    class Counts(Ticks):
        def review(self, fleet: FleetView) -> Any:
            return 3

    fault = r"admission Counts: review\(\) returned 3; it must be sessions to ask about again, or None"
    with pytest.raises(InputError, match=fault):
        serve(Counts(lambda t, f: Hold(until_s=100.0)), chain("a", [1]))


def test_a_bad_tick_is_refused() -> None:
    with pytest.raises(InputError, match="admission Ticks: tick_s is -1"):
        serve(Ticks(lambda t, f: ADMIT, tick_s=-1), chain("a", [1]))


def test_letting_everybody_in_is_always() -> None:
    programs = [chain(name, [2, 3], gap_s=1, arrival_s=n) for n, name in enumerate("abc")]
    always, _ = serve(Always(), *programs)
    nobody, _ = serve(None, *programs)
    said, _ = serve(Says(lambda t, f: ADMIT), *programs)
    assert always.log.turns == nobody.log.turns == said.log.turns
