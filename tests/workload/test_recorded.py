"""The recorded traces beside the repository, read whole. `make real` runs these."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from agentservesim.model import Dependency, Turn, Workload
from agentservesim.workload import ReadOptions, read_trace, trace_stats, write_trace
from agentservesim.workload.content import unlimited_hits

pytestmark = pytest.mark.real


def recorded(real: Path, name: str, reuse_output: bool = True) -> Workload:
    return read_trace(real / name / "requests.jsonl.gz", ReadOptions(reuse_output=reuse_output))


def all_turns(workload: Workload) -> list[Turn]:
    return [turn for program in workload.programs for turn in program.turns]


def test_claude_code_reads_whole(real: Path) -> None:
    workload = recorded(real, "entire-claude-code")
    turns = all_turns(workload)
    assert (len(workload.programs), len(turns)) == (273, 20_979)
    assert sum(dependency.relation == "spawn" for turn in turns for dependency in turn.dependencies) == 158
    assert all(d.turn < t.index for t in turns for d in t.dependencies)
    assert max(len(turn.path) for turn in turns) < 40


def test_claude_code_hits_are_those_the_trace_states(real: Path) -> None:
    """Row by row and to the token, with an unlimited cache and re-sent replies not counted.

    The trace's figure comes from the provider's cache; in 19 rows it exceeds prompt and (estimated) reply of
    the turn before. No content of the trace explains it, and the reader says how many tokens that is.
    """
    workload = recorded(real, "entire-claude-code", reuse_output=False)
    turns = all_turns(workload)
    short = 0
    for turn, hit in zip(turns, unlimited_hits(turns), strict=True):
        assert turn.prefix_tokens is not None
        if hit != turn.prefix_tokens:
            program = next(p for p in workload.programs if turn in p.turns)
            before = program.turns[turn.dependencies[0].turn]
            assert hit == before.total_tokens < turn.prefix_tokens
            short += 1
            assert turn.prefix_tokens - hit < 1500
    assert short == 19
    assert workload.notes[0].startswith("4981 tokens are stated as seen before")


def test_claude_code_statistics(real: Path) -> None:
    """The published table: within 2 %, and exactly where it counts things."""
    stats = trace_stats(recorded(real, "entire-claude-code", reuse_output=False))
    turns = stats.turns_per_program
    assert [round(turns.mean), turns.p50, round(turns.p95), turns.max] == [70, 46, 221, 627]
    assert (stats.append.p50, stats.append.mean) == (
        pytest.approx(282, rel=0.02),
        pytest.approx(1187, rel=0.02),
    )
    assert (stats.output.p50, round(stats.output.mean)) == (169, 353)
    assert stats.context_at_last_turn.p50 == pytest.approx(90_000, rel=0.02)
    assert stats.context_at_last_turn.p95 == pytest.approx(152_000, rel=0.02)
    gap = stats.tool_gap_s
    assert [gap.p50, gap.p90, gap.p99] == pytest.approx([0.26, 11.9, 246], rel=0.02)
    assert [stats.user_gap_s.p50, stats.user_gap_s.p90] == pytest.approx([125, 1017], rel=0.02)
    assert (stats.sub_agents, stats.programs_with_sub_agents, stats.resets) == (158, 68, 109)
    assert stats.reuse == pytest.approx(0.974, abs=0.001)


def test_mooncake_reads_whole(real: Path) -> None:
    workload = recorded(real, "mooncake-conversation")
    stats = trace_stats(workload)
    assert (stats.programs, stats.turns) == (8_262, 12_031)
    turns = stats.turns_per_program
    assert [round(turns.mean, 2), turns.p50, turns.p95, turns.max] == [1.46, 1, 3, 43]
    assert (stats.append.p50, stats.append.mean) == (pytest.approx(30, abs=1), pytest.approx(1355, rel=0.01))
    assert (stats.output.p50, round(stats.output.mean)) == (350, 343)
    assert stats.stated_reuse == pytest.approx(0.374, abs=0.001)
    assert stats.reuse > stats.stated_reuse


def test_mooncake_shares_at_least_the_blocks_that_the_trace_states(real: Path) -> None:
    """In order of arrival, hits are the stated blocks, and more only inside the last block of a session."""
    workload = recorded(real, "mooncake-conversation", reuse_output=False)
    turns = sorted(all_turns(workload), key=lambda turn: int(turn.id.split(":")[1]))
    for turn, hit in zip(turns, unlimited_hits(turns), strict=True):
        assert turn.prefix_tokens is not None
        assert turn.prefix_tokens <= hit
        if not turn.dependencies:
            assert hit == turn.prefix_tokens
        else:
            assert hit - turn.prefix_tokens < 512


def test_mooncake_keeps_its_rhythm_from_start_to_start(real: Path) -> None:
    turns = all_turns(recorded(real, "mooncake-conversation"))
    later = [turn for turn in turns if turn.dependencies]
    assert len(later) == 3_769
    for turn in later:
        dispatch, completion = turn.dependencies
        assert dispatch.trigger == "dispatch"
        assert completion == Dependency(dispatch.turn, "completion", 0, 0, "sequence")


def test_tau_bench_reads_whole(real: Path) -> None:
    stats = trace_stats(recorded(real, "tau-bench-airline", reuse_output=False))
    assert (stats.programs, stats.turns) == (200, 2_454)
    turns = stats.turns_per_program
    assert [round(turns.mean, 1), turns.p50, round(turns.p95), turns.max] == [12.3, 11, 23, 30]
    assert (stats.append.p50, round(stats.append.mean)) == (34, 136)
    assert (stats.output.p50, round(stats.output.mean)) == (64, 83)
    assert stats.stated_reuse == pytest.approx(0.895, abs=0.001)
    system_prompts = 199 * 1252 / stats.prompt_tokens
    assert stats.reuse == pytest.approx(0.895 + system_prompts, abs=0.001)


def test_mooncake_in_its_makers_own_format(real: Path) -> None:
    """The first 400 rows without sessions share the same blocks as the converted ones."""
    plain = read_trace(real / "samples" / "mooncake-conversation-head400.jsonl.gz")
    assert plain.notes == ("hash blocks of 512 tokens",)
    turns = sorted(all_turns(plain), key=lambda turn: int(turn.id[1:]))
    converted = {turn.id: turn for turn in all_turns(recorded(real, "mooncake-conversation"))}
    for number, hit in enumerate(unlimited_hits(turns)):
        assert hit == converted[f"mc:{number}"].prefix_tokens


@pytest.mark.parametrize("name", ["entire-claude-code", "mooncake-conversation", "tau-bench-airline"])
def test_recorded_traces_survive_a_round_trip(real: Path, name: str, tmp_path: Path) -> None:
    workload = recorded(real, name)
    write_trace(workload, tmp_path / "w.jsonl.gz")
    again = read_trace(tmp_path / "w.jsonl.gz")
    assert trace_stats(again).prompt == trace_stats(workload).prompt
    assert list(unlimited_hits(all_turns(again))) == list(unlimited_hits(all_turns(workload)))
    for a, b in zip(all_turns(workload), all_turns(again), strict=True):
        assert (a.id, a.dependencies, a.tools, a.not_before_ps) == (
            b.id,
            b.dependencies,
            b.tools,
            b.not_before_ps,
        )


def test_a_large_trace_reads_fast_and_small(real: Path, tmp_path: Path) -> None:
    """1,000 sessions in 16-token blocks, 6.9 million hash ids: a few seconds, and no ids kept."""
    generator = real.parents[1] / "bench" / "gen.py"
    path = tmp_path / "w.jsonl"
    arguments = ["--sessions", "1000", "--block", "16", "--out", str(path)]
    subprocess.run([sys.executable, str(generator), *arguments], check=True, capture_output=True)
    begin = time.process_time()
    workload = read_trace(path)
    assert time.process_time() - begin < 5.0
    assert (len(workload.programs), workload.num_turns) == (1000, 9453)
    assert max(len(turn.path) for turn in all_turns(workload)) <= 2
    tracemalloc.start()
    kept = read_trace(path)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept.num_turns == 9453
    assert size / 9453 < 2_000
    assert peak < 100e6
