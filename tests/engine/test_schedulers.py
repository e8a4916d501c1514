"""Scheduling policies in a fleet: leap equals step, what must be the same, and what they are shown."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentservesim.engine.config import EngineConfig
from agentservesim.engine.scheduler import Scheduler
from agentservesim.engine.seen import Seen
from agentservesim.engine.step import Step
from agentservesim.kv.config import MemoryConfig
from agentservesim.model import Path, Program, Segment
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import (
    Changes,
    ProgramArrived,
    ProgramEnded,
    ProgramView,
    RequestView,
    SchedulerEvent,
    TurnFinished,
)
from agentservesim.policies.scheduling import AutellixMlfq, Fcfs, Plas, ProgramFcfs
from agentservesim.testing.playing import Outcome, play
from agentservesim.testing.residency_cases import Case, draw_case
from tests.engine.rationed import Rationed
from tests.fleet.parts import SYNC, PerToken, S, after, chain, instance, program, serve, turn

NAMES = sorted(list_policies("scheduler"))
RESIDENCIES = ("lru", "pin-always", "ttl,ttl_s=0.2", "continuum")


def made(name: str) -> Any:
    """A policy; one that looks at the clock does so every 50 ms."""
    timed = load_policy("scheduler", name).changes == "time"
    return load_policy("scheduler", f"{name},tick_s=0.05" if timed else name)


def run(case: Case, name: str, leap: bool = True) -> Outcome:
    residency = load_policy("residency", RESIDENCIES[case.seed % len(RESIDENCIES)])
    return play(case, residency, scheduler=made(name), leap=leap)


# ---- leap equals step ---------------------------------------------------------------------------


def compare(seed: int, name: str, tiers: bool) -> None:
    case = draw_case(seed, cramped=seed % 7 == 0, size=9)
    if not tiers:
        case = replace(case, memory=MemoryConfig())
    assert run(case, name, leap=True) == run(case, name, leap=False)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 40), st.sampled_from(NAMES), st.booleans())
@example(1052, "astraea", False)  # who gives way in the step behind a leap was asked for his key a step late
@example(1008976, "dfs-weight", False)  # a leap did not tell the queue that its head finds no room
def test_leaping_equals_stepping(seed: int, name: str, tiers: bool) -> None:
    compare(seed, name, tiers)


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None)
@given(st.integers(0, 1 << 40), st.sampled_from(NAMES), st.booleans())
def test_leaping_equals_stepping_many_times(seed: int, name: str, tiers: bool) -> None:
    compare(seed, name, tiers)


def crowd(turns: int = 3, programs: int = 6) -> list[Program]:
    """Programs that arrive in the order of their numbers, and more of them than run at once."""
    return [chain(f"p{i}", [20 + i] * turns, gap_s=2, arrival_s=i) for i in range(programs)]


SMALL = SYNC.model_copy(update={"max_num_seqs": 2})


@pytest.mark.parametrize("name", ["fcfs", "priority", "program-fcfs", "atlas", "plas", "fair-share", "lpm"])
def test_keys_that_do_not_change_do_not_end_a_leap(name: str) -> None:
    """Two requests decode for 1,000 steps while others wait: as few leaps as under fcfs."""

    def leaps(policy: str) -> int:
        programs = [chain(f"p{i}", [1000], arrival_s=i) for i in range(4)]
        specs = [instance(engine=SMALL, step_time=PerToken(), num_gpu_blocks=10_000)]
        return serve(programs, specs, scheduler=load_policy("scheduler", policy)).counts.leaps

    assert leaps(name) == leaps("fcfs") <= 12


@pytest.mark.parametrize("name", ["fcfs", "program-fcfs", "plas", "saga"])
def test_who_joins_behind_a_request_that_finds_no_room_does_not_end_a_leap(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests decode for 1,000 steps of 2 s; one waits from the third second on, and then 40 more."""
    decided = []
    schedule = Scheduler.schedule

    def counted(scheduler: Scheduler, now: int, one_by_one: bool) -> Step | None:
        if now < 1000 * S:
            decided.append(now)
        return schedule(scheduler, now, one_by_one)

    monkeypatch.setattr(Scheduler, "schedule", counted)
    programs = [chain(f"p{i:02}", [1000 if i < 2 else 1], arrival_s=i) for i in range(43)]
    specs = [instance(engine=SMALL, step_time=PerToken(row_ps=S), num_gpu_blocks=10_000)]
    serve(programs, specs, scheduler=load_policy("scheduler", name))
    assert len(decided) < 10


