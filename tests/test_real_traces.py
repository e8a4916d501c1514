"""Real agent traces, end to end. They lie beside the repository and are never part of it."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest

from agentservesim.results import Result
from agentservesim.scenario import InstanceConfig, Scenario, prepare, simulate
from agentservesim.workload.config import WorkloadConfig

pytestmark = pytest.mark.real

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
CLAUDE_CODE = "entire-claude-code"


def trace(name: str) -> str:
    path = TRACES / name / "requests.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the real trace {name} is not here: {path}")
    return str(path)


def run(name: str, *groups: InstanceConfig) -> Result:
    return simulate(Scenario(workload=WorkloadConfig(trace=trace(name)), instances=groups))


@pytest.mark.parametrize(
    ("name", "programs", "turns"),
    [(CLAUDE_CODE, 273, 20_979), ("mooncake-conversation", 8_262, 12_031), ("tau-bench-airline", 200, 2_454)],
)
def test_every_program_completes(name: str, programs: int, turns: int) -> None:
    result = run(name, InstanceConfig(count=4))
    assert result.summary["counts"]["programs"] == programs
    assert result.summary["counts"]["turns"] == turns == result.turns.height
    assert (result.turns["ready_s"] < result.turns["first_token_s"]).all()
    assert (result.turns["first_token_s"] <= result.turns["finish_s"]).all()


@pytest.mark.parametrize(
    "fleet",
    [
        InstanceConfig(count=4, model="llama-3.1-8b", gpu="h100-sxm"),
        InstanceConfig(count=2, model="qwen3-32b", gpu="h100-sxm", tensor_parallel_size=2),
    ],
    ids=lambda fleet: fleet.model,
)
def test_claude_code_on_four_h100_takes_less_than_ten_seconds(fleet: InstanceConfig) -> None:
    start = time.perf_counter()
    result = run(CLAUDE_CODE, fleet)
    assert time.perf_counter() - start < 10
    assert result.programs.height == 273
    assert result.turns["prompt_tokens"].max() > 140_000


def test_hits_with_unlimited_kv_are_those_of_the_trace() -> None:
    """Without reuse of replies, cached tokens equal `prefix_tokens` to within a block a turn.

    The exceptions are few and known: 19 turns of which the trace says that more was cached than its own
    content explains (tests/workload/test_recorded.py), and two sub-agents that send the same beginning
    at almost the same time, of which the other one was first when it was recorded.
    """
    workload = WorkloadConfig(trace=trace(CLAUDE_CODE), reuse_output=False)
    plan = prepare(Scenario(workload=workload, instances=(InstanceConfig(num_gpu_blocks=10**9),)))
    stated = pl.DataFrame(
        [(turn.id, turn.prefix_tokens) for program in plan.workload.programs for turn in program.turns],
        schema=["turn_id", "prefix_tokens"],
        orient="row",
    )
    turns = plan.run().turns.join(stated, on="turn_id")
    missing = pl.col("prefix_tokens") - pl.col("cached_tokens")
    off = turns.filter((missing > 16) | (missing < 0))
    assert off.height <= 19 + 2, off.select("turn_id", "prompt_tokens", "prefix_tokens", "cached_tokens")
    assert turns["cached_tokens"].sum() == pytest.approx(turns["prefix_tokens"].sum(), rel=2e-3)
