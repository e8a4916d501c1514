"""What policies of all families are shown, walked as deep as it goes: nothing in it is of the future."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentservesim.fleet import InstanceSpec
from agentservesim.fleet.config import NetworkConfig, RoutingConfig
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.tiers import KvShape
from agentservesim.model import Segment
from agentservesim.policies.protocols import (
    ADMIT,
    CACHE,
    ChainView,
    FleetView,
    InstanceView,
    Placement,
    ProgramView,
    QueuedTurn,
    RequestView,
    ServerView,
    TurnView,
    Verdict,
)
from tests.fleet.parts import PerToken, S, after, call, instance, program, serve, turn

REPLY, GAP_S, TURNS = 7919, 4231.0, 211
"""Tokens of a reply, seconds of a gap and turns of a program that nobody is to see before they are over."""

VIEWS = (ChainView, FleetView, InstanceView, ProgramView, QueuedTurn, RequestView, ServerView, TurnView)


def facts_of(thing: Any) -> set[str]:
    """Names of what can be read off; methods are the fleet's own, or questions that a policy asks."""
    return {name for name in dir(thing) if not (name.startswith("_") or callable(getattr(thing, name)))}


FACTS = {view: facts_of(view) for view in VIEWS}
EVENTS = {"TurnArrived", "TurnFinished", "ProgramArrived", "ProgramEnded", "GapEnded", "TurnAdmitted"}
EVENTS |= {"Prefilled", "Replied", "TurnEnded", "Preempted", "PinBroken"}
FUTURE = {
    "left",
    "remaining",
    "total",
    "output",
    "end",
    "next",
    "turns",
    "dependencies",
    "delay",
    "reply",
    "gap",
}
PAST = {"turns_done", "running_turns", "gap_started_s", "past_gaps_s", "in_gap", "queue_delay_s"}
MEMORY = MemoryConfig(
    tiers=(TierConfig(name="dram", capacity_bytes=1e12),),
    links=(LinkConfig(between=("hbm", "dram"), up_bytes_per_s=1e9, down_bytes_per_s=1e9),),
)


def sounds_like_the_future(names: set[str]) -> set[str]:
    """Names of which a word tells of what is to come."""
    return {name for name in names if FUTURE & {*name.split("_")}} - PAST


class Nosy:
    """Serves all four families, and looks at everything that it is shown whenever it is asked anything."""

    changes = "program"
    tick_s = 500.0

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.asked: set[str] = set()
        self.shown: set[type] = set()

    def look(self, who: str, *things: Any) -> None:
        self.asked.add(who)
        if any(isinstance(thing, TurnView) and thing[:3] == ("secret", "main", 1) for thing in things):
            self.over.add("gap")  # the turn behind it is here
        for thing in things:
            self._look(thing)

    def _look(self, thing: Any) -> None:
        if isinstance(thing, (int, float)):
            assert "reply" in self.over or thing not in (REPLY, REPLY - 1, REPLY + 16)
            assert "gap" in self.over or thing != GAP_S
            assert "turns" in self.over or type(thing) is not int or thing != TURNS
        elif isinstance(thing, Segment):
            assert facts_of(thing) == {"start", "parent"}
        elif isinstance(thing, Mapping):
            self._look((*thing.keys(), *thing.values()))
        elif isinstance(thing, Sequence) and not hasattr(thing, "_fields"):
            for part in thing if not isinstance(thing, str) else ():
                self._look(part)
        elif thing is not None:
            self._look_into(thing)

    def _look_into(self, thing: Any) -> None:
        """A view or an event, and no other object: its public facts, those beside its protocol too."""
        facts = facts_of(thing)
        kind = [view for view in VIEWS if facts >= FACTS[view]]
        assert kind or type(thing).__name__ in EVENTS, (thing, facts)
        assert not kind or not sounds_like_the_future(facts), (thing, facts)
        self.shown.update(kind)
        for name in facts:
            self._look(getattr(thing, name))

    def note(self, event: Any) -> None:
        """What is over may be known."""
        kind = type(event).__name__
        if kind == "TurnFinished" and event.request.id == "long":
            self.over.add("reply")
        if kind == "TurnFinished" and event.request.program.turns_done == TURNS:
            self.over.add("turns")

    def key(self, request: RequestView, now_s: float) -> int:
        self.look("key", request, now_s)
        return 0

    def victims(self, running: Sequence[RequestView], now_s: float) -> Sequence[RequestView]:
        self.look("victims", running)
        return running

    def observe(self, event: Any) -> None:
        self.note(event)
        self.look("observe", event)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        self.look("route", turn, instances)
        return 0

    def rebalance(self, fleet: FleetView) -> Sequence[Any]:
        self.look("rebalance", fleet)
        return ()

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        self.look("admit", program, turn, fleet)
        return ADMIT

    def review(self, fleet: FleetView) -> None:
        self.look("review", fleet)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        self.look("place", chain, server)
        return CACHE

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Sequence[Any]:
        self.look("tick", chains, server)
        return ()

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> Sequence[ChainView]:
        self.look("rank", chains, server)
        return chains

    def resume(self, chain: ChainView, hits: Mapping[str, int], server: ServerView) -> int:
        self.look("resume", chain, hits, server)
        return 0


def fleet() -> list[InstanceSpec]:
    spec = instance(step_time=PerToken(prompt_ps=1000, row_ps=S // 100), kv_shape=KvShape(16, 16))
    return [replace(spec, num_gpu_blocks=700)] * 2


@pytest.mark.parametrize("routing", [RoutingConfig(), RoutingConfig(snapshot_interval_s=3, event_lag_s=1)])
def test_no_policy_is_shown_anything_of_the_future(routing: RoutingConfig) -> None:
    """A gap of GAP_S behind a turn, and then a reply of REPLY tokens; beside it a program of TURNS turns."""
    first = turn(0, 5, tools=[call("Bash", int(GAP_S))])
    long = replace(turn(1, REPLY, after(0)), id="long")
    many = [turn(index, 2, *([after(index - 1, 30)] if index else [])) for index in range(TURNS)]
    crowd = [
        program(turn(0, 3000), turn(1, 3000, after(0, 5)), name=f"c{n}", arrival_s=4300) for n in range(4)
    ]
    nosy = Nosy()
    serve(
        [program(first, long, name="secret"), program(*many, name="many"), *crowd],
        fleet(),
        router=nosy,
        scheduler=nosy,
        admission=nosy,
        residency=nosy,
        memory=MEMORY,
        routing=routing,
        network=NetworkConfig(kind="rdma-400g"),
    )
    assert nosy.over == {"reply", "gap", "turns"}
    assert nosy.shown == {*VIEWS}
    methods = {name for name, value in vars(Nosy).items() if callable(value) and not name.startswith("_")}
    assert methods - {"look", "note", "resume"} <= nosy.asked


def test_no_view_has_a_field_that_is_called_like_the_future() -> None:
    for view, names in FACTS.items():
        assert not sounds_like_the_future(names), view
