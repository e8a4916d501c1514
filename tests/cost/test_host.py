"""The host's part of a step: what asynchronous scheduling hides, and what padding to CUDA graphs costs."""

from __future__ import annotations

import pytest

from agentservesim import InstanceConfig
from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.base import Batch, StepTime
from agentservesim.cost.operators import Host
from agentservesim.engine.config import EngineConfig
from agentservesim.model import to_s


def _model(*, overlapped: bool, name: str = "llama-3.1-8b", **settings: object) -> StepTime:
    config = CostConfig.model_validate({"model": name, "gpu": "h100-sxm", **settings})
    return build_cost(
        config, block_size=16, max_num_batched_tokens=8192, max_num_seqs=256, async_scheduling=overlapped
    ).step_time


def _step_s(model: StepTime, rows: int, context: int = 500) -> float:
    return to_s(model.step_ps(Batch.of(model.knots, contexts=[context] * rows)))


def test_host_work_is_seen_only_where_it_takes_longer_than_the_accelerator() -> None:
    """A step of an 8 B model takes milliseconds: 1 ms of work is hidden, or 1 ms longer. With 50 ms the
    accelerator is hidden instead, but for its attention."""
    free = {"host_work_s": 0.0, "host_work_per_sequence_s": 0.0}
    bare = _step_s(_model(overlapped=True, **free), 32)
    some = {"host_work_s": 1e-3, "host_work_per_sequence_s": 0.0}
    assert _step_s(_model(overlapped=True, **some), 32) == bare
    assert _step_s(_model(overlapped=False, **some), 32) == pytest.approx(bare + 1e-3)
    much = {"host_work_s": 50e-3, "host_work_per_sequence_s": 0.0}
    attention = bare - _step_s(_model(overlapped=True, **free), 32, context=1)
    busy = _step_s(_model(overlapped=True, **much), 32)
    assert 50e-3 <= busy <= 50e-3 + attention + 1e-3


def test_every_sequence_is_work() -> None:
    settings = {"host_work_s": 1e-3, "host_work_per_sequence_s": 1e-4}
    free = {"host_work_s": 0.0, "host_work_per_sequence_s": 0.0}
    for rows in (1, 8, 64):
        more = _step_s(_model(overlapped=False, **settings), rows) - _step_s(
            _model(overlapped=False, **free), rows
        )
        assert more == pytest.approx(1e-3 + rows * 1e-4)


def test_host_work_does_not_grow_with_contexts() -> None:
    model = _model(overlapped=True, host_work_s=50e-3)
    batch = Batch.of(model.knots, contexts=[100] * 8)
    later = Batch.of(model.knots, contexts=[110] * 8)
    assert model.step_ps(later) - model.step_ps(batch) == 10 * model.growth_ps(batch) > 0


def test_beside() -> None:
    hidden = Host(work_ps=10, sequence_work_ps=2)
    assert [hidden.beside(15, n) for n in (0, 2, 5)] == [15, 15, 20]
    waited = Host(work_ps=10, sequence_work_ps=2, overlapped=False)
    assert [waited.beside(15, n) for n in (0, 2, 5)] == [25, 29, 35]


def test_asynchronous_scheduling_is_the_default_since_vllm_0_14() -> None:
    assert EngineConfig().async_scheduling
    assert EngineConfig(engine_version="0.19").async_scheduling
    assert not EngineConfig(engine_version="0.12").async_scheduling
    assert EngineConfig(engine_version="0.12", async_scheduling=True).async_scheduling


@pytest.mark.parametrize(("version", "share"), [("0.12", 0.9), ("0.19", 0.9), ("0.26", 0.92), ("0.32", 0.92)])
def test_older_versions_leave_more_memory_alone(version: str, share: float) -> None:
    assert InstanceConfig.model_validate({"engine_version": version}).gpu_memory_utilization == share
    given = {"engine_version": version, "gpu_memory_utilization": 0.5}
    assert InstanceConfig.model_validate(given).gpu_memory_utilization == 0.5
