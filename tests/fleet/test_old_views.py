"""What routers see of instances: fresh, or as old as the scenario says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agentservesim.fleet.config import RoutingConfig
from agentservesim.fleet.reports import Report
from agentservesim.fleet.servers import LiveView
from agentservesim.model import Segment
from agentservesim.policies.protocols import (
    FleetView,
    InstanceView,
    Prefilled,
    Replied,
    RouterEvent,
    TurnView,
)
from agentservesim.policies.routing import LeastLoaded
from tests.fleet.parts import S, chain, instance, program, serve, turn
from tests.paths import root


@dataclass
class Looking:
    """Sends everything to instance 0 and writes down what it sees of it, and what it is told."""

    seen: list[tuple[object, ...]] = field(default_factory=list)
    told: list[tuple[float, str, str]] = field(default_factory=list)
    now_s: float = 0.0

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        view = instances[0]
        hit = view.hit_tokens(turn.path)
        self.seen.append((now_s, view.load, view.running, view.waiting, view.free_blocks, hit))
        return 0


PROGRAMS = [
    # a: 10 s, 32 prompt tokens and 9 more in the KV cache by its end; the others ask at 4, 7, 12 s and so on
    program(turn(0, 10, prompt=32, name="a"), name="a"),
    *(program(turn(0, 1, name=f"b{at}"), name=f"b{at}", arrival_s=at) for at in (4, 7, 12, 16, 21)),
]


def looked(interval_s: float, lag_s: float, leap: bool = True) -> list[tuple[object, ...]]:
    router = Looking()
    routing = RoutingConfig(snapshot_interval_s=interval_s, event_lag_s=lag_s)
    spec = instance(num_gpu_blocks=11)
    serve(PROGRAMS, [spec, spec], router=router, routing=routing, leap=leap)
    return router.seen


@pytest.mark.parametrize("leap", [True, False])
def test_fresh_views(leap: bool) -> None:
    """a's second token is known at 1 s: at 4 s it has 32 + 3 tokens in 3 blocks of 10. A b takes a second."""
    assert looked(0, 0, leap) == [
        (0.0, 0, 0, 0, 10, 0),
        (4.0, 1, 1, 0, 7, 0),
        (7.0, 1, 1, 0, 7, 0),
        (12.0, 0, 0, 0, 10, 0),
        (16.0, 0, 0, 0, 10, 0),
        (21.0, 0, 0, 0, 10, 0),
    ]


@pytest.mark.parametrize("leap", [True, False])
def test_views_are_as_old_as_the_last_report(leap: bool) -> None:
    """Reports at 0, 5, 10, ... s. That of 5 s is of a alone (b4 came at 4 s and was gone at 5 s); at 10 s a
    has ended; those who arrive at 7, 12 and 21 s are never in one."""
    assert looked(5, 0, leap) == [
        (0.0, 0, 0, 0, 10, 0),
        (4.0, 0, 0, 0, 10, 0),
        (7.0, 1, 1, 0, 7, 0),
        (12.0, 0, 0, 0, 10, 0),
        (16.0, 0, 0, 0, 10, 0),
        (21.0, 0, 0, 0, 10, 0),
    ]


@pytest.mark.parametrize("leap", [True, False])
def test_reports_take_their_time(leap: bool) -> None:
    """Reports of 0, 5, 10 s reach the router 6 s later: at 12 s it knows of 5 s, at 16 s of 10 s."""
    assert [seen[1] for seen in looked(5, 6, leap)] == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("leap", [True, False])
def test_with_a_lag_alone_every_turn_is_a_report(leap: bool) -> None:
    """Loads change at 0 (1), 4 (2), 5 (1), 7 (2), 8 (1), 10 (0), 12 (1), 13 (0), 16 (1), 17 (0); 3 s later
    the router knows."""
    assert [seen[:2] for seen in looked(0, 3, leap)] == [(0, 0), (4, 1), (7, 2), (12, 1), (16, 0), (21, 0)]


def test_old_loads_make_a_herd() -> None:
    """Six turns within a report all go where the last one said that there was least."""
    programs = [chain(str(i), [20], arrival_s=i) for i in range(6)]
    for interval_s, places in ((0, [0, 1, 2, 0, 1, 2]), (100, [0] * 6)):
        routing = RoutingConfig(snapshot_interval_s=interval_s)
        done = serve(programs, [instance() for _ in range(3)], router=LeastLoaded(), routing=routing)
        assert [done[f"{i}:0"].instance for i in range(6)] == places


