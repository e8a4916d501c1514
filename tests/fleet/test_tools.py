"""The Tool Simulator: durations recorded or drawn, and calls that queue for workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.fleet.config import Distribution, ToolsConfig
from agentservesim.fleet.tools import ToolSimulator, draw_s
from agentservesim.kernel import Kernel
from agentservesim.model import ToolCall, Turn, to_s
from tests.fleet.parts import S, after, call, chain, program, serve, turn


def simulator(seed: int = 0, **settings: object) -> ToolSimulator:
    return ToolSimulator(ToolsConfig.model_validate(settings), Kernel(), seed)


def turns_calling(name: str, count: int) -> list[Turn]:
    """Turns with one call of a tool whose duration the trace does not know."""
    return [turn(0, name=f"t{i}", tools=[call(name, None)]) for i in range(count)]


# ---- durations --------------------------------------------------------------------------------


def test_recorded_durations_are_kept_and_missing_ones_drawn() -> None:
    tools = simulator(default={"kind": "fixed", "median_s": 9})
    both = turn(0, tools=[call("Bash", 4), call("Bash", None)])
    assert [tools.duration_ps(both, 0), tools.duration_ps(both, 1)] == [4 * S, 9 * S]


def test_drawn_durations_replace_recorded_ones() -> None:
    tools = simulator(
        durations="drawn",
        default={"kind": "fixed", "median_s": 9},
        by_tool={"Bash": {"kind": "fixed", "median_s": 2}},
    )
    both = turn(0, tools=[call("Bash", 4), call("Read", 4, offset_s=1)])
    assert [tools.duration_ps(both, 0), tools.duration_ps(both, 1)] == [2 * S, 9 * S]
    assert tools.span_ps(both, 4 * S) == 10 * S
    assert tools.span_ps(turn(0), 4 * S) == 4 * S  # no calls to draw: the recorded span is all there is


def test_a_span_is_that_of_calls_that_overlap() -> None:
    tools = simulator()
    assert tools.span_ps(turn(0, tools=[call("a", 5), call("b", 2, offset_s=4), call("c", 1)]), None) == 6 * S
    assert tools.span_ps(turn(0, tools=[call("a", 5)]), 7 * S) == 7 * S
    assert tools.span_ps(turn(0), None) == 0


def moments(distribution: Distribution, count: int = 40_000) -> tuple[float, float, float]:
    """Median, mean and standard deviation over equally likely quantiles: no noise, only truncation."""
    draws = [draw_s(distribution, (i + 0.5) / count) for i in range(count)]
    return median(draws), fmean(draws), pstdev(draws)


def test_moments_of_the_distributions() -> None:
    wide = {"median_s": 3.0, "max_s": 1e7}
    assert moments(Distribution(kind="fixed", **wide)) == (3, 3, 0)
    scale = 3 / math.log(2)
    exponential = moments(Distribution(kind="exponential", **wide))
    assert exponential == pytest.approx((3, scale, scale), rel=2e-3)
    mean = 3 * math.exp(0.8**2 / 2)
    lognormal = moments(Distribution(kind="lognormal", sigma=0.8, **wide))
    assert lognormal == pytest.approx((3, mean, mean * math.sqrt(math.exp(0.8**2) - 1)), rel=5e-3)


def test_draws_over_many_turns_have_the_distribution() -> None:
    """Kolmogorov-Smirnov against the exact distribution; 1.63 / sqrt(n) is the 1 % point."""
    tools = simulator(seed=3, default={"kind": "lognormal", "median_s": 2, "sigma": 1.5, "max_s": 1e7})
    durations = sorted(to_s(tools.duration_ps(t, 0)) for t in turns_calling("Bash", 4000))
    exact = [NormalDist().cdf(math.log(x / 2) / 1.5) for x in durations]
    distance = max(max((i + 1) / 4000 - p, p - i / 4000) for i, p in enumerate(exact))
    assert distance < 1.63 / math.sqrt(4000)


def test_long_draws_are_cut() -> None:
    tools = simulator(default={"kind": "exponential", "median_s": 10, "max_s": 12})
    durations = [tools.duration_ps(t, 0) for t in turns_calling("Bash", 200)]
    assert max(durations) == 12 * S
    assert min(durations) < 5 * S


def test_a_draw_depends_on_seed_turn_and_call_and_on_nothing_else() -> None:
    settings = {"default": {"kind": "exponential", "median_s": 10}}
    turns = turns_calling("Bash", 50)
    there = [simulator(1, **settings).duration_ps(t, 0) for t in turns]
    tools = simulator(1, **settings)
    back = [tools.duration_ps(t, 0) for t in reversed(turns)]
    assert there == back[::-1]
    assert len(set(there)) == 50
    assert there != [simulator(2, **settings).duration_ps(t, 0) for t in turns]
    twice = turn(0, name="t0", tools=[call("Bash", None), call("Bash", None)])
    assert tools.duration_ps(twice, 0) == there[0]
    assert tools.duration_ps(twice, 1) != there[0]


# ---- workers ----------------------------------------------------------------------------------


def limited(workers: int) -> ToolsConfig:
    return ToolsConfig(max_workers=workers)


def test_calls_queue_for_a_worker() -> None:
    """One worker, three calls of one turn: they run one after the other, behind the turn's last token."""
    first = turn(0, 2, tools=[call("a", 5), call("b", 3, offset_s=1), call("c", 1)])
    turns = (first, turn(1, 1, after(0, delay_s=10)))
    assert serve([program(*turns)], tools=limited(1)).times("1") == (19, 21, 22)
    # two workers: a 2-7, c 2-3, b 3-6
    assert serve([program(*turns)], tools=limited(2)).times("1") == (15, 17, 18)
    assert serve([program(*turns)], tools=limited(3)).times("1") == (15, 17, 18)


