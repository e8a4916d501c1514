"""The reference of slowdowns: a turn by itself takes what the engine takes on an idle instance."""

from __future__ import annotations

from typing import Any

import pytest

from agentservesim.cost.base import Batch
from agentservesim.engine.alone import Alone
from agentservesim.engine.config import EngineConfig
from agentservesim.fleet.config import ToolsConfig
from agentservesim.results import Result
from agentservesim.scenario import InstanceConfig, Scenario, simulate
from agentservesim.workload.config import WorkloadConfig


class Slow:
    """10 ps a step, 3 a prefill token, 1 a history token, then 2 a row up to context 100."""

    knots = (0, 100)
    longest = 0

    def step_ps(self, batch: Batch) -> int:
        prefill = sum(3 * new + history for new, history in batch.chunks)
        return 10 + prefill + 2 * batch.counts[0] + batch.contexts[1] - 98 * batch.counts[1]

    def growth_ps(self, batch: Batch) -> int:
        return batch.counts[1]


def test_a_turn_by_hand() -> None:
    alone = Alone(EngineConfig(max_num_batched_tokens=64, block_size=16), Slow(), 7)
    # 95 known tokens are 5 blocks, 80 tokens; 17 to compute: 10 + 51 + 80. The first token comes of that.
    assert alone.turn_ps(97, 95, 1) == 7 + 141
    # Steps at context 98 and 99 take 12, at 100 and 101 10 + 2 and 10 + 3.
    assert alone.turn_ps(97, 95, 5) == 7 + 141 + 12 + 12 + 12 + 13
    # Nothing known: chunks of 64 and 33 tokens, with 0 and 64 tokens before them.
    assert alone.turn_ps(97, 0, 1) == 7 + (10 + 192) + (10 + 99 + 64)
    # Everything known: the block of the last token is computed.
    assert alone.turn_ps(96, 96, 1) == 7 + (10 + 48 + 80)


def test_without_prefix_caching_nothing_is_cached() -> None:
    alone = Alone(EngineConfig(max_num_batched_tokens=64, enable_prefix_caching=False), Slow())
    assert alone.turn_ps(32, 32, 1) == 10 + 96


def one_by_one(**engine: Any) -> Result:
    workload = WorkloadConfig(max_programs=6, max_concurrency=1, reuse_output=False)
    return simulate(
        Scenario(workload=workload, instances=(InstanceConfig(**engine),), tools=ToolsConfig(max_workers=1))
    )


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"async_scheduling": False, "max_num_batched_tokens": 1000},
        {"long_prefill_token_threshold": 900},
        {"engine_version": "0.26", "long_prefill_token_threshold": 900},
        {"enable_prefix_caching": False},
    ],
    ids=str,
)
def test_on_an_idle_machine_nothing_is_slowed_down(engine: dict[str, Any]) -> None:
    """Programs one after the other; turns that overlap others of their program are left out."""
    turns = one_by_one(**engine).turns.sort("ready_s")
    free = turns["ready_s"] >= turns["finish_s"].cum_max().shift(1, fill_value=0.0)
    until_next = (turns["finish_s"] <= turns["ready_s"].shift(-1)).fill_null(True)
    by_itself = turns.filter(free & until_next)
    assert by_itself.height > 0.7 * turns.height
    assert by_itself["slowdown"].max() == 1.0
    assert by_itself["slowdown"].min() == 1.0
    assert turns["slowdown"].min() >= 1.0