def test_the_cache_is_as_old_as_the_report() -> None:
    """A prompt of 64 tokens is sent at 0 and 20 s: 48 of it are cached, but a report of 0 s knows nothing."""
    path = root(65)
    turns = [turn(0, 1, name=name, prompt=64) for name in ("a", "b")]
    object.__setattr__(turns[0], "path", path)
    object.__setattr__(turns[1], "path", path)
    programs = [program(turns[0], name="a"), program(turns[1], name="b", arrival_s=20)]
    for interval_s, hit in ((0, 48), (19, 48), (30, 0)):
        router = Looking()
        serve(programs, router=router, routing=RoutingConfig(snapshot_interval_s=interval_s))
        assert [seen[-1] for seen in router.seen] == [0, hit]


@dataclass
class Told(Looking):
    """Is told of first and last tokens, and asked again by another program at each second."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        self.now_s = now_s
        return 0

    def observe(self, event: RouterEvent) -> None:
        kind = "first" if isinstance(event, Prefilled) else "last"
        self.told.append((self.now_s, kind, event.turn.program_id))
        assert event.instance == 0
        if isinstance(event, Replied):
            assert event.reply_tokens == {"a": 3}.get(event.turn.program_id, 1)


@pytest.mark.parametrize(("lag_s", "first", "last"), [(0, 0, 2), (2.5, 3, 5)])
@pytest.mark.parametrize("leap", [True, False])
def test_the_news_of_tokens_takes_its_time(lag_s: float, first: int, last: int, leap: bool) -> None:
    """a has its first token at 1 s and its last at 3 s. What a router is told at a moment it knows in it:
    asked at 1, 2, 3, ... s, it was last asked at `first` and `last` s when it was told."""
    router = Told()
    ticks = [program(turn(0, 1, name=f"t{at}"), name=f"t{at}", arrival_s=at) for at in range(1, 9)]
    programs = [program(turn(0, 3, name="a"), name="a"), *ticks]
    serve(programs, router=router, routing=RoutingConfig(event_lag_s=lag_s), leap=leap)
    assert [(at, kind) for at, kind, name in router.told if name == "a"] == [(first, "first"), (last, "last")]


FUTURE = ("output", "reply", "remain", "duration", "total", "left", "next", "end", "will", "later", "turns")
PAST = {"turns_done", "running_turns"}
PLAIN = (str, int, float, bool, bytes, type(None))


def test_views_have_no_word_of_the_future() -> None:
    """Walk all that can be reached from what a router is shown: no public name is about what is to come."""
    names: set[str] = set()

    def walk(thing: object) -> None:
        if isinstance(thing, (*PLAIN, Segment)) or callable(thing):
            return
        if isinstance(thing, (list, tuple)):
            for part in thing:
                walk(part)
        for name in dir(thing):
            if not name.startswith("_") and name not in dir(tuple):
                names.add(name)
                walk(getattr(thing, name))

    @dataclass
    class Walking:
        tick_s: float = 1.0

        def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
            walk((turn, instances))
            assert turn.path[-1][1] == turn.prompt_tokens
            return 0

        def rebalance(self, fleet: FleetView) -> tuple[()]:
            walk((fleet.instances, tuple(fleet.programs.values()), fleet.held))
            return ()

    for routing in (RoutingConfig(), RoutingConfig(snapshot_interval_s=1)):
        serve([chain("p", [2, 2], gap_s=1)], router=Walking(), routing=routing)
    assert {"load", "hit_tokens", "prefill_s", "path", "home", "past_gaps_s"} <= names
    assert [name for name in names - PAST if any(word in name.split("_") for word in FUTURE)] == []


def test_old_and_fresh_views_show_the_same_things() -> None:
    public = {name for name in dir(InstanceView) if not name.startswith("_")}
    for kind in (LiveView, Report):
        fields = (
            set(dir(kind)) | set(getattr(kind, "__dataclass_fields__", ())) | {"index", "load", "prefill_s"}
        )
        assert public <= fields


def test_zero_is_fresh_to_the_byte() -> None:
    programs = [chain(f"p{i}", [3, 2], gap_s=2, arrival_s=i) for i in range(6)]
    spec = instance(frontend_in_ps=S // 4)
    plain, zero = (
        serve(programs, [spec, spec], router=LeastLoaded(), **settings)
        for settings in ({}, {"routing": RoutingConfig(snapshot_interval_s=0, event_lag_s=0)})
    )
    assert plain.log.turns == zero.log.turns
