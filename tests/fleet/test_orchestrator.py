"""Turn order, triggers, forks and joins, gaps and the closed loop, worked out by hand.

Every step takes a second, so a turn of n output tokens takes n seconds.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.model import Dependency, Program, TurnRecord
from tests.fleet.parts import S, after, call, chain, instance, program, serve, turn, with_dispatch_of


def test_a_turn_follows_its_predecessor_its_tools_and_the_delay() -> None:
    done = serve(
        [
            program(
                turn(0, 3, tools=[call("Bash", 5), call("Read", 2, offset_s=4)]),
                turn(1, 2, after(0, delay_s=10)),
                turn(2, 4, after(1)),
                arrival_s=100,
            )
        ]
    )
    # 100 + 3 = 103; calls end at 103 + max(5, 4 + 2) = 109; 109 + 10 = 119; 119 + 2 = 121.
    assert done.times("0") == (0, 100, 103)
    assert done.times("1") == (16, 119, 121)
    assert done.times("2") == (0, 121, 125)


def test_a_recorded_span_stands_for_the_calls() -> None:
    done = serve([program(turn(0, 1, tools=[call("Bash", 5)]), turn(1, 1, after(0, tools_s=7, delay_s=1)))])
    assert done.times("1") == (8, 9, 10)


def test_the_last_turn_opens_no_gap() -> None:
    """Nobody waits for the last turn's tools: the clock stops with its last token."""
    done = serve([program(turn(0, 2, tools=[call("Bash", 1000)]))])
    assert done.times("0") == (0, 0, 2)
    assert done.now_ps == 2 * S


def test_a_dispatch_trigger_fires_when_the_turn_is_sent() -> None:
    done = serve(
        [
            program(
                turn(0, 50, tools=[call("Bash", 9)]),
                turn(1, 1, with_dispatch_of(0), session="a"),
                turn(2, 1, with_dispatch_of(0, delay_s=6), session="b"),
                arrival_s=3,
            )
        ]
    )
    assert done.times("0") == (0, 3, 53)
    assert done.times("1") == (0, 3, 4)
    assert done.times("2") == (6, 9, 10)


def test_start_to_start_gaps_hold_as_long_as_the_server_keeps_up() -> None:
    """A trace that knows only start-to-start distances: dispatch + gap, but not before the completion.

    The gap of the record is the time without the engine, from the completion on.
    """

    def two(output: int) -> Program:
        return program(turn(0, output), turn(1, 1, with_dispatch_of(0, delay_s=10), after(0, tools_s=0)))

    assert serve([two(4)]).times("1") == (6, 10, 11)
    assert serve([two(10)]).times("1") == (0, 10, 11)
    assert serve([two(25)]).times("1") == (0, 25, 26)


def test_sub_agents_fork_at_a_completion_and_join_at_the_last_end() -> None:
    done = serve(
        [
            program(
                turn(0, 2, name="root"),
                turn(1, 5, after(0), name="a0", session="a"),
                turn(2, 3, after(0, delay_s=1), name="b0", session="b"),
                turn(3, 4, after(2, delay_s=3), name="b1", session="b"),
                turn(4, 1, after(0), after(1), after(3), name="join"),
            )
        ]
    )
    assert done.times("root") == (0, 0, 2)
    assert done.times("a0") == (0, 2, 7)
    assert done.times("b0") == (1, 3, 6)
    assert done.times("b1") == (3, 9, 13)
    # max(2, 7, 13), and the program was in the engine up to that moment
    assert done.times("join") == (0, 13, 14)


def test_a_join_waits_for_the_slowest_way_and_its_gap_begins_at_the_last_end() -> None:
    """a ends at 2 and its tools at 22; b ends at 12: both are done at 22, nobody is served from 12 on."""
    done = serve(
        [
            program(
                turn(0, 2, name="a", tools=[call("Bash", 20)]),
                turn(1, 12, name="b", session="b"),
                turn(2, 1, after(0), after(1), name="join"),
            )
        ]
    )
    assert done.times("join") == (10, 22, 23)


def test_several_roots_each_with_its_own_start() -> None:
    done = serve(
        [
            program(
                turn(0, 1),
                turn(1, 1, session="b", not_before_s=4),
                turn(2, 1, after(0, delay_s=1), not_before_s=7),
                turn(3, 1, after(2), session="b", not_before_s=3),
                arrival_s=10,
            )
        ]
    )
    assert done.times("0") == (0, 10, 11)
    assert done.times("1") == (4, 14, 15)
    # its delay is over at 12, but it starts 7 s behind the arrival: 6 s behind the turn before it
    assert done.times("2") == (6, 17, 18)
    assert done.times("3") == (0, 18, 19)


def test_a_diamond_of_programs_does_not_mix() -> None:
    """The same ids of turns in two programs are different turns."""
    done = serve([chain("p", [2, 2], gap_s=3, arrival_s=0), chain("q", [2, 2], gap_s=3, arrival_s=100)])
    assert [done.times(name)[1] for name in ("p:0", "p:1", "q:0", "q:1")] == [0, 5, 100, 105]


def test_turns_of_one_moment_are_sent_in_the_order_of_the_programs() -> None:
    done = serve([chain(name, [1]) for name in "abcd"], [instance() for _ in range(4)])
    assert [done[f"{name}:0"].instance for name in "abcd"] == [0, 1, 2, 3]


# ---- closed loop ------------------------------------------------------------------------------


