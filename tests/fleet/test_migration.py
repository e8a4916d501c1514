"""Programs that move between instances, with times worked out by hand: a step takes a second, and so does
a KV block over the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import NetworkConfig, ToolsConfig
from agentservesim.kv.residency import TransferRecord
from agentservesim.kv.tiers import KvShape
from agentservesim.model import InputError, Program, Workload
from agentservesim.policies.protocols import (
    Changes,
    Choice,
    FleetView,
    InstanceView,
    Migration,
    Move,
    Pause,
    Replicate,
    RequestView,
    Restore,
    SchedulerEvent,
    TurnArrived,
    TurnView,
)
from agentservesim.policies.routing import SagaRouter
from agentservesim.policies.scheduling import FairShare
from tests.fleet.parts import Log, S, after, chain, instance, program, serve, turn
from tests.paths import longer, root

BLOCK_BYTES = 65536
NETWORK = NetworkConfig(kind="rdma-400g", bytes_per_s=BLOCK_BYTES)
SPEC = instance(kv_shape=KvShape(16, BLOCK_BYTES))


@dataclass
class Planned:
    """Sends turns home, new programs to instance 0, and asks for migrations at given seconds."""

    plan: dict[int, list[Migration]] = field(default_factory=dict)
    choose: Callable[[TurnView], Choice] | None = None
    tick_s: float = 1.0

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        return Choice(turn.home or 0) if self.choose is None else self.choose(turn)

    def rebalance(self, fleet: FleetView) -> Iterable[Migration]:
        return self.plan.get(round(fleet.now_s), [])


def run(
    programs: Sequence[Program],
    router: Planned,
    network: NetworkConfig | None = NETWORK,
    spec: InstanceSpec = SPEC,
    leap: bool = True,
) -> tuple[Log, list[TransferRecord]]:
    log, transfers = Log(), list[TransferRecord]()
    fleet = Fleet(
        Workload(tuple(programs)),
        [spec] * 2,
        router=router,
        tools=ToolsConfig(),
        seed=0,
        listener=log,
        leap=leap,
        network=network,
    )
    for residency in fleet.residencies:
        residency.copies.on_transfer = transfers.append
    fleet.run()
    return log, transfers


def growing(gap_s: int, name: str = "p", arrival_s: int = 0) -> Program:
    """Two turns: 64 prompt tokens and 2 more; after a gap, 80 of which 65 were there."""
    first, second = (
        turn(0, 2, name=f"{name}:0", prompt=64),
        turn(1, 1, after(0, gap_s), name=f"{name}:1", prompt=80),
    )
    path = root(66)
    return program(
        replace(first, path=path), replace(second, path=longer(path, 81)), name=name, arrival_s=arrival_s
    )


@pytest.mark.parametrize("leap", [True, False])
def test_a_session_in_its_gap_moves_with_its_kv(leap: bool) -> None:
    """The first turn ends at 2 s with 4 blocks; moved at 5 s they arrive at 9 s (overhead and latency apart);
    the second turn finds them there at 12 s."""
    log, transfers = run([growing(10)], Planned({5: [Move("p", "main", 1)]}), leap=leap)
    second = log.by_turn()["p:1"]
    assert (second.instance, second.cached_tokens, second.transfer_ps) == (1, 64, 0)
    (record,) = transfers
    assert (record.verb, record.source, record.instance, record.bytes) == ("move", 0, 1, 4 * BLOCK_BYTES)
    assert record.asked_ps == record.start_ps == 5 * S
    assert (record.end_ps - 9 * S) / S == pytest.approx(6e-6 + 3e-6)


def test_a_router_that_says_so_is_not_asked() -> None:
    class Never(Planned):
        rebalances = False

    log, transfers = run([growing(10)], Never({5: [Move("p", "main", 1)]}))
    assert (log.by_turn()["p:1"].instance, transfers) == (0, [])


@pytest.mark.parametrize("leap", [True, False])
def test_a_turn_that_is_back_early_waits_for_its_kv(leap: bool) -> None:
    """Moved at 5 s, back at 7 s: it waits till 9 s and computes the rest in a step."""
    log, _ = run([growing(5)], Planned({5: [Move("p", "main", 1)]}), leap=leap)
    second = log.by_turn()["p:1"]
    assert (second.instance, second.cached_tokens) == (1, 64)
    assert second.transfer_ps / S == pytest.approx(2, abs=1e-4)
    assert second.finish_ps / S == pytest.approx(10, abs=1e-4)


@pytest.mark.parametrize("how", ["no network", "no transfer"])
def test_a_session_may_leave_its_kv_behind(how: str) -> None:
    move = Move("p", "main", 1, transfer=how == "no network")
    log, transfers = run([growing(10)], Planned({5: [move]}), None if how == "no network" else NETWORK)
    second = log.by_turn()["p:1"]
    assert (second.instance, second.cached_tokens, transfers) == (1, 0, [])


def test_a_turn_under_way_ends_where_it_is_and_the_next_one_goes() -> None:
    log, transfers = run([growing(10)], Planned({1: [Move("p", "main", 1)]}))
    assert [log.by_turn()[name].instance for name in ("p:0", "p:1")] == [0, 1]
    assert [record.asked_ps for record in transfers] == [2 * S]


def test_a_replica_serves_others_and_the_session_stays() -> None:
    """q shares p's prompt, and is sent to the other instance when the copy is there."""
    p = growing(20)
    q = program(replace(p.turns[0], id="q:0"), name="q", arrival_s=12)
    router = Planned({5: [Replicate("p", "main", 1)]}, lambda turn: Choice(int(turn.program_id == "q")))
    log, transfers = run([p, q], router)
    done = log.by_turn()
    assert [(done[name].instance, done[name].cached_tokens) for name in ("q:0", "p:1")] == [(1, 48), (0, 64)]
    assert [(record.verb, record.instance) for record in transfers] == [("replicate", 1)]


