"""Mooncake's hour of chat and the tau-bench conversations, end to end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentservesim.scenario import InstanceConfig, Scenario, prepare
from agentservesim.workload.config import WorkloadConfig
from tests.real.laws import check

pytestmark = pytest.mark.real

SIZES = {"mooncake-conversation": (8_262, 12_031), "tau-bench-airline": (200, 2_454)}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    "arrivals",
    [{}, {"program_rate": 2.0}, {"program_rate": 2.0, "burstiness": 0.2}, {"max_concurrency": 64}],
    ids=["as recorded", "poisson", "bursty", "closed loop"],
)
def test_every_turn_is_served(trace: Callable[[str], str], name: str, arrivals: dict[str, float]) -> None:
    config = WorkloadConfig.model_validate({"trace": trace(name), **arrivals})
    plan = prepare(Scenario(workload=config, instances=(InstanceConfig(count=4, gpu="h100-sxm"),)))
    result = plan.run()
    check(result, plan.workload)
    assert (result.programs.height, result.turns.height) == SIZES[name]
    assert 0 < result.summary["tokens"]["cached"] < result.summary["tokens"]["prompt"]


def test_mooncake_hits_with_unlimited_kv_are_those_of_the_trace(trace: Callable[[str], str]) -> None:
    """`prefix_tokens` counts whole blocks of 512 tokens, over the file in its order.

    A turn that goes on from another one begins with all of its prompt, the tail that fills no block of
    the trace included, so it hits up to a block of the trace more. What is left are turns that
    are served in another order than they stand in the file: the server decides when a session goes on.
    """
    config = WorkloadConfig(trace=trace("mooncake-conversation"), reuse_output=False)
    fleet = InstanceConfig(gpu="h100-sxm", num_gpu_blocks=10**9)
    plan = prepare(Scenario(workload=config, instances=(fleet,)))
    result = plan.run()
    check(result, plan.workload)
    cached = dict(result.turns.select("turn_id", "cached_tokens").iter_rows())
    off = []
    for program in plan.workload.programs:
        for turn in program.turns:
            before = max((program.turns[d.turn].prompt_tokens for d in turn.dependencies), default=0)
            stated = turn.prefix_tokens or 0
            tail = before if stated < before < stated + 512 else stated
            if not tail - 16 <= cached[turn.id] <= tail:
                off.append((turn.id, stated, before, cached[turn.id]))
    print(f"\n{len(off)} turns in another order: {off}")
    assert len(off) <= 10
