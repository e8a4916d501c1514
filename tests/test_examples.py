"""Every example runs, and shows what its first line says."""

from __future__ import annotations

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

    assert latency() < 0.7 * latency("instances.0.scheduling_policy=fcfs")


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