def test_a_policy_hears_of_each_program_once_before_its_turns_and_once_after() -> None:
    class Diary(Fcfs):
        def __init__(self) -> None:
            self.heard: list[tuple[str, str]] = []

        def observe(self, event: SchedulerEvent) -> None:
            name = (
                event.program_id
                if isinstance(event, ProgramEnded)
                else event[0].program_id
                if isinstance(event, ProgramArrived)
                else event[0].program.program_id
            )
            self.heard.append((type(event).__name__, name))

    diary = Diary()
    serve(crowd(turns=2, programs=2), [instance()], scheduler=diary)
    for name in ("p0", "p1"):
        mine = [event for event, whose in diary.heard if whose == name]
        assert (mine[0], mine.count("ProgramArrived")) == ("ProgramArrived", 1)
        assert (mine[-1], mine.count("ProgramEnded")) == ("ProgramEnded", 1)


@pytest.mark.parametrize("preempts", [False, True])
def test_a_call_of_a_worse_queue_gives_way_to_one_that_finds_no_room(preempts: bool) -> None:
    # By its second turn `long` has had more than 100 tokens, and is in the second queue.
    programs = [chain("long", [200, 200]), chain("short", [5], arrival_s=300)]
    alone = SYNC.model_copy(update={"max_num_seqs": 1})
    policy = AutellixMlfq(boundaries="100", quanta="64/64", preempts=preempts)
    records = serve(programs, [instance(engine=alone)], scheduler=policy).log.turns
    last = ["short:0", "long:1"] if preempts else ["long:1", "short:0"]
    assert [record.turn_id for record in records] == ["long:0", *last]
    assert [record.preemptions for record in records] == [0, 0, int(preempts)]


def test_a_waiting_turn_is_asked_for_its_ration_only_where_there_is_room() -> None:
    """Each turn computes its 16 tokens, a block, in four steps; there is no room for two."""
    asked: list[tuple[str, float]] = []

    class Asking(Rationed):
        def budget(self, request: RequestView, now_s: float) -> int:
            asked.append((request.program.program_id, now_s))
            return super().budget(request, now_s)

    serve([chain("a", [1]), chain("b", [1])], [instance(num_gpu_blocks=2)], scheduler=Asking(4))
    assert asked == [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("b", 6), ("b", 7)]


