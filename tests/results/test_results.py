"""Metrics against hand-computed values, the tables, and the summary's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest

from agentservesim.model import PS_PER_S, InputError, Program, Segment, StepRecord, Turn, TurnRecord
from agentservesim.results import METRICS, Recorder, Result, comparable, make_result
from agentservesim.results.metric import STATISTICS, expression
from agentservesim.results.summary import statistics
from agentservesim.results.tables import COLUMNS
from agentservesim.results.targets import NO_TARGETS, Targets

S = PS_PER_S
TURNS = tuple(Turn(f"{k}", k, "s", 1, 1, ((Segment(), 2),)) for k in range(2))
PROGRAMS = (Program("a", 0, TURNS, "coding"), Program("b", 1 * S, TURNS[:1]))
KNOWN = {"new_tokens": [100, 20, 40], "alone_ps": [2 * S, S // 2, 5 * S // 2]}
FIRST = TurnRecord(
    program_id="a",
    turn_id="a/0",
    index=0,
    session_id="a",
    instance=0,
    ready_ps=0,
    scheduled_ps=1 * S,
    first_token_ps=2 * S,
    finish_ps=4 * S,
    gap_ps=0,
    queue_ps=1 * S,
    requeue_ps=0,
    hold_ps=0,
    prefill_ps=1 * S,
    decode_ps=2 * S,
    transfer_ps=0,
    prompt_tokens=100,
    output_tokens=5,
    cached_tokens=0,
    computed_tokens=100,
    recomputed_tokens=0,
    preemptions=0,
)
SECOND = replace(
    FIRST,
    turn_id="a/1",
    index=1,
    session_id="a/sub",
    instance=1,
    ready_ps=7 * S,
    scheduled_ps=7 * S,
    first_token_ps=8 * S,
    finish_ps=8 * S,
    gap_ps=3 * S,
    queue_ps=0,
    prefill_ps=S // 2,
    decode_ps=0,
    transfer_ps=S // 2,
    prompt_tokens=120,
    output_tokens=1,
    cached_tokens=96,
    computed_tokens=24,
    recomputed_tokens=7,
    preemptions=2,
)
OTHER = replace(
    FIRST,
    program_id="b",
    turn_id="b/0",
    session_id="b",
    ready_ps=1 * S,
    scheduled_ps=1 * S,
    first_token_ps=2 * S,
    finish_ps=11 * S,
    queue_ps=0,
    decode_ps=9 * S,
    output_tokens=4,
)


FACTS = {
    "scenario": {"name": "t", "leap": True},
    "seed": 3,
    "wall_s": 0.1,
    "cpu_s": 0.1,
    "counts": {"steps": 17, "leaps": 4},
    "provenance": {},
}


def result(
    steps: bool = False, programs: Sequence[Program] = PROGRAMS, targets: Targets = NO_TARGETS
) -> Result:
    recorder = Recorder(wants_steps=steps)
    for record in (FIRST, OTHER, SECOND):
        recorder.turn_done(record)
    if steps:
        recorder.step_done(StepRecord(1, 0, S, 10, 2, 2, 0, 99))
        recorder.step_done(StepRecord(0, S, 3 * S, 0, 2, 2, 1, 98))
    return make_result(FACTS, recorder, programs, KNOWN, targets)


def test_a_program_that_was_turned_away_at_once_is_in_no_mean() -> None:
    programs = (replace(PROGRAMS[0], tenant="x"), replace(PROGRAMS[1], tenant="y"))
    recorder = Recorder()
    for record in (FIRST, SECOND):
        recorder.turn_done(record)
    recorder.rejected = {"b": 1 * S}
    found = make_result(FACTS, recorder, programs, KNOWN)
    summary, row = found.summary, found.programs.row(1, named=True)
    assert summary["counts"]["programs"] == summary["counts"]["rejected"] == 1
    # a: queue 1 s; 4 s of the first turn and 1 s of the second, 2.5 s alone
    assert summary["program"]["queue_s"] == pytest.approx(dict.fromkeys(STATISTICS, 1))
    assert summary["program"]["slowdown"] == pytest.approx(dict.fromkeys(STATISTICS, 2) | {"n": 1})
    assert summary["fairness"] == {"max_to_mean_slowdown": 1, "jain_programs": 1, "jain_tenants": 1}
    assert (row["status"], row["turns"], row["prompt_tokens"], row["arrival_s"]) == ("rejected", 0, 0, 1)
    assert {row[name] for name in ("finish_s", "latency_s", "queue_s", "alone_s", "slowdown")} == {None}


def test_metrics_by_hand() -> None:
    summary = result().summary
    assert summary["schema_version"] == 1
    assert summary["simulated_s"] == 11
    ran = {"programs": 2, "rejected": 0, "turns": 3}
    assert summary["counts"] == {**ran, "steps": 17, "leaps": 4, "preemptions": 2}
    assert summary["tokens"] == {
        "prompt": 320,
        "cached": 96,
        "computed": 224,
        "recomputed": 7,
        "new": 160,
        "hit_rate": 96 / 320,
        "prefill_amplification": (224 + 7) / 160,
        "output": 10,
    }
    # program a: 8 s from arrival 0; program b: from 1 s to 11 s
    assert summary["program"]["latency_s"] == pytest.approx(
        {"mean": 9, "p50": 9, "p90": 9.8, "p95": 9.9, "p99": 9.98, "max": 10, "n": 2}
    )
    # 2, 1 and 1 s; the 90th percentile of three lies at place 1.8 of 0..2
    assert summary["turn"]["ttft_s"] == pytest.approx(
        {"mean": 4 / 3, "p50": 1, "p90": 1.8, "p95": 1.9, "p99": 1.98, "max": 2, "n": 3}
    )
    # (4 - 2) / 4 and (11 - 2) / 3; the turn with one token has none
    assert summary["turn"]["tpot_s"]["n"] == 2
    assert summary["turn"]["tpot_s"]["mean"] == pytest.approx((0.5 + 3) / 2)
    assert summary["turn"]["e2el_s"]["mean"] == pytest.approx((4 + 1 + 10) / 3)
    assert summary["turn"]["queue_s"] == pytest.approx(
        {"mean": 1 / 3, "p50": 0, "p90": 0.8, "p95": 0.9, "p99": 0.98, "max": 1, "n": 3}
    )
    assert summary["throughput"] == pytest.approx(
        {"programs_per_s": 2 / 11, "turns_per_s": 3 / 11, "output_tokens_per_s": 10 / 11}
        | {"agent_steps_per_min": 0}
    )
    # tool 3, queue 1, prefill 1 + 0.5 + 1, decode 2 + 9, transfer 0.5: 18 s in all
    assert summary["program"]["time_share"] == pytest.approx(
        {"tool": 3 / 18, "queue": 1 / 18, "prefill": 2.5 / 18, "decode": 11 / 18, "transfer": 0.5 / 18}
    )
    assert math.fsum(summary["program"]["time_share"].values()) == pytest.approx(1, abs=1e-12)


def test_slowdown_and_fairness_by_hand() -> None:
    """Alone the turns take 2, 0.5 and 2.5 s; here 4, 1 and 10 s."""
    done = result()
    assert done.turns["slowdown"].to_list() == [2, 2, 4]
    assert done.programs["slowdown"].to_list() == [(4 + 1) / 2.5, 10 / 2.5]
    assert done.summary["program"]["slowdown"]["max"] == 4
    # speeds 1/2 and 1/4: (3/4)^2 / (2 * (1/4 + 1/16))
    assert done.summary["fairness"] == pytest.approx({"max_to_mean_slowdown": 4 / 3, "jain_programs": 0.9})
    assert done.tenants is None


def test_tenants_by_hand() -> None:
    """Tenant x has programs a and c, with 4 + 1 + 1 s instead of 2 + 0.5 + 0.5; y is slowed down by 4."""
    recorder = Recorder()
    third = replace(FIRST, program_id="c", turn_id="c/0", queue_ps=0, prefill_ps=S, decode_ps=0)
    for record in (FIRST, SECOND, OTHER, third):
        recorder.turn_done(record)
    a, b = PROGRAMS
    programs = (replace(a, tenant="x"), replace(b, tenant="y"), replace(b, id="c", tenant="x"))
    known = {name: [*column, S // 2] for name, column in KNOWN.items()}
    done = make_result(FACTS, recorder, programs, known)
    assert done.tenants is not None
    assert done.tenants.select("tenant", "programs", "turns", "served_s", "alone_s").rows() == [
        ("x", 2, 3, 6.0, 3.0),
        ("y", 1, 1, 10.0, 2.5),
    ]
    # speeds 1/2 and 1/4 again
    assert done.summary["fairness"]["jain_tenants"] == pytest.approx(0.9)


def test_queue_bubbles_and_agent_steps_by_hand() -> None:
    """Program a: 1 s at first, and 3 s of 4 behind a preemption; a second turn of the same session."""
    recorder = Recorder()
    again = replace(SECOND, session_id="a", queue_ps=4 * S, requeue_ps=3 * S)
    for record in (FIRST, again, OTHER):
        recorder.turn_done(record)
    summary = make_result(FACTS, recorder, PROGRAMS, KNOWN).summary
    assert summary["program"]["queue_s"]["max"] == 5
    assert summary["program"]["requeue_s"]["max"] == 3
    # one pair of a turn and a gap in 11 s
    assert summary["throughput"]["agent_steps_per_min"] == pytest.approx(60 / 11)


def test_goodput_by_hand() -> None:
    """TTFT 2, 1, 1 s; TPOT 0.5, none, 3 s; latency of the programs 8 and 10 s, in 11 s."""
    limits = result(targets=Targets.of([], ["ttft:1.5s"]))
    assert limits.turns["good"].to_list() == [False, True, True]
    assert limits.programs.select("good_turns", "good").rows() == [(1, False), (1, True)]
    assert limits.summary["goodput"] == pytest.approx(
        {"turns_per_s": 2 / 11, "turn_share": 2 / 3, "programs_per_s": 1 / 11, "program_share": 1 / 2}
    )
    strict = result(targets=Targets.of([], ["ttft:2s", "tpot:500ms", "program.latency:8s"]))
    assert strict.turns["good"].to_list() == [True, True, False]
    assert strict.programs["good"].to_list() == [True, False]
    late = result(targets=Targets.of([], ["program.latency:7999ms"]))
    assert late.turns["good"].all()
    assert late.programs["good"].to_list() == [False, False]


def test_every_metric_is_in_the_summary_and_nothing_else() -> None:
    def leaves(table: dict[str, object], prefix: str = "") -> set[str]:
        names = set()
        for key, value in table.items():
            if isinstance(value, dict) and set(value) != set(STATISTICS):
                names |= leaves(value, f"{prefix}{key}.")
            else:
                names.add(prefix + key)
        return names

    summary = {k: v for k, v in result().summary.items() if k not in ("scenario", "provenance")}
    everywhere = {metric.name for metric in METRICS if "<" not in metric.name}
    sometimes = ("kv.", "cost.", "goodput.", "fairness.jain_tenants")
    assert leaves(summary) == {name for name in everywhere if not name.startswith(sometimes)} | {
        "schema_version",
        "seed",
    }
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_tables_are_in_order_and_in_seconds() -> None:
    done = result(steps=True)
    assert done.turns["turn_id"].to_list() == ["a/0", "a/1", "b/0"]
    assert done.turns["tpot_s"].to_list() == [0.5, None, 3.0]
    assert done.turns["ready_s"].to_list() == [0.0, 7.0, 1.0]
    assert done.programs["program_id"].to_list() == ["a", "b"]
    assert done.programs["kind"].to_list() == ["coding", ""]
    assert done.programs.row(0, named=True) | {"latency_s": 8.0, "sessions": 2, "instances": 2} == (
        done.programs.row(0, named=True)
    )
    assert done.steps is not None
    assert done.steps["instance"].to_list() == [0, 1]
    assert done.steps["end_s"].to_list() == [3.0, 1.0]
    documented = set(COLUMNS) | {metric.name.split(".")[-1] for metric in METRICS}
    for table in (done.turns, done.programs, done.steps):
        assert set(table.columns) <= documented
        assert not [column for column in table.columns if column.endswith("_ps")]


def test_long_times_lose_nothing() -> None:
    """A turn of 66 ms after 100 simulated days keeps its exact TTFT, and gaps may sum to years."""
    days = 100 * 24 * 3600 * S
    recorder = Recorder()
    programs = tuple(Program(str(n), 0, TURNS[:1]) for n in range(20))
    for program in programs:
        late = replace(FIRST, program_id=program.id, ready_ps=days, gap_ps=days, finish_ps=days + S)
        recorder.turn_done(replace(late, first_token_ps=days + 66 * S // 1000))
    facts = dict.fromkeys(("scenario", "seed", "wall_s", "cpu_s", "provenance"))
    done = make_result(
        {**facts, "counts": {}}, recorder, programs, {"alone_ps": [S] * 20, "new_tokens": [1] * 20}
    )
    assert done.turns["ttft_s"].unique().to_list() == [0.066]
    assert done.summary["program"]["time_share"]["tool"] == pytest.approx(1, abs=1e-5)
    assert done.programs["tool_s"].sum() == 20 * days / S


def test_a_clock_beyond_64_bits_is_refused_and_what_was_before_is_kept() -> None:
    late = 200 * 24 * 3600 * S
    recorder = Recorder(wants_steps=True)
    recorder.turn_done(FIRST)
    recorder.step_done(StepRecord(0, 0, S, 10, 2, 2, 0, 99))
    with pytest.raises(InputError, match="turn 'a/1': the simulated clock has passed 106 days"):
        recorder.turn_done(replace(SECOND, finish_ps=late))
    with pytest.raises(InputError, match="instance 0: the simulated clock has passed 106 days"):
        recorder.step_done(StepRecord(0, late, late + S, 10, 2, 2, 0, 99))
    assert recorder.turn_numbers()["finish_ps"].tolist() == [4 * S]
    assert recorder.step_numbers()["end_ps"].tolist() == [S]


def test_comparable_leaves_out_only_how_it_was_computed() -> None:
    summary = result().summary
    again = summary | {
        "wall_s": 9.0,
        "cpu_s": 9.0,
        "counts": summary["counts"] | {"leaps": 0},
        "scenario": summary["scenario"] | {"leap": False},
    }
    assert comparable(summary) == comparable(again)
    assert comparable(summary) != comparable(summary | {"simulated_s": 12.0})
    assert comparable(summary) != comparable(summary | {"counts": summary["counts"] | {"steps": 18}})


def test_statistics_without_values() -> None:
    assert statistics(pl.Series([None, None], dtype=pl.Float64)) == dict.fromkeys(STATISTICS) | {"n": 0}


def test_a_metric_without_formula_has_no_expression() -> None:
    (clock,) = (metric for metric in METRICS if metric.name == "wall_s")
    with pytest.raises(ValueError, match="wall_s has no formula"):
        expression(clock)


def test_repr_says_what_happened() -> None:
    assert repr(result()) == (
        "<Result 't': 2 programs, 3 turns; mean program latency 9 s, TTFT 1333 ms, TPOT 1750 ms>"
    )
