"""Synthetic programs follow the distributions they are drawn from, and a seed says everything."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from agentservesim.model import InputError, Turn, Workload, to_s
from agentservesim.workload import list_profiles, shared_tokens, synthesise, trace_stats, write_trace
from agentservesim.workload.distributions import (
    Constant,
    Distribution,
    Gamma,
    LogNormal,
    Mixture,
    Sum,
    Uniform,
    Weibull,
)
from agentservesim.workload.profiles import PROFILES


@cache
def sample() -> Workload:
    return synthesise("claude-code", 600, 11)


def turns(workload: Workload, *triggers: str) -> list[Turn]:
    return [turn for program in workload.programs for turn in program.turns if turn.trigger in triggers]


def quantiles(values: Sequence[float], *shares: float) -> list[float]:
    return [float(value) for value in np.quantile(np.asarray(values, dtype=float), shares)]


def test_the_shipped_demo_is_what_its_header_says(tmp_path: Path) -> None:
    shipped = (files("agentservesim") / "data" / "demo.jsonl.gz").read_bytes()
    assert len(shipped) < 200_000
    text = gzip.decompress(shipped)
    assert b'"agentservesim trace synth claude-code --programs 60 --seed 1"' in text.splitlines()[0]
    write_trace(synthesise("claude-code", 60, 1), tmp_path / "demo.jsonl")
    assert (tmp_path / "demo.jsonl").read_bytes() == text


def test_more_programs_only_add() -> None:
    few, many = (trace_stats(synthesise("claude-code", n, 4)) for n in (5, 5))
    assert few == many
    ids = [turn.id for turn in turns(synthesise("claude-code", 3, 4), "user")]
    assert [turn.id for turn in turns(synthesise("claude-code", 9, 4), "user")][: len(ids)] == ids
    assert trace_stats(synthesise("claude-code", 5, 5)) != few


def test_synthetic_workloads_are_labelled() -> None:
    assert sample().synthetic
    assert {program.kind for program in sample().programs} == {"claude-code"}


def test_turns_per_program() -> None:
    """Weibull(1.00, 70.4): mean 70.4, median 48.8; 600 draws have a standard error of 2.9."""
    spread = trace_stats(sample()).turns_per_program
    assert spread.mean == pytest.approx(70.9, abs=9)
    assert spread.p50 == pytest.approx(49.3, abs=9)
    assert spread.p95 == pytest.approx(211, abs=45)


def test_turns_per_user_message() -> None:
    """Weibull(.861, 9.37), mean 10.1, rounded up; the end of a program cuts its last one short."""
    runs = []
    for program in sample().programs:
        triggers = [turn.trigger for turn in program.turns if turn.session_id == program.id]
        starts = [i for i, trigger in enumerate(triggers) if trigger == "user"]
        runs += [b - a for a, b in pairwise(starts)]
    assert np.mean(runs) == pytest.approx(10.0, abs=1.5)
    assert np.median(runs) == pytest.approx(6.5, abs=1.5)


def test_output_lengths() -> None:
    """LN2 .51(5.10, .42) + .49(6.04, .99): median about 220, mean about 427."""
    outputs = [turn.output_tokens for turn in turns(sample(), "user", "tool", "spawn")]
    low, median, high = quantiles(outputs, 0.1, 0.5, 0.95)
    assert (low, median) == (pytest.approx(105, rel=0.05), pytest.approx(220, rel=0.03))
    assert high == pytest.approx(1500, rel=0.06)
    assert np.mean(outputs) == pytest.approx(427, rel=0.04)


def appends(trigger: str) -> list[int]:
    found = []
    for program in sample().programs:
        for turn in program.turns:
            if turn.trigger == trigger and turn.dependencies and turn.prefix_tokens is None:
                before = program.turns[turn.dependencies[0].turn]
                found.append(turn.prompt_tokens - before.total_tokens)
    return found


def test_tool_appends() -> None:
    """LN2 .90(5.76, 1.44) + .10(3.99, 2.95), at most 80,000."""
    low, median, high = quantiles(appends("tool"), 0.1, 0.5, 0.9)
    assert low == pytest.approx(36, rel=0.15)
    assert median == pytest.approx(281, rel=0.05)
    assert high == pytest.approx(1990, rel=0.08)
    assert max(appends("tool")) <= 80_000


def test_user_appends() -> None:
    """LN2 .905(5.56, 1.69), and one token in 9.5 % of the cases."""
    found = appends("user")
    assert sum(append == 1 for append in found) / len(found) == pytest.approx(0.098, abs=0.02)
    assert np.median([append for append in found if append > 1]) == pytest.approx(260, rel=0.1)


def test_user_gaps() -> None:
    """LN2 .755(4.73, 1.16) + .245(5.78, 2.32), cut at one hour: p50 131 s, p90 1,000 s."""
    gaps = [to_s(t.dependencies[0].delay_ps) for t in turns(sample(), "user") if t.dependencies]
    median, high = quantiles(gaps, 0.5, 0.9)
    assert median == pytest.approx(131, rel=0.1)
    assert high == pytest.approx(1000, rel=0.2)
    assert max(gaps) == 3600


def test_tool_times_by_class_and_as_a_whole() -> None:
    """Bash LN(.47, 2.22), Read LN(-3.14, .73); Edit LN(-3.25, .52), 28 % with a wait for permission."""
    stats = trace_stats(sample())
    durations: dict[str, list[float]] = {}
    for turn in turns(sample(), "user", "tool", "spawn"):
        for call in turn.tools:
            durations.setdefault(call.name, []).append(to_s(call.duration_ps or 0))
    assert np.median(durations["Bash"]) == pytest.approx(math.exp(0.47), rel=0.1)
    assert np.log(durations["Read"]).std() == pytest.approx(0.73, rel=0.03)
    assert sum(d > 1 for d in durations["Edit"]) / len(durations["Edit"]) == pytest.approx(0.27, abs=0.02)
    calls = sum(map(len, durations.values()))
    for tool in PROFILES["claude-code"].tools:
        assert len(durations[tool.name]) / calls == pytest.approx(tool.share, abs=0.01)
    assert stats.tool_gap_s.p50 == pytest.approx(0.26, rel=0.35)
    assert stats.tool_gap_s.p90 == pytest.approx(11.9, rel=0.25)
    assert stats.tool_gap_s.p99 == pytest.approx(246, rel=0.4)


def test_replies_call_several_tools_in_parallel() -> None:
    calling = [turn for turn in turns(sample(), "user", "tool", "spawn") if turn.tools]
    assert sum(len(turn.tools) > 1 for turn in calling) / len(calling) == pytest.approx(0.13, abs=0.01)


def test_sub_agents() -> None:
    """0.73 % of main turns spawn, 9 % of those more than one; a child runs 11 turns from a 27k prompt."""
    main = spawns = 0
    children: dict[str, list[Turn]] = {}
    fan_out: dict[str, int] = {}
    for program in sample().programs:
        for turn in program.turns:
            if turn.session_id == program.id:
                main += 1
                joined = {d.turn for d in turn.dependencies if d.relation == "join"}
                assert all(program.turns[i].session_id != program.id for i in joined)
            else:
                children.setdefault(turn.session_id, []).append(turn)
            if turn.dependencies and turn.dependencies[0].relation == "spawn":
                parent = program.turns[turn.dependencies[0].turn].id
                fan_out[parent] = fan_out.get(parent, 0) + 1
    spawns = len(fan_out)
    assert spawns / main == pytest.approx(0.0073, abs=0.0013)
    assert sum(n > 1 for n in fan_out.values()) / spawns == pytest.approx(0.09, abs=0.05)
    lengths = [len(child) for child in children.values()]
    assert np.mean(lengths) == pytest.approx(11.2, abs=1.2)
    assert quantiles(lengths, 0.95)[0] == pytest.approx(23, abs=4)
    assert np.median([child[0].prompt_tokens for child in children.values()]) == pytest.approx(
        27_000, rel=0.05
    )


def test_every_spawn_is_joined_by_the_next_main_turn() -> None:
    for program in sample().programs:
        last = {turn.session_id: turn.index for turn in program.turns}
        joined = {d.turn for turn in program.turns for d in turn.dependencies if d.relation == "join"}
        assert joined == {index for session, index in last.items() if session != program.id}


def test_contexts_are_compacted_near_the_limit() -> None:
    """Near 155,000 to 167,000 tokens, to a median of 34 % of them."""
    kept = []
    for program in sample().programs:
        for turn in program.turns:
            assert turn.prompt_tokens <= 167_000
            if turn.prefix_tokens is not None and turn.dependencies:
                before = program.turns[turn.dependencies[0].turn]
                assert shared_tokens(turn.path, before.path) == turn.prefix_tokens
                if before.total_tokens > 150_000:
                    kept.append(turn.prompt_tokens / before.total_tokens)
    assert len(kept) > 100
    assert np.median(kept) == pytest.approx(0.34, abs=0.02)


def test_programs_share_their_system_prompt() -> None:
    one, other = (program.turns[0].path for program in sample().programs[:2])
    assert shared_tokens(one, other) == 15_000


def test_headless_programs() -> None:
    """Turns Gamma 2.91 x 17.4, output LN2 .41(4.21, .34) + .59(5.69, .73); nobody types."""
    workload = synthesise("swe-headless", 300, 2)
    stats = trace_stats(workload)
    assert stats.turns_per_program.mean == pytest.approx(51, abs=5)
    assert stats.output.p50 == pytest.approx(144, rel=0.05)
    assert stats.output.mean == pytest.approx(258, rel=0.05)
    assert stats.user_gap_s.n == 0


def test_profiles_are_listed_and_unknown_ones_refused() -> None:
    assert set(list_profiles()) == {"claude-code", "swe-headless"}
    with pytest.raises(InputError, match="did you mean 'claude-code'"):
        synthesise("claude-cod", 1, 0)
    with pytest.raises(InputError, match="there are claude-code, swe-headless"):
        synthesise("xyz", 1, 0)
    with pytest.raises(InputError, match="programs is 0"):
        synthesise("claude-code", 0, 0)


CASES: list[tuple[Distribution, Callable[[float], float]]] = [
    (Uniform(2, 5), lambda x: (x - 2) / 3),
    (LogNormal(1.0, 0.5), lambda x: 0.5 * math.erfc(-(math.log(x) - 1) / (0.5 * math.sqrt(2)))),
    (Weibull(0.861, 9.37), lambda x: 1 - math.exp(-((x / 9.37) ** 0.861))),
    (Gamma(1.0, 20.0), lambda x: 1 - math.exp(-x / 20)),
    (
        Mixture(((0.3, Uniform(0, 1)), (0.7, Uniform(1, 2)))),
        lambda x: 0.3 * x if x < 1 else 0.3 + 0.7 * (x - 1),
    ),
    (Sum(Uniform(0, 1), 0.4, Constant(1)), lambda x: 0.6 * x if x < 1 else 0.6 + 0.4 * (x - 1)),
]


@pytest.mark.parametrize(("distribution", "cdf"), CASES, ids=lambda case: type(case).__name__)
def test_distributions(distribution: Distribution, cdf: Callable[[float], float]) -> None:
    """Kolmogorov-Smirnov distance of 4,000 draws; 0.0258 is its 99 % quantile."""
    rng = Generator(PCG64(17))
    draws = sorted(distribution.draw(rng) for _ in range(4000))
    assert max(abs(cdf(x) - (i + 0.5) / 4000) for i, x in enumerate(draws)) < 0.0258
