"""Routing, front ends, heterogeneous fleets, and the laws that every run obeys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import InputError, Path, Program, Workload
from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    InstanceView,
    Placement,
    Router,
    Scheduler,
    ServerView,
    TurnView,
)
from agentservesim.policies.routing import LeastLoaded, RoundRobin, SessionAffinity
from agentservesim.policies.scheduling import Fcfs, Priority
from tests.fleet.parts import (
    SYNC,
    Log,
    Metronome,
    PerToken,
    S,
    after,
    chain,
    instance,
    program,
    serve,
    turn,
)
from tests.paths import fork, root

ROUTERS: list[Callable[[], Router]] = [RoundRobin, LeastLoaded, SessionAffinity]


@dataclass
class Scripted:
    """Sends turns where it is told, and keeps what it was shown."""

    choices: Sequence[object] = ()
    seen: list[TurnView] = field(default_factory=list)
    loads: list[tuple[int, ...]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        self.seen.append(turn)
        self.loads.append(tuple(view.load for view in instances))
        self.times.append(now_s)
        return self.choices[(len(self.seen) - 1) % len(self.choices)]  # type: ignore[return-value]


# ---- times ------------------------------------------------------------------------------------


def test_one_turn_alone() -> None:
    """100 prompt tokens at 1 ms, then 4 decode steps of 20 ms: first token at 100 ms, last at 180 ms."""
    spec = instance(step_time=PerToken(prompt_ps=S // 1000, row_ps=S // 50))
    record = serve([program(turn(0, 5, prompt=100), arrival_s=2)], [spec])["0"]
    assert (record.ready_ps, record.scheduled_ps) == (2 * S, 2 * S)
    assert (record.first_token_ps - 2 * S, record.finish_ps - 2 * S) == (S // 10, S * 18 // 100)
    assert (record.queue_ps, record.prefill_ps, record.decode_ps) == (0, S // 10, S * 8 // 100)


def test_front_ends_take_their_time_on_both_ways() -> None:
    """Into the engine counts as queueing, out of it as prefill: the first token has to travel too."""
    spec = instance(frontend_in_ps=3 * S, frontend_out_ps=2 * S)
    done = serve([chain("p", [4, 1], gap_s=10)], [spec])
    first = done["p:0"]
    assert first.scheduled_ps == 3 * S
    assert (first.first_token_ps, first.finish_ps) == (6 * S, 9 * S)
    assert (first.queue_ps, first.prefill_ps, first.decode_ps) == (3 * S, 3 * S, 3 * S)
    assert done.times("p:1") == (10, 19, 25)


def test_a_fleet_may_mix_instances() -> None:
    fast, slow = instance(), instance(step_time=Metronome(step_s=5), frontend_out_ps=S)
    done = serve([chain("a", [3]), chain("b", [3])], [fast, slow])
    assert (done["a:0"].instance, done["b:0"].instance) == (0, 1)
    assert (done["a:0"].finish_ps, done["b:0"].finish_ps) == (3 * S, 16 * S)


def test_a_program_ends_with_its_last_token_on_whatever_way_it_comes() -> None:
    """In a closed loop the place is free when the slower front end has delivered."""
    slow, fast = instance(frontend_out_ps=9 * S), instance()
    two = program(turn(0, 2), turn(1, 3, session="b"), name="two")
    done = serve([two, chain("next", [1])], [slow, fast], max_concurrency=1)
    assert [done.times(name)[2] for name in ("0", "1")] == [11, 3]
    assert done.times("next:0")[1] == 11


# ---- routing ----------------------------------------------------------------------------------


def test_a_router_sees_the_home_of_the_session_or_of_the_program() -> None:
    router = Scripted([2, 1, 0, 1, 2])
    turns = [
        turn(0, 1, name="root"),
        turn(1, 1, after(0), name="main"),
        turn(2, 1, after(1), name="child", session="a"),
        turn(3, 1, after(2), name="child again", session="a"),
        turn(4, 1, after(3), name="main again"),
    ]
    serve([program(*turns)], [instance() for _ in range(3)], router=router)
    # root: nowhere yet; main: where root was; child: where its program began; then its own; main's last
    assert [view.home for view in router.seen] == [None, 2, 2, 0, 1]


def test_a_router_is_shown_nothing_of_the_future() -> None:
    """Two runs that differ only in what is to come look the same up to then."""
    for output, later in ((1, []), (9, [turn(1, 3, after(0, 50))])):
        router = Scripted([0])
        first = turn(0, output, prompt=40)
        serve([program(first, *later)], router=router)
        ((segment, _),) = first.path
        assert router.seen[0]._replace(program=None) == TurnView(
            "p", "main", 0, 40, 0, None, ((segment, 40),)
        )


def test_load_counts_turns_on_the_way_in_too() -> None:
    router = Scripted([0, 1, 1, 0])
    programs = [chain(name, [3], arrival_s=at) for name, at in (("a", 0), ("b", 1), ("c", 2), ("d", 9))]
    serve(programs, [instance(frontend_in_ps=S // 2) for _ in range(2)], router=router)
    assert router.loads == [(0, 0), (1, 0), (1, 1), (0, 0)]
    assert router.times == [0, 1, 2, 9]


@pytest.mark.parametrize("nonsense", [-1, 2, None, "0", 0.0])
def test_a_router_that_answers_nonsense_is_named(nonsense: object) -> None:
    with pytest.raises(
        InputError, match=r"router Scripted: route\(\) of turn 0 of program 'p' returned .* 0 to 1"
    ):
        serve([chain("p", [1])], [instance(), instance()], router=Scripted([nonsense]))


def test_a_router_may_answer_with_a_number_of_numpy() -> None:
    done = serve([chain("p", [1])], [instance(), instance()], router=Scripted([np.argmax([0, 7])]))
    assert done["p:0"].instance == 1
    assert type(done["p:0"].instance) is int


def test_views_tell_what_an_instance_holds() -> None:
    """Looked at in the middle of a leap, the view is that of this moment."""

    @dataclass
    class Looking:
        seen: list[tuple[int, ...]] = field(default_factory=list)

        def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
            view = instances[0]
            self.seen.append((view.index, view.running, view.waiting, view.num_blocks, view.free_blocks))
            return 0

    programs = [
        program(turn(0, 100, prompt=32, name="a"), name="a"),
        program(turn(0, 1, name="b"), name="b", arrival_s=40),
        program(turn(0, 1, name="c"), name="c", arrival_s=40),
        program(turn(0, 1, name="d"), name="d", arrival_s=200),
    ]
    for leap in (True, False):
        router = Looking()
        engine = EngineConfig(async_scheduling=False, max_num_seqs=1)
        serve(programs, [instance(engine=engine, num_gpu_blocks=11)], router=router, leap=leap)
        # At 40 s a has its prompt and 39 more tokens in 71 // 16 + 1 = 5 blocks of 10; b waits for it.
        assert router.seen == [(0, 0, 0, 10, 10), (0, 1, 0, 10, 5), (0, 1, 1, 10, 5), (0, 0, 0, 10, 10)]


# ---- laws -------------------------------------------------------------------------------------

SHARED = root(48)


@st.composite
def contents(draw: st.DrawFn, before: Path | None) -> tuple[Path, int]:
    """Content of a turn, new or forked from a shared prompt or from the turn before; prompt tokens."""
    output = draw(st.integers(1, 100))
    stem = draw(st.sampled_from([None, SHARED, before]))
    prompt = draw(st.integers(1, 80))
    if stem is None:
        return root(prompt + output), prompt
    at = draw(st.integers(1, stem[-1][1]))
    return fork(stem, at, at + prompt + output), at + prompt


@st.composite
def workloads(draw: st.DrawFn) -> list[Program]:
    programs = []
    for p in range(draw(st.integers(1, 6))):
        turns = []
        path: Path | None = None
        for i in range(draw(st.integers(1, 5))):
            path, prompt = draw(contents(path))
            dependencies = [after(i - 1, draw(st.integers(0, 2)))] if i and draw(st.booleans()) else []
            made = turn(i, path[-1][1] - prompt, *dependencies, name=f"{p}:{i}", prompt=prompt)
            turns.append(replace(made, path=path, priority=draw(st.integers(-1, 1))))
        programs.append(program(*turns, name=str(p), arrival_s=draw(st.integers(0, 3))))
    return programs


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Program], list[InstanceSpec]]:
    """Programs, and instances of every kind, often hardly larger than the largest turn."""
    programs = draw(workloads())
    blocks = max(-(-turn.total_tokens // 16) for p in programs for turn in p.turns) + 1
    return programs, [
        InstanceSpec(
            name=str(i),
            engine=EngineConfig(
                async_scheduling=draw(st.booleans()),
                max_num_batched_tokens=draw(st.sampled_from([16, 100, 8192])),
                max_num_seqs=draw(st.sampled_from([1, 2, 64])),
                enable_prefix_caching=draw(st.booleans()),
            ),
            step_time=PerToken(
                prompt_ps=1 + draw(st.integers(0, 10**9)), row_ps=1 + draw(st.integers(0, 10**11))
            ),
            num_gpu_blocks=blocks + draw(st.integers(0, 6) | st.just(1000)),
            frontend_in_ps=draw(st.sampled_from([0, S // 7])),
            frontend_out_ps=draw(st.sampled_from([0, S // 11])),
        )
        for i in range(draw(st.integers(1, 3)))
    ]


@given(
    scenes(),
    st.sampled_from(ROUTERS),
    st.sampled_from([Fcfs, Priority]),
    st.booleans(),
    st.none() | st.integers(1, 3),
)
def test_every_run_obeys_the_laws(
    scene: tuple[list[Program], list[InstanceSpec]],
    router: Callable[[], Router],
    scheduler: Callable[[], Scheduler],
    leap: bool,
    max_concurrency: int | None,
) -> None:
    programs, specs = scene
    done = serve(
        programs,
        specs,
        router=router(),
        scheduler=scheduler(),
        leap=leap,
        max_concurrency=max_concurrency,
        wants_steps=True,
    )
    asked = {t.id: t for p in programs for t in p.turns}
    assert sorted(r.turn_id for r in done.log.turns) == sorted(asked)
    for r in done.log.turns:
        spec = specs[r.instance]
        assert r.queue_ps + r.prefill_ps + r.decode_ps + r.transfer_ps == r.finish_ps - r.ready_ps
        assert min(r.gap_ps, r.decode_ps, r.transfer_ps) >= 0
        assert r.queue_ps >= spec.frontend_in_ps
        assert r.prefill_ps > spec.frontend_out_ps
        assert r.ready_ps + spec.frontend_in_ps <= r.scheduled_ps < r.first_token_ps <= r.finish_ps
        assert (r.first_token_ps == r.finish_ps) == (r.output_tokens == 1)
        assert (r.prompt_tokens, r.output_tokens) == (
            asked[r.turn_id].prompt_tokens,
            asked[r.turn_id].output_tokens,
        )
        assert r.computed_tokens + r.cached_tokens == r.prompt_tokens
        assert 0 <= r.cached_tokens < r.prompt_tokens
        assert r.cached_tokens % 16 == 0
        assert r.preemptions or not r.recomputed_tokens
        if not spec.engine.enable_prefix_caching:
            assert r.cached_tokens == 0
    assert done.counts.preemptions == sum(r.preemptions for r in done.log.turns)
    # Every prompt token that was not cached, and every token but a reply's last one, is in some step.
    computed = sum(s.prefill_tokens + s.decode_rows for s in done.log.steps)
    needed = sum(r.computed_tokens + r.recomputed_tokens + r.output_tokens - 1 for r in done.log.turns)
    assert computed == needed
    assert done.counts.steps == len(done.log.steps)
    for number in range(len(specs)):
        steps = [(s.start_ps, s.end_ps) for s in done.log.steps if s.instance == number]
        assert all(end > start for start, end in steps)
        assert all(a[1] <= b[0] for a, b in pairwise(steps))


def test_equal_runs_give_equal_records_in_equal_order() -> None:
    programs = [chain(f"p{i}", [3 + i % 5] * 3, gap_s=i % 3, arrival_s=i // 4) for i in range(30)]
    specs = [instance(engine=SYNC, step_time=PerToken()) for _ in range(3)]
    runs = [serve(programs, specs, router=LeastLoaded()).log.turns for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_turn_that_fits_nowhere_is_reported() -> None:
    with pytest.raises(InputError, match="1 turns could not be served"):
        serve([program(turn(0, 1, prompt=1000))], [instance(num_gpu_blocks=10)])


def test_progress_is_told_in_ascending_numbers() -> None:
    told: list[int] = []
    programs = tuple(chain(f"p{i}", [1] * 4) for i in range(100))
    fleet = Fleet(
        Workload(programs), [instance()], router=RoundRobin(), tools=ToolsConfig(), seed=0, listener=Log()
    )
    fleet.run(told.append)
    assert told == sorted(told)
    assert told[-1] == 400
    assert len(told) > 3


def test_a_session_that_goes_from_instance_to_instance_keeps_its_past() -> None:
    seen: list[tuple[int, int, tuple[float, ...]]] = []

    class Spy:
        def place(self, chain: ChainView, server: ServerView) -> Placement:
            seen.append((chain.instance, chain.turns_done, chain.past_gaps_s))
            return CACHE

    turns = [turn(i, 1, *([after(i - 1, 10 * i)] if i else []), session="s") for i in range(4)]
    serve([program(*turns)], [instance()] * 2, router=RoundRobin(), residency=Spy())
    assert seen == [(0, 1, ()), (1, 2, (10.0,)), (0, 3, (10.0, 20.0))]