def test_a_choice_may_have_kv_sent_first() -> None:
    """The second turn goes to 1 and has what 0 has sent there: 4 blocks in 4 s."""
    router = Planned(choose=lambda turn: Choice(turn.turn_index, (), 0 if turn.turn_index else None))
    log, transfers = run([growing(10)], router)
    second = log.by_turn()["p:1"]
    assert (second.instance, second.cached_tokens, len(transfers)) == (1, 64, 1)
    assert second.transfer_ps / S == pytest.approx(4, abs=1e-4)


@pytest.mark.parametrize("leap", [True, False])
def test_a_waiting_turn_is_taken_back(leap: bool) -> None:
    """One turn at a time: b waits behind a from 0 s; moved at 3 s it runs at once, after 3 s of queueing."""
    spec = replace(SPEC, engine=EngineConfig(async_scheduling=False, max_num_seqs=1))
    programs = [chain("a", [10]), chain("b", [2])]
    log, _ = run(programs, Planned({3: [Move("b", "b", 1)]}), spec=spec, leap=leap)
    done = log.by_turn()
    assert (done["b:0"].instance, done["b:0"].queue_ps, done["b:0"].finish_ps) == (1, 3 * S, 5 * S)
    assert done["a:0"].finish_ps == 10 * S


@dataclass
class Watching:
    """First come, first served; keeps the views it is shown, who arrived, and what they would find in HBM."""

    changes: ClassVar[Changes] = "never"
    views: set[RequestView] = field(default_factory=set)
    arrived: list[str] = field(default_factory=list)
    found: list[tuple[str, float, int]] = field(default_factory=list)

    def key(self, request: RequestView, now_s: float) -> int:
        self.views.add(request)
        self.found.append((request.id, now_s, request.cached_tokens))
        return 0

    def observe(self, event: SchedulerEvent) -> None:
        if isinstance(event, TurnArrived):
            self.arrived.append(event.request.id)


def test_a_turn_that_is_taken_back_is_the_same_turn_to_the_scheduler() -> None:
    """b and c have one prompt of 64 tokens, which c computes on instance 1; b, moved there, finds 48."""
    spec = replace(SPEC, engine=EngineConfig(async_scheduling=False, max_num_seqs=1))
    b = turn(0, 2, name="b:0", prompt=64)
    c = replace(b, id="c:0")
    programs = [chain("a", [10]), program(b, name="b"), program(c, name="c")]
    router = Planned({3: [Move("b", "main", 1)]}, lambda turn: Choice(int(turn.program_id == "c")))
    watching = Watching()
    serve(programs, [spec, spec], router=router, scheduler=watching)
    assert watching.arrived == ["a:0", "b:0", "c:0"]
    assert [found for found in watching.found if found[0] == "b:0"] == [("b:0", 0.0, 0), ("b:0", 3.0, 48)]
    assert len(watching.views) == 3


