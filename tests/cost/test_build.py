"""From settings to prices, blocks and latencies; KV capacity."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from agentservesim.cost import Cost, CostConfig, build_cost
from agentservesim.cost.roofline import Roofline
from agentservesim.cost.tables import Tables
from agentservesim.model import InputError


def _build(stages: int = 1, **settings: object) -> Cost:
    config = CostConfig.model_validate(settings)
    return build_cost(
        config, block_size=16, max_num_batched_tokens=2048, max_num_seqs=256, pipeline_parallel_size=stages
    )


def test_blocks_of_a_recorded_server() -> None:
    """An RTX 4090 with Llama-3.1-8B had 2,588 blocks at a utilisation of 0.9 (vLLM 0.19)."""
    cost = _build(model="llama-3.1-8b", gpu="rtx-4090", gpu_memory_utilization=0.9)
    assert cost.num_gpu_blocks == pytest.approx(2588, rel=0.02)
    assert cost.provenance["num_gpu_blocks"].startswith("computed")


def test_blocks_of_another_recorded_server() -> None:
    """An H100 with Qwen3-14B, budget 8192, had 18,038 blocks at the default utilisation (vLLM 0.23)."""
    config = CostConfig(model="qwen3-14b", gpu="h100-sxm")
    cost = build_cost(config, block_size=16, max_num_batched_tokens=8192, max_num_seqs=256)
    assert cost.num_gpu_blocks == pytest.approx(18_038, rel=0.02)


def test_blocks_follow_memory_weights_and_kv() -> None:
    base = _build(model="llama-3.1-8b", gpu="h100-sxm")
    block = 16 * 131_072
    more = _build(model="llama-3.1-8b", gpu="h100-sxm", gpu_memory_utilization=0.82)
    assert base.num_gpu_blocks - more.num_gpu_blocks == pytest.approx(0.1 * 84_942_979_072 / block, abs=1)
    halved = _build(model="llama-3.1-8b", gpu="h100-sxm", kv_cache_dtype="fp8")
    assert halved.num_gpu_blocks == pytest.approx(2 * base.num_gpu_blocks, abs=1)
    assert halved.kv_bytes_per_token == base.kv_bytes_per_token // 2 == 65_536


def test_kv_bytes_are_of_all_ranks() -> None:
    cost = _build(model="llama-3.1-70b", gpu="h100-sxm", tensor_parallel_size=4)
    assert cost.kv_bytes_per_token == 80 * 2 * 8 * 128 * 2


def test_pinned_blocks_are_taken_as_they_are() -> None:
    cost = _build(model="llama-3.1-70b", gpu="rtx-4090", num_gpu_blocks=1234)
    assert cost.num_gpu_blocks == 1234
    assert cost.provenance["num_gpu_blocks"] == "given"


def test_a_model_that_does_not_fit() -> None:
    with pytest.raises(
        InputError, match=r"llama-3\.1-70b does not fit on 1 x h100-sxm.*raise tensor_parallel"
    ):
        _build(model="llama-3.1-70b", gpu="h100-sxm")


def test_each_stage_of_a_pipeline_has_a_layer() -> None:
    with pytest.raises(InputError, match="pipeline_parallel_size: 33 stages for 32 layers of"):
        _build(33)


def test_tables_where_given_else_the_roofline(config_json: Path, table_folder: Path) -> None:
    settings = {"model": str(config_json), "gpu": "rtx-4090"}
    assert isinstance(_build(**settings).step_time, Roofline)
    measured = _build(**settings, tables=table_folder)
    assert isinstance(measured.step_time, Tables)
    assert str(table_folder) in measured.provenance["step_time"]
    assert isinstance(_build(**settings, tables=table_folder, step_time="roofline").step_time, Roofline)
    with pytest.raises(InputError, match="there are no tables of this deployment"):
        _build(**settings, step_time="tables")


def test_front_end_latencies() -> None:
    cost = _build(frontend_in_s=0.004, frontend_out_s=0.001)
    assert (cost.frontend_in_ps, cost.frontend_out_ps) == (4_000_000_000, 1_000_000_000)


@pytest.mark.parametrize(
    "settings",
    [
        {"gpu_memory_utilization": 0.0},
        {"gpu_memory_utilization": 1.1},
        {"tensor_parallel_size": 0},
        {"num_gpu_blocks": 1},
        {"host_overhead_s": -1e-3},
        {"host_overhead_s": float("nan")},
        {"frontend_in_s": float("inf")},
        {"step_time": "guess"},
        {"efficiency": {"compute": 1.5}},
        {"gpus": 4},
    ],
)
def test_settings_out_of_bounds(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CostConfig.model_validate(settings)


def test_building_is_quick(config_json: Path, table_folder: Path) -> None:
    start = time.process_time()
    _build(model=str(config_json), gpu="rtx-4090", tables=table_folder)
    assert time.process_time() - start < 0.5