def test_a_closed_loop_starts_a_program_exactly_when_one_ends() -> None:
    outputs = {"a": 5, "b": 2, "c": 4, "d": 1, "e": 3}
    done = serve([chain(name, [n]) for name, n in outputs.items()], max_concurrency=2)
    # a: 0-5, b: 0-2, c behind b: 2-6, d behind a: 5-6, e behind c (c ends first in the running order): 6-9
    assert {name: done.times(f"{name}:0") for name in outputs} == {
        "a": (0, 0, 5),
        "b": (0, 0, 2),
        "c": (0, 2, 6),
        "d": (0, 5, 6),
        "e": (0, 6, 9),
    }


def test_a_program_in_a_gap_keeps_its_place() -> None:
    done = serve([chain("a", [1, 1], gap_s=50), chain("b", [1])], max_concurrency=1)
    assert done.times("a:1") == (50, 51, 52)
    assert done.times("b:0") == (0, 52, 53)


def test_a_place_is_free_when_the_last_token_is_with_the_client() -> None:
    slow = instance(frontend_in_ps=2 * S, frontend_out_ps=3 * S)
    done = serve([chain("a", [1]), chain("b", [1])], [slow], max_concurrency=1)
    assert done.times("a:0") == (0, 0, 6)
    assert done.times("b:0") == (0, 6, 12)


def test_a_bound_on_an_open_loop_holds_back_only_what_is_too_much() -> None:
    programs = [chain("a", [4], arrival_s=1), chain("b", [4], arrival_s=3), chain("c", [4], arrival_s=20)]
    done = serve(programs, max_concurrency=1)
    assert [done.times(f"{name}:0")[1] for name in "abc"] == [1, 5, 20]


def spans(done: list[TurnRecord]) -> dict[str, tuple[int, int]]:
    """When each program began and when it ended."""
    first: dict[str, tuple[int, int]] = {}
    for record in done:
        begin, end = record.ready_ps - record.gap_ps, record.finish_ps
        before = first.get(record.program_id, (begin, end))
        first[record.program_id] = min(begin, before[0]), max(end, before[1])
    return first


@given(
    programs=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=12),
    gap_s=st.integers(0, 4),
    places=st.integers(1, 5),
)
def test_never_more_than_n_programs_and_never_fewer_while_some_wait(
    programs: list[list[int]], gap_s: int, places: int
) -> None:
    done = serve(
        [chain(f"p{i}", outputs, gap_s) for i, outputs in enumerate(programs)], max_concurrency=places
    )
    began = spans(done.log.turns)
    in_order = [began[f"p{i}"][0] for i in range(len(programs))]
    assert in_order == sorted(in_order)
    ends = sorted(end for _, end in began.values())
    for place, start in enumerate(in_order):
        # The k-th program to start beyond the first n starts at the k-th end.
        assert start == (0 if place < places else ends[place - places])
    for start, _ in began.values():
        assert sum(begin <= start < end for begin, end in began.values()) <= places


# ---- any dependencies -------------------------------------------------------------------------


@st.composite
def programs_of_any_shape(draw: st.DrawFn) -> Program:
    turns = []
    for index in range(draw(st.integers(1, 8))):
        waits = draw(st.lists(st.integers(0, index - 1), unique=True, max_size=3)) if index else []
        dependencies = [
            Dependency(
                before,
                draw(st.sampled_from(["completion", "dispatch"])),
                draw(st.integers(0, 5)) * S,
                draw(st.none() | st.integers(0, 5).map(lambda s: s * S)),
            )
            for before in waits
        ]
        tools = [
            call("t", draw(st.integers(0, 4)), draw(st.integers(0, 2)))
            for _ in range(draw(st.integers(0, 2)))
        ]
        turns.append(
            turn(
                index,
                draw(st.integers(1, 4)),
                *dependencies,
                session=draw(st.sampled_from("abc")),
                not_before_s=draw(st.integers(0, 6)),
                tools=tools,
            )
        )
    return program(*turns, arrival_s=draw(st.integers(0, 9)))


@given(programs_of_any_shape())
def test_a_turn_is_ready_when_the_last_thing_it_waits_for_is_done(given: Program) -> None:
    done = serve([given])
    for waiting in given.turns:
        record = done[waiting.id]
        triggers, due = [given.arrival_ps], [given.arrival_ps + waiting.not_before_ps]
        for dependency in waiting.dependencies:
            before, turn_before = done[given.turns[dependency.turn].id], given.turns[dependency.turn]
            if dependency.trigger == "dispatch":
                trigger, tools_ps = before.ready_ps, dependency.tools_ps or 0
            else:
                trigger = before.finish_ps
                run = max((c.offset_ps + (c.duration_ps or 0) for c in turn_before.tools), default=0)
                tools_ps = run if dependency.tools_ps is None else dependency.tools_ps
            triggers.append(trigger)
            due.append(trigger + tools_ps + dependency.delay_ps)
        assert record.ready_ps == max(due)
        assert record.gap_ps == max(due) - max(triggers)
        assert record.finish_ps == record.ready_ps + waiting.output_tokens * S


@pytest.mark.parametrize("max_concurrency", [None, 1, 3])
def test_every_turn_is_served_once(max_concurrency: int | None) -> None:
    programs = [chain(f"p{i}", [1 + i % 3] * (1 + i % 4), gap_s=i % 5, arrival_s=i) for i in range(40)]
    done = serve(programs, [instance() for _ in range(3)], max_concurrency=max_concurrency)
    served = [(r.program_id, r.turn_id, r.session_id, r.index, r.output_tokens) for r in done.log.turns]
    expected = [(p.id, t.id, t.session_id, t.index, t.output_tokens) for p in programs for t in p.turns]
    assert sorted(served) == sorted(expected)
