"""The benchmark's own workload has the shape that its figures are about, and its clock runs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from agentservesim.model import to_s
from agentservesim.workload import ReadOptions, read_trace, shared_tokens
from benchmarks.clock import REFERENCE_S, measure
from benchmarks.workload import SYSTEM_TOKENS, write_trace


def test_the_workload_has_the_agreed_statistics(tmp_path: Path) -> None:
    """Per program 9.45 turns; per turn 11.6k prompt and 202 output tokens, and 4 s of tools between two."""
    path = tmp_path / "own.jsonl"
    write_trace(path, programs=600, rate=2.0, block_size=64)
    workload = read_trace(path, ReadOptions(format="mooncake"))
    turns = [turn for program in workload.programs for turn in program.turns]
    gaps = [to_s(d.delay_ps + (d.tools_ps or 0)) for turn in turns for d in turn.dependencies]
    assert len(workload.programs) == 600
    assert len(turns) / 600 == pytest.approx(9.45, rel=0.1)
    assert fmean(turn.prompt_tokens for turn in turns) == pytest.approx(11_600, rel=0.1)
    assert fmean(turn.output_tokens for turn in turns) == pytest.approx(202, rel=0.05)
    assert fmean(gaps) == pytest.approx(4, rel=0.05)
    assert to_s(workload.programs[-1].arrival_ps) == pytest.approx(300, rel=0.15)


def test_prompts_grow_from_a_prefix_that_all_programs_share(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    write_trace(path, programs=3, rate=2.0, block_size=16)
    first, *others = read_trace(path, ReadOptions(format="mooncake")).programs
    for other in others:
        assert shared_tokens(first.turns[0].path, other.turns[0].path) == SYSTEM_TOKENS
    for program in (first, *others):
        for before, turn in pairwise(program.turns):
            assert shared_tokens(before.path, turn.path) == before.total_tokens


def test_the_clock_tells_time_in_multiples_of_the_fixed_work() -> None:
    timing = measure(lambda: sum(range(2_000_000)), 3)
    assert len(timing.cpu_s) == len(timing.reference_s) == 3
    assert 0 < timing.fastest_s <= timing.median_s
    for here, there in zip(timing.cpu_s, timing.reference_s, strict=True):
        assert REFERENCE_S / 10 < here / there * REFERENCE_S < 100 * REFERENCE_S
