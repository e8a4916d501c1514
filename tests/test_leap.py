"""Leaping equals stepping in every number of the result, over random scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from agentservesim.results import Result, comparable
from agentservesim.results.run_folder import to_json
from agentservesim.scenario import InstanceConfig, Scenario, prepare
from agentservesim.workload import load_workload
from agentservesim.workload.config import WorkloadConfig

Rows = list[dict[str, Any]]

tools = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["Bash", "Read"])},
        optional={"duration_s": st.sampled_from([0.0, 0.001, 0.05, 0.7]), "offset_s": st.just(0.01)},
    ),
    max_size=2,
)


def trimmed(turns: Rows) -> Rows:
    """`keep_tokens` made possible: none in a session's first turn, else at most what is there."""
    context: dict[Any, int] = {}
    for turn in turns:
        session = turn.get("session")
        if session not in context:
            turn.pop("keep_tokens", None)
        before = context.get(session, 0)
        if "keep_tokens" in turn:
            before = turn["keep_tokens"] = min(turn["keep_tokens"], before)
        context[session] = before + turn["new_tokens"] + turn["output_tokens"]
    return turns


turns = st.lists(
    st.fixed_dictionaries(
        {"new_tokens": st.integers(1, 400), "output_tokens": st.integers(1, 90)},
        optional={
            "tools": tools,
            "delay_s": st.sampled_from([0.0, 0.02, 1.0]),
            "session": st.sampled_from(["helper", "critic"]),
            "keep_tokens": st.integers(0, 50),
            "priority": st.integers(0, 2),
        },
    ),
    min_size=1,
    max_size=5,
).map(trimmed)
programs = st.lists(
    st.fixed_dictionaries(
        {"turns": turns, "arrival_s": st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.5])},
        optional={"shared_prefix": st.sampled_from([7, 64, 130])},
    ),
    min_size=1,
    max_size=7,
)
engines = st.fixed_dictionaries(
    {
        "block_size": st.sampled_from([4, 16, 32]),
        "max_num_batched_tokens": st.sampled_from([16, 64, 300, 2048]),
        "max_num_seqs": st.sampled_from([1, 2, 4, 64]),
        "long_prefill_token_threshold": st.sampled_from([0, 0, 20]),
        "watermark": st.sampled_from([0.0, 0.0, 0.05]),
        "engine_version": st.sampled_from(["0.12", "0.32"]),
        "async_scheduling": st.booleans(),
        "enable_prefix_caching": st.sampled_from([True, True, True, False]),
        "count": st.sampled_from([1, 1, 3]),
    }
)


def numbers(result: Result) -> tuple[bytes, list[str]]:
    assert result.steps is not None
    tables = (result.turns, result.programs, result.steps)
    return to_json(comparable(result.summary)), [repr(table.to_dicts()) for table in tables]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=programs,
    engine=engines,
    spare_blocks=st.sampled_from([0, 0, 3, 20, 500]),
    router=st.sampled_from(["round-robin", "least-loaded", "session-affinity"]),
    scheduler=st.sampled_from(["fcfs", "priority"]),
    loop=st.sampled_from([None, None, 1, 3]),
    workers=st.sampled_from([None, None, 1]),
    reuse=st.booleans(),
)
def test_leaping_equals_stepping(
    tmp_path: Path,
    rows: Rows,
    engine: dict[str, Any],
    spare_blocks: int,
    router: str,
    scheduler: str,
    loop: int | None,
    workers: int | None,
    reuse: bool,
) -> None:
    trace = tmp_path / "t.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workload = WorkloadConfig(trace=str(trace), max_concurrency=loop, reuse_output=reuse)
    turns = [turn for program in load_workload(workload, 0).programs for turn in program.turns]
    longest = max(turn.total_tokens for turn in turns)
    blocks = -(-longest // int(engine["block_size"])) + 1 + spare_blocks
    scenario = Scenario(
        workload=workload,
        instances=(InstanceConfig(num_gpu_blocks=blocks, **engine),),
        router=router,
        scheduler=scheduler,
        tools={"max_workers": workers},
        record_steps=True,
    )
    leapt = prepare(scenario).run()
    stepped = prepare(scenario.model_copy(update={"leap": False})).run()
    event(f"preemptions: {leapt.summary['counts']['preemptions'] > 0}")
    event(f"leaps: {leapt.summary['counts']['leaps'] > 0}")
    assert stepped.summary["counts"]["leaps"] == 0
    assert numbers(leapt) == numbers(stepped)


@pytest.mark.slow
@pytest.mark.parametrize("trace", ["demo"])
def test_leaping_equals_stepping_on_the_shipped_trace(trace: str) -> None:
    fleet = (InstanceConfig(count=2, num_gpu_blocks=15_000),)
    scenario = Scenario(workload=WorkloadConfig(trace=trace, max_programs=12), instances=fleet)
    leapt, stepped = (prepare(scenario.model_copy(update={"leap": leap})).run() for leap in (True, False))
    assert to_json(comparable(leapt.summary)) == to_json(comparable(stepped.summary))
    assert leapt.turns.equals(stepped.turns)
