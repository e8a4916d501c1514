"""Every example runs, and shows what its first line says."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agentservesim.results import Result
from agentservesim.scenario import load_scenario, simulate

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))
FOLDER = EXAMPLES[0].parent


def ran(name: str, *overrides: str) -> Result:
    return simulate(load_scenario(FOLDER / f"{name}.toml", overrides))


def mean(result: Result, *keys: str) -> float:
    value: Any = result.summary
    for key in keys:
        value = value[key]
    return float(value["mean"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path) -> None:
    result = simulate(load_scenario(example))
    assert result.summary["counts"]["turns"] == result.turns.height > 0
    first, second = example.read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert not second.startswith("#")


def test_the_prompt_of_a_group_is_computed_once() -> None:
    first_turns = ran("shared-system-prompt").turns.filter(pl.col("index") == 0)
    cold = first_turns.filter(pl.col("cached_tokens") == 0)
    assert (cold.height, first_turns.height) == (2, 8)


def test_sub_agents_join() -> None:
    result = ran("sub-agents")
    assert result.programs["sessions"].max() == 4
    plan, *_, last = result.turns.filter(pl.col("program_id") == "research").iter_rows(named=True)
    finished = result.turns.filter(pl.col("session_id").str.starts_with("research/"))["finish_s"]
    assert plan["finish_s"] < finished.min() <= finished.max() <= last["ready_s"]  # type: ignore[operator]


def test_a_guard_runs_beside_the_turn_it_guards() -> None:
    work, guard = ran("dispatch-trigger").turns.head(2).iter_rows(named=True)
    assert guard["ready_s"] == pytest.approx(work["ready_s"] + 0.05)
    assert guard["ready_s"] < work["finish_s"]


def test_a_compacted_context_keeps_only_the_system_prompt() -> None:
    turns = ran("context-reset").turns
    compacted = turns.filter(pl.col("turn_id").str.ends_with("after-compaction")).row(0, named=True)
    assert compacted["cached_tokens"] == 6000 // 16 * 16
    assert turns.filter(pl.col("turn_id").str.ends_with("from-nothing"))["cached_tokens"].item() == 0


def test_few_tool_workers_are_slow() -> None:
    free = ran("tool-workers", "tools.max_workers=1000")
    assert mean(ran("tool-workers"), "program", "latency_s") > 2 * mean(free, "program", "latency_s")


def test_drawn_tool_times_follow_the_seed() -> None:
    one, two, other = (
        ran("tool-distributions", *o).programs["tool_s"].to_list() for o in ([], [], ["seed=4"])
    )
    assert one == two != other


def test_three_programs_are_in_flight() -> None:
    programs = ran("closed-loop").programs
    for start in programs["arrival_s"]:
        assert programs.filter((pl.col("arrival_s") <= start) & (pl.col("finish_s") > start)).height <= 3


def test_interactive_programs_overtake() -> None:
    def latency(*overrides: str) -> float:
        programs = ran("priorities", *overrides).programs
        return float(programs.filter(pl.col("kind") == "interactive")["latency_s"].mean())  # type: ignore[arg-type]

    assert latency() < 0.7 * latency("scheduler=fcfs")


def test_a_small_pool_preempts() -> None:
    small, large = ran("preemption"), ran("preemption", "instances.0.num_gpu_blocks=20000")
    assert small.summary["counts"]["preemptions"] > 0 == large.summary["counts"]["preemptions"]
    assert small.summary["tokens"]["recomputed"] > 0 == large.summary["tokens"]["recomputed"]


def test_both_kinds_of_instance_serve() -> None:
    result = ran("mixed-fleet")
    assert set(result.turns["instance"]) == {0, 1, 2}
    first = (
        result.turns.group_by("instance").agg(pl.col("tpot_s").mean()).sort("instance")["tpot_s"].to_list()
    )
    assert first[0] < first[1]


def test_synchronous_scheduling_answers_sooner_and_decodes_alike() -> None:
    before, now = ran("older-vllm"), ran("older-vllm", "instances.0.async_scheduling=true")
    assert mean(before, "turn", "ttft_s") < mean(now, "turn", "ttft_s")


def test_replies_that_are_not_reused_are_computed_again() -> None:
    again, reused = (ran("replies-not-reused", f"workload.reuse_output={on}") for on in ("false", "true"))
    assert again.summary["tokens"]["computed"] > reused.summary["tokens"]["computed"]


def test_host_memory_spares_what_would_be_computed_again() -> None:
    tiered, bare = ran("dram-tier"), ran("dram-tier", "residency=lru")
    assert tiered.summary["tokens"]["cached_dram"] > 0 == bare.summary["tokens"]["cached_dram"]
    assert tiered.summary["tokens"]["computed"] < 0.3 * bare.summary["tokens"]["computed"]
    assert mean(tiered, "turn", "ttft_s") < 0.5 * mean(bare, "turn", "ttft_s")


def test_a_slower_link_is_busy_for_longer() -> None:
    """Every transfer costs its bytes over half the bandwidth, and the same overhead."""
    fast, slow = (
        ran("dram-tier", f"memory.links.0.{way}_bytes_per_s={rate}", *others).memory["links"]
        for way, rate, others in (
            ("up", "50e9", ["memory.links.0.down_bytes_per_s=50e9"]),
            ("up", "25e9", ["memory.links.0.down_bytes_per_s=25e9"]),
        )
    )
    per_byte = [(table["busy_s"] / table["bytes"]).to_list() for table in (fast, slow)]
    for quick, long in zip(*per_byte, strict=True):
        assert 1.9 * quick < long <= 2 * quick


def test_a_shared_pool_serves_whoever_asks() -> None:
    shared, private = ran("cxl-pool"), ran("cxl-pool", "memory.tiers.0.scope=instance")
    assert shared.summary["tokens"]["hit_rate"] > private.summary["tokens"]["hit_rate"] + 0.03
    assert mean(shared, "turn", "ttft_s") < mean(private, "turn", "ttft_s")


def test_what_is_pinned_others_wait_for() -> None:
    pinned, lru = ran("ttl"), ran("ttl", "residency=lru")
    assert pinned.summary["tokens"]["hit_rate"] > lru.summary["tokens"]["hit_rate"] + 0.1
    assert mean(pinned, "turn", "queue_s") > mean(lru, "turn", "queue_s")
    assert pinned.summary["kv"]["waste_share"] > 0.2


def test_a_pin_of_no_time_is_lru() -> None:
    none, lru = (ran("ttl", f"residency={policy}") for policy in ("'ttl,ttl_s=0'", "lru"))
    assert none.turns.equals(lru.turns)


def test_continuum_is_flat_in_the_number_of_turns_where_vllm_grows(tmp_path: Path) -> None:
    script = runpy.run_path(str(FOLDER / "residency_turns.py"))
    traces = [tmp_path / f"{turns}.jsonl" for turns in (11, 51)]
    for turns, trace in zip((11, 51), traces, strict=True):
        trace.write_text(script["programs"](40, 0.13, turns, 9.9 / turns, 0))
    few, many = (script["latency_s"](trace, script["ARMS"]["vLLM"]) for trace in traces)
    assert many > 2 * few
    few, many = (script["latency_s"](trace, script["ARMS"]["Continuum, preview"]) for trace in traces)
    assert many < 1.1 * few


def test_discarding_is_the_lowest_rung_of_the_ladder(tmp_path: Path) -> None:
    script, trace = runpy.run_path(str(FOLDER / "residency_ladder.py")), tmp_path / "ladder.jsonl"
    trace.write_text(script["programs"](80, 2.0, 0))
    vllm, swap, best = (
        float(script["row"](rung, trace).split("|")[2]) for rung in ("vLLM", "+ swap", "min-waste")
    )
    assert vllm > 1.5 * swap
    assert best <= swap


def test_bundles_are_compared_on_any_trace(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(FOLDER / "bundle_compare.py"))
    words = ["demo", "--programs", "1", "--rates", "1", "--instances", "1", "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bundle_compare.py", *words, "--bundle", "vllm", "--dram", "0"])
        script["main"]()
    told = capsys.readouterr().out
    # One instance and one program: round robin is affinity.
    (default,) = re.findall(r"\| `default` \| ([\d,]+) \|  \|(.*)\|", told)
    (vllm,) = re.findall(r"\| `vllm` \| ([\d,]+) \| \+0%[^|]*\|(.*)\|", told)
    assert default == vllm