def test_programs_share_the_workers_in_order_of_asking() -> None:
    """a asks at 1, b at 2, c at 3; each call takes 10 s."""

    def wants(name: str, at_s: int) -> tuple[Turn, Turn]:
        return (
            turn(0, at_s, name=f"{name}:0", tools=[call("Bash", 10)]),
            turn(1, 1, after(0), name=f"{name}:1"),
        )

    programs = [program(*wants(name, at_s), name=name) for name, at_s in (("c", 3), ("a", 1), ("b", 2))]
    done = serve(programs, tools=limited(1))
    assert [done.times(f"{name}:1") for name in "abc"] == [(10, 11, 12), (19, 21, 22), (28, 31, 32)]


def test_where_only_the_span_is_known_it_is_one_call() -> None:
    programs = [
        program(
            turn(0, 1, name=f"{name}:0", tools=[call("Bash", None)]),
            turn(1, 1, after(0, tools_s=6), name=f"{name}:1"),
            name=name,
        )
        for name in "ab"
    ]
    done = serve(programs, tools=limited(1))
    assert [done.times(f"{name}:1")[1] for name in "ab"] == [7, 13]


def test_who_does_not_wait_for_the_tools_needs_no_worker() -> None:
    """A sub-agent that starts with the reply (tools_ps 0) goes on; the main turn waits."""
    done = serve(
        [
            program(turn(0, 1, name="long", tools=[call("Bash", 100)]), turn(1, 1, after(0)), name="other"),
            program(
                turn(0, 2, name="root", tools=[call("Bash", 7)]),
                turn(1, 1, after(0, tools_s=0), name="child", session="a"),
                turn(2, 1, after(0, tools_s=7), name="next"),
            ),
        ],
        tools=limited(1),
    )
    assert done.times("child") == (0, 2, 3)
    assert done.times("next") == (106, 108, 109)