def test_a_request_and_its_view_do_not_keep_each_other_for_the_rest_of_the_run() -> None:
    """Nothing is collected while a run goes on: a long one would keep all of them."""
    gc.collect()
    gc.disable()
    try:
        served = serve(crowd(turns=5), [instance()], scheduler=Plas())
        left = sum(isinstance(thing, Seen) for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left < len(served.log.turns) / 2


# ---- what must be the same ----------------------------------------------------------------------


def alone(case: Case) -> Case:
    """Each turn of a case as a program of its own, without tools and tiers."""
    programs = [
        Program(f"{p.id}/{t.index}", p.arrival_ps, (replace(t, index=0, dependencies=(), tools=()),))
        for p in case.programs
        for t in p.turns
    ]
    return replace(case, programs=tuple(programs), memory=MemoryConfig(), scheduler="fcfs")


@pytest.mark.parametrize("name", ["plas", "program-fcfs", "atlas", "infercept", "continuum"])
def test_programs_of_a_single_turn_are_served_as_by_fcfs(name: str) -> None:
    waited, differs = 0, 0
    for seed in range(15):
        whole = draw_case(seed, size=7)
        for case in (alone(whole), whole):
            lru = load_policy("residency", "lru")
            ours = play(case, lru, scheduler=made(name)).turns
            same = ours == play(case, lru, scheduler=Fcfs()).turns
            assert same or case is whole, f"case {seed}"
            waited += sum(turn.queue_ps > 0 for turn in ours) if case is not whole else 0
            differs += not same
    assert waited > 50, "there is an order to keep"
    assert differs, "which is another one where programs have more turns"


@pytest.mark.parametrize("quanta", ["inf/inf/inf/inf", "inf/1/1/1"])
def test_quanta_without_end_make_mlfq_fcfs(quanta: str) -> None:
    for seed in range(15):
        case = draw_case(seed, size=7)
        mlfq = load_policy("scheduler", f"autellix-mlfq,tick_s=0.05,quanta={quanta}")
        lru = load_policy("residency", "lru")
        assert play(case, lru, scheduler=mlfq).turns == play(case, lru, scheduler=Fcfs()).turns, (
            f"case {seed}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_where_nobody_waits_all_policies_tie(name: str) -> None:
    """Quanta apart: those cut prompts where nobody waits, too."""
    spec = f"{name},quanta=inf/inf/inf/inf" if name in ("autellix-mlfq", "mars") else name
    specs = [instance(engine=SYNC, step_time=PerToken(), num_gpu_blocks=10_000)]
    programs = crowd()
    ours = serve(programs, specs, scheduler=load_policy("scheduler", spec)).log.turns
    assert ours == serve(programs, specs).log.turns


def test_the_same_policies_give_the_same_numbers() -> None:
    for name in NAMES:
        assert run(draw_case(5, size=9), name) == run(draw_case(5, size=9), name)


# ---- in a fleet ---------------------------------------------------------------------------------


def order(programs: Sequence[Program], policy: Any, engine: EngineConfig = SMALL) -> list[str]:
    """Turns in the order in which an instance for one request at a time first schedules them."""
    one = engine.model_copy(update={"max_num_seqs": 1})
    turns = serve(programs, [instance(engine=one)], scheduler=policy).log.turns
    return [f"{r.program_id}:{r.index}" for r in sorted(turns, key=lambda r: (r.scheduled_ps, r.turn_id))]


def test_the_service_of_a_program_counts_from_the_moment_a_turn_of_it_ends() -> None:
    """A step is a second: a runs until 10, and its second turn joins b and c, who had nothing yet."""
    a = program(turn(0, 10), turn(1, 1, after(0)), name="a")
    b = program(turn(0, 5), turn(1, 1, after(0)), name="b", arrival_s=1)
    c = program(turn(0, 3), name="c", arrival_s=2)
    assert order([a, b, c], Fcfs()) == ["a:0", "b:0", "c:0", "a:1", "b:1"]
    # b runs from 10 to 15 and has 5 s then; c has had nothing, a 10 s.
    assert order([a, b, c], Plas()) == ["a:0", "b:0", "c:0", "b:1", "a:1"]
    assert order([a, b, c], ProgramFcfs()) == ["a:0", "a:1", "b:0", "b:1", "c:0"]


# ---- what they are shown ------------------------------------------------------------------------


class Doubts:
    """Asks for what is cached whenever it may, and looks itself."""

    tick_s = 0.01

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self.asked = self.kept = 0

    def survey(self, waiting: Sequence[Any], now_s: float) -> None:
        for seen in waiting:
            request, scheduler = seen._request, seen._scheduler
            self.asked += 1
            self.kept += scheduler.pool.answers.get(request) is not None
            found = request.holding.blocks + scheduler._room.hit(request).blocks
            assert seen.cached_tokens == found * scheduler.config.block_size

    def key(self, request: RequestView, now_s: float) -> int:
        return request.turn_index


@pytest.mark.parametrize("changes", ["queue", "time"])
def test_an_answer_that_was_kept_is_what_a_lookup_would_find(changes: Changes) -> None:
    asked = kept = 0
    for seed in range(60):
        doubts = Doubts(changes)
        case = draw_case(seed, cramped=seed % 3 == 0, size=9)
        play(case, load_policy("residency", RESIDENCIES[seed % len(RESIDENCIES)]), scheduler=doubts)
        asked, kept = asked + doubts.asked, kept + doubts.kept
    assert asked > kept > asked / 4


REQUEST = {name for name in dir(RequestView) if not name.startswith("_")}
PROGRAM = {name for name in dir(ProgramView) if not name.startswith("_")}
FUTURE = ("left", "remaining", "total", "output", "end", "next", "turns", "dependencies", "delay", "reply")
PLAIN = (int, float, str, bool, type(None))


class Nosy:
    """Looks at everything that it is shown, as deep as it goes."""

    changes: ClassVar[Changes] = "program"

    def __init__(self) -> None:
        self.requests: set[str] = set()
        self.programs: set[str] = set()
        self.lengths: set[int] = set()

    def key(self, request: RequestView, now_s: float) -> int:
        self.look(request)
        return 0

    def observe(self, event: object) -> None:
        if not isinstance(event, TurnFinished):
            for part in event if isinstance(event, tuple) else ():
                self.look(part)

    def look(self, thing: object) -> None:
        """Public attributes, and theirs; a method would be no fact but an action."""
        if isinstance(thing, PLAIN):
            if isinstance(thing, int):
                self.lengths.add(thing)
        elif isinstance(thing, Segment):
            assert {"start", "parent"} == {name for name in dir(thing) if not name.startswith("_")}
        elif isinstance(thing, tuple | Mapping):
            for part in thing:
                self.look(part)
        else:
            names = [name for name in dir(thing) if not name.startswith("_")]
            facts = {name for name in names if not callable(getattr(thing, name))}
            (self.programs if "program_id" in facts else self.requests).update(facts)
            for name in facts:
                self.look(getattr(thing, name))


def test_no_view_has_a_field_for_the_future() -> None:
    """The reply's length of 7919 tokens, of the turn or of later ones, is nowhere before it is out."""
    nosy = Nosy()
    secret: Path = ((Segment(), 40 + 7919),)
    told = turn(0, 5, prompt=40)
    long = replace(told, id="long", output_tokens=7919, path=secret)
    later = replace(turn(1, 7919, after(0, 3)), id="later")
    programs = [program(told, later, name="a"), program(long, name="b")]
    serve(programs, [instance(engine=SMALL, step_time=PerToken(), num_gpu_blocks=10_000)], scheduler=nosy)
    assert nosy.requests == REQUEST
    assert nosy.programs == PROGRAM
    assert not {f for f in REQUEST | PROGRAM for word in FUTURE if word in f.split("_")} - {
        "turns_done",
        "running_turns",
    }
    assert not nosy.lengths & {7919, 7919 + 40, 7918, 7920}