@pytest.mark.parametrize("leap", [True, False])
def test_a_turn_that_is_taken_back_is_charged_once(leap: bool) -> None:
    """One turn at a time, instance 0 busy with a: y has 1000 tokens of b, moved at 3 s, and 4 for its reply,
    z 1500 of d. So the next of y, 1004, is before the next of z, 1500."""
    spec = replace(SPEC, engine=EngineConfig(async_scheduling=False, max_num_seqs=1))
    shapes = [("b", "y", 1000, 0), ("d", "z", 1500, 2), ("e", "z", 16, 11), ("f", "y", 16, 12)]
    programs = [chain("a", [30])]
    for name, tenant, prompt, at in shapes:
        only = turn(0, 2, name=f"{name}:0", prompt=prompt)
        programs.append(replace(program(only, name=name, arrival_s=at), tenant=tenant))
    router, scheduler = Planned({3: [Move("b", "main", 1)]}), FairShare()
    done = serve(programs, [spec, spec], router=router, scheduler=scheduler, leap=leap)
    assert done["b:0"].instance == 1
    assert [done[name].scheduled_ps // S for name in ("d:0", "f:0", "e:0")] == [30, 32, 34]


class Stealing(SagaRouter):
    """SAGA's stealing without its placement."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        return Choice(0)


def test_saga_steals_in_a_fleet() -> None:
    """One turn at a time: b waits behind a. At the second tick, at 0.2 s, idle instance 1 takes it."""
    spec = replace(SPEC, engine=EngineConfig(async_scheduling=False, max_num_seqs=1))
    done = serve([chain("a", [10]), chain("b", [2])], [spec, spec], router=Stealing())
    assert (done["b:0"].instance, done["b:0"].finish_ps) == (1, 22 * S // 10)
    assert done["a:0"].instance == 0


@pytest.mark.parametrize("leap", [True, False])
def test_saga_does_not_steal_from_an_idle_home_in_the_moment_of_arrival(leap: bool) -> None:
    """The first turn ends at 2 s; the second is there at 12 s, with a tick, and finds its 64 tokens."""
    done = serve([growing(10)], [SPEC, SPEC], router=SagaRouter(), leap=leap)
    assert (done["p:1"].instance, done["p:1"].cached_tokens) == (done["p:0"].instance, 64)


@pytest.mark.parametrize("leap", [True, False])
def test_a_paused_program_is_held_until_it_is_restored(leap: bool) -> None:
    """Paused at 1 s, its first turn ends at 2 s; the second is ready at 4 s, held till 9 s, sent to 1."""
    router = Planned({1: [Pause("p")], 9: [Restore("p", 1)]})
    log, _ = run([growing(2)], router, leap=leap)
    first, second = log.by_turn()["p:0"], log.by_turn()["p:1"]
    assert first.finish_ps == 2 * S
    assert (second.instance, second.hold_ps, second.ready_ps) == (1, 5 * S, 4 * S)
    assert second.queue_ps == 5 * S
    assert second.finish_ps == 10 * S


@pytest.mark.parametrize("tick_s", [0.0, 1e-14])
def test_a_tick_of_no_time_is_refused(tick_s: float) -> None:
    with pytest.raises(InputError, match=f"router Planned: tick_s is {tick_s}; it must be a time in seconds"):
        run([growing(10)], Planned(tick_s=tick_s))


def test_what_no_longer_applies_has_no_effect() -> None:
    plan: list[Migration] = [
        Move("gone", "main", 1),
        Move("p", "other", 1),
        Move("p", "main", 0),
        Replicate("gone", "main", 1),
        Replicate("p", "main", 0),
        Restore("gone"),
    ]
    log, transfers = run([growing(10)], Planned({5: plan}))
    assert [record.instance for record in log.turns] == [0, 0]
    assert transfers == []
