"""Trace statistics, by hand on small workloads."""

from __future__ import annotations

from typing import Any

import pytest

from agentservesim.workload import TraceStats, synthesise, trace_stats
from agentservesim.workload.content import unlimited_hits
from agentservesim.workload.stats import Spread


def turn(new: int, out: int, **extra: Any) -> dict[str, Any]:
    return {"new_tokens": new, "output_tokens": out, **extra}


@pytest.fixture(scope="module")
def stats(read: Any) -> TraceStats:
    rows = [
        {
            "arrival_s": 10,
            "shared_prefix": 50,
            "turns": [
                turn(50, 10, tools=[{"name": "bash", "duration_s": 2}, {"name": "bash", "duration_s": 3}]),
                turn(20, 10, tools=[{"name": "search"}]),
                turn(30, 10, session="kid"),
                turn(40, 10, trigger="tool"),
                turn(15, 10, delay_s=60),
                turn(5, 10, keep_tokens=50),
            ],
        },
        {"arrival_s": 30, "shared_prefix": 50, "turns": [turn(25, 10)]},
    ]
    return trace_stats(read(rows))


def test_counts(stats: TraceStats) -> None:
    assert (stats.programs, stats.turns, stats.sub_agents, stats.programs_with_sub_agents) == (2, 7, 1, 1)
    prompts = [100, 130, 30, 180, 205, 55, 75]
    assert stats.prompt_tokens == sum(prompts)
    assert stats.output_tokens == 70
    assert stats.prompt.max == 205
    assert stats.resets == 1


def test_turns_are_those_of_the_main_session(stats: TraceStats) -> None:
    assert (stats.turns_per_program.n, stats.turns_per_program.max) == (2, 5)
    assert stats.context_at_last_turn.mean == (55 + 75) / 2


def test_appends_leave_resets_out(stats: TraceStats) -> None:
    assert (stats.append.n, stats.append.mean, stats.append.max) == (3, 25.0, 40.0)


def test_gaps_by_kind(stats: TraceStats) -> None:
    """Parallel calls overlap; a gap with a call of unknown duration is not counted."""
    assert (stats.tool_gap_s.n, stats.tool_gap_s.p50) == (1, 3.0)
    assert (stats.user_gap_s.n, stats.user_gap_s.p50) == (1, 60.0)


def test_tools(stats: TraceStats) -> None:
    assert [(tool.name, tool.calls, tool.duration_s.n) for tool in stats.tools] == [
        ("bash", 2, 2),
        ("search", 1, 0),
    ]
    assert stats.tools[0].duration_s.mean == 2.5


def test_reuse_with_an_infinite_cache(stats: TraceStats) -> None:
    """Turn by turn 0, 110, 0 (sub-agent), 140, 190, 50, and 50 of the system prompt in the second program."""
    assert stats.reuse == pytest.approx((110 + 140 + 190 + 50 + 50) / stats.prompt_tokens)


def test_arrivals(stats: TraceStats) -> None:
    assert (stats.arrivals_span_s, stats.programs_per_s) == (20.0, 0.05)


def test_stated_reuse_needs_all_turns(read: Any, stats: TraceStats) -> None:
    row = {"request_id": "a", "session_id": "s", "input_length": 80, "output_length": 1, "prefix_tokens": 20}
    assert stats.stated_reuse is None
    assert trace_stats(read([row])).stated_reuse == 0.25


def test_unlimited_hits_never_exceed_the_prompt() -> None:
    turns = [turn for program in synthesise("claude-code", 5, 1).programs for turn in program.turns]
    hits = list(unlimited_hits(turns))
    assert all(0 <= hit < turn.prompt_tokens for hit, turn in zip(hits, turns, strict=True))
    assert [*unlimited_hits(turns * 2)][len(turns) :] == [turn.prompt_tokens for turn in turns]


def test_printed_form_has_every_label_once(stats: TraceStats) -> None:
    labels = [label for label, _ in stats.rows()]
    assert len(labels) == len(set(labels))
    text = str(stats).splitlines()
    assert len(text) == len(labels)
    assert any(line.split() == ["programs", "2"] for line in text)
    assert "synthetic" in str(trace_stats(synthesise("claude-code", 1, 0))).splitlines()[0]


def test_spread_of_nothing_is_zero() -> None:
    assert Spread.of([]) == Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