def test_the_calls_of_a_last_turn_occupy_nobody() -> None:
    """What nobody waits for is not run: there is no turn that could tell how long it matters."""
    programs = [
        program(turn(0, 1, name="last", tools=[call("Bash", 50)]), name="p"),
        program(turn(0, 2, name="q:0", tools=[call("Bash", 5)]), turn(1, 1, after(0), name="q:1"), name="q"),
    ]
    assert serve(programs, tools=limited(1)).times("q:1") == (5, 7, 8)


def first_come_first_served(asks: Sequence[tuple[int, int]], workers: int) -> list[tuple[int, int]]:
    """(start, end) of calls (asking time, duration), given in the order of asking: the textbook queue."""
    free_at, runs = [0] * workers, []
    for asked, duration in asks:
        worker = free_at.index(min(free_at))
        start = max(asked, free_at[worker])
        free_at[worker] = start + duration
        runs.append((start, start + duration))
    return runs


@given(
    calls=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 12)), min_size=1, max_size=20),
    workers=st.integers(1, 4),
)
def test_a_pool_of_workers_is_a_queue(calls: list[tuple[int, int]], workers: int) -> None:
    """Each program asks for one call when its first turn ends; the k-th to ask is the k-th to start."""
    calls.sort(key=lambda entry: entry[0])
    programs = [
        program(
            turn(0, asked, name=f"{i}:0", tools=[call("t", duration)]),
            turn(1, 1, after(0), name=f"{i}:1"),
            name=str(i),
        )
        for i, (asked, duration) in enumerate(calls)
    ]
    done = serve(programs, tools=limited(workers))
    runs = first_come_first_served(calls, workers)
    assert [done.times(f"{i}:1")[1] for i in range(len(calls))] == [end for _, end in runs]
    for start, _ in runs:
        assert sum(begin <= start < end for begin, end in runs) <= workers


@st.composite
def spans_and_calls(draw: st.DrawFn) -> tuple[int | None, list[ToolCall]]:
    """Calls, each known or not, and a recorded span that need not agree with them."""
    durations = st.none() | st.integers(0, 9)
    calls = [call("t", draw(durations), draw(st.integers(0, 5))) for _ in range(draw(st.integers(0, 3)))]
    return draw(st.none() | st.integers(0, 12)), calls


@given(st.lists(spans_and_calls(), min_size=1, max_size=6), st.sampled_from(["recorded", "drawn"]))
def test_enough_workers_are_no_limit(turns: list[tuple[int | None, list[ToolCall]]], durations: str) -> None:
    """A limit that is never reached changes nothing, whatever the trace says about spans and calls."""
    programs = []
    for i, (span_s, calls) in enumerate(turns):
        first = turn(0, 1 + i, name=f"{i}:0", tools=calls)
        programs.append(program(first, turn(1, 1, after(0, 1, span_s), name=f"{i}:1"), name=str(i)))
    settings = {"durations": durations, "default": {"kind": "exponential", "median_s": 3}}
    free = serve(programs, tools=ToolsConfig.model_validate(settings))
    bound = serve(programs, tools=ToolsConfig.model_validate({**settings, "max_workers": 100}))
    assert free.log.by_turn() == bound.log.by_turn()


def test_a_tool_span_does_not_depend_on_the_load() -> None:
    """The same draws whether one program runs or twenty, and in whatever order."""
    tools = ToolsConfig(durations="drawn", default=Distribution(kind="lognormal", median_s=2))
    programs = [
        program(
            *(
                turn(i, 1, *([after(i - 1)] if i else []), name=f"{p}:{i}", tools=[call("Bash", 1)])
                for i in range(4)
            ),
            name=str(p),
        )
        for p in range(20)
    ]
    alone = serve(programs[7:8], tools=tools, seed=5)
    among = serve([*programs[::-1], chain("x", [9])], tools=tools, seed=5)
    assert [alone.times(f"7:{i}")[0] for i in range(4)] == [among.times(f"7:{i}")[0] for i in range(4)]
