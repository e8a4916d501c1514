"""Laws for authors of routers: the built-ins keep them, and so does one that moves everything about; a
router that breaks one is caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from random import Random
from typing import Any, ClassVar

import pytest

from agentservesim.fleet.config import RoutingConfig
from agentservesim.model import InputError
from agentservesim.policies import load_policy
from agentservesim.policies.protocols import (
    Choice,
    FleetView,
    InstanceView,
    Migration,
    Move,
    Pause,
    Replicate,
    Restore,
    TurnView,
)
from agentservesim.testing import RouterLaws
from agentservesim.testing.playing import Outcome
from agentservesim.testing.residency_cases import Case
from agentservesim.testing.router_laws import draw_fleet

LAWS = [name for name in dir(RouterLaws) if name.startswith("test_")]
NAMES = [
    entry.name
    for entry in entry_points(group="agentservesim.router")
    if entry.value.startswith("agentservesim.policies.routing.")
]
VARIANTS = [
    "session-affinity,ring=true,bound=1.25",
    "session-affinity,capacity=1",
    "dynamo-kv,temperature=0.3",
]


def laws_of(make: Callable[[], Any], cases: int = 12) -> RouterLaws:
    class Laws(RouterLaws):
        seeds = range(cases)

        def make_policy(self) -> Any:
            return make()

    return Laws()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("spec", [*NAMES, *VARIANTS])
def test_built_in_routers_keep_the_laws(spec: str, law: str) -> None:
    getattr(laws_of(lambda: load_policy("router", spec), 5), law)()


@dataclass
class Restless:
    """Sends turns anywhere, fetches from anywhere, and moves, copies, pauses and restores what it knows."""

    tick_s: float = 0.15

    def begin(self, instances: int, seed: int) -> None:
        self.random = Random(seed)
        self.sessions: dict[tuple[str, str], None] = {}
        self.paused: dict[str, float] = {}

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        self.sessions[turn.program_id, turn.session_id] = None
        looks = [view.hit_tokens(turn.path) + view.free_blocks + view.running_tokens for view in instances]
        index = turn.home if turn.home is not None and self.random.random() < 0.6 else None
        if index is None:
            index = self.random.randrange(len(instances))
        source = self.random.choice([None, self.random.randrange(len(instances))])
        return Choice(index, [float(look) for look in looks], source)

    def rebalance(self, fleet: FleetView) -> Iterator[Migration]:
        for (program, session), _ in self.sessions.items():
            draw, goal = self.random.random(), self.random.randrange(len(fleet.instances))
            if draw < 0.2:
                yield Move(program, session, goal, transfer=self.random.random() < 0.7)
            elif draw < 0.3:
                yield Replicate(program, session, goal)
            elif draw < 0.34 and program not in self.paused:
                self.paused[program] = fleet.now_s
                yield Pause(program)
        for program, since_s in list(self.paused.items()):
            if fleet.now_s > since_s + 0.4:
                del self.paused[program]
                goals = [None, *range(len(fleet.instances))]
                yield Restore(program, self.random.choice(goals))


@pytest.mark.parametrize("law", [law for law in LAWS if "one_instance" not in law and "future" not in law])
def test_a_restless_router_keeps_them_too(law: str) -> None:
    getattr(laws_of(Restless, 60), law)()


def test_it_is_as_restless_as_it_says() -> None:
    laws = laws_of(Restless)
    played = [laws.play(draw_fleet(seed)) for seed in range(60)]
    verbs = Counter(transfer.verb for outcome in played for transfer in outcome.transfers)
    assert min(verbs["move"], verbs["replicate"]) > 20
    assert sum(turn.hold_ps > 0 for outcome in played for turn in outcome.turns) > 20
    assert sum(turn.transfer_ps > 0 for outcome in played for turn in outcome.turns) > 8


class Moody(Restless):
    """Answers differently in every run."""

    dice: ClassVar[Random] = Random(0)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        return Choice(self.dice.randrange(len(instances)))


def test_moods_are_caught() -> None:
    with pytest.raises(AssertionError):
        laws_of(Moody).test_it_is_deterministic()


@dataclass
class Clairvoyant:
    """Is told how many turns there will be."""

    turns: ClassVar[dict[str, int]] = {}

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return self.turns[turn.program_id] % len(instances)


class Peeking(RouterLaws):
    def make_policy(self) -> Any:
        return Clairvoyant()

    def play(self, case: Case, leap: bool = True, audit_every: int = 0, router: Any = None) -> Outcome:
        Clairvoyant.turns = {program.id: len(program.turns) for program in case.programs}
        return super().play(case, leap, audit_every, router)


@dataclass
class Measuring:
    """Is told how long the replies will be."""

    replies: ClassVar[dict[tuple[str, int], int]] = {}

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return self.replies[turn.program_id, turn.turn_index] % len(instances)


class Timing(RouterLaws):
    def make_policy(self) -> Any:
        return Measuring()

    def play(self, case: Case, leap: bool = True, audit_every: int = 0, router: Any = None) -> Outcome:
        Measuring.replies = {(p.id, t.index): t.output_tokens for p in case.programs for t in p.turns}
        return super().play(case, leap, audit_every, router)


def test_knowing_replies_is_caught() -> None:
    with pytest.raises(AssertionError):
        Timing().test_it_sees_no_future()


@dataclass
class Hashing:
    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return hash(turn.program_id) % len(instances)


@dataclass
class Unordered:
    """Goes through a set of programs."""

    seen: set[str] = field(default_factory=set)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        self.seen.add(turn.program_id)
        return list(self.seen).index(turn.program_id) % len(instances)


@pytest.mark.parametrize("router", [Hashing, Unordered])
def test_hashes_are_caught(router: type) -> None:
    with pytest.raises(AssertionError, match="other hashes"):
        laws_of(router).test_it_does_not_go_by_hashes()


@dataclass
class Halting:
    """Stops everything half of the time: honest, but unlike others on one instance too."""

    tick_s: float = 0.1
    stops: bool = False

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return turn.home or 0

    def rebalance(self, fleet: FleetView) -> Iterator[Migration]:
        self.stops = not self.stops
        for program in list(fleet.programs):
            yield Pause(program) if self.stops else Restore(program)


@dataclass
class Eager:
    """Always has the next prompt computed ahead."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        return turn.home or 0

    def looks_ahead(self, turn: TurnView) -> bool:
        return True


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("router", [Halting, Eager])
def test_one_instance_may_be_paused_or_look_ahead(router: type, law: str) -> None:
    getattr(laws_of(router, 5), law)()


def test_knowing_the_future_is_caught() -> None:
    with pytest.raises(AssertionError):
        Peeking().test_it_sees_no_future()


@dataclass
class Sloppy:
    """Answers what it was made with."""

    answer: Any = 0
    moves: Any = ()
    tick_s: float = 0.1

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def rebalance(self, fleet: FleetView) -> Any:
        return self.moves


class Unready(Sloppy):
    def begin(self) -> None:
        pass


@pytest.mark.parametrize(
    ("router", "fault"),
    [
        (Sloppy(9), r"router Sloppy: route\(\) of turn 0 of program 'p.' returned 9; .* 0 to \d"),
        (Sloppy(Choice(0, [1.0])), r"route\(\) of turn 0 of program 'p.' gave 1 scores; there are \d"),
        (Sloppy(Choice(0, ["a", "b"])), r"route\(\) of turn 0 .* gave the scores \['a', 'b'\]; .* numbers"),  # type: ignore[list-item]
        (Sloppy(Choice(0, 5)), r"route\(\) of turn 0 .* gave the scores 5; they must be numbers"),  # type: ignore[arg-type]
        (Sloppy(Choice(0, (), 7)), r"route\(\) of turn 0 of program 'p.' named the source 7; .* 0 to \d"),
        (Sloppy(Choice(0, (), "x")), r"route\(\) of turn 0 of program 'p.' named the source 'x'"),  # type: ignore[arg-type]
        (Unready(), r"router Unready: begin\(\) raised TypeError: .*takes 1 positional argument"),
        (Sloppy(KeyError("x")), r"route\(\) of turn 0 of program 'p.' raised KeyError: 'x'"),
        (Sloppy(0, ["go"]), r"router Sloppy: rebalance\(\) yielded 'go'; it must be a Move"),
        (Sloppy(0, [Move("p0", "main", 7)]), r"rebalance\(\) yielded Move.*; instances are 0 to \d"),
        (Sloppy(0, 3), r"rebalance\(\) raised TypeError"),
        (Sloppy(0, (), tick_s=-1), r"tick_s is -1; it must be a time in seconds"),
    ],
)
def test_what_a_router_does_wrong_is_told_in_a_line(router: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        laws_of(lambda: router).test_it_is_deterministic()


def test_a_pause_that_is_never_restored_is_told() -> None:
    laws = laws_of(lambda: Sloppy(0, [Pause(f"p{number}") for number in range(5)], tick_s=1.0))
    case = next(case for case in map(draw_fleet, range(99)) if len(case.programs) == 5)
    with pytest.raises(InputError, match=r"the router's Pause holds \d+ turns for good"):
        laws.play(replace(case, routing=RoutingConfig()))
