"""Laws of every step-time model, over the whole domain: far beyond the tables' grid, too."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.base import Batch, decode_run
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.operators import OperatorStepTime
from agentservesim.model import to_s

ROUNDING = 1e-6
"""Tables are kept in whole picoseconds a token and a row, so sums of them are off by a few."""

LAW = settings(max_examples=60, deadline=None)

PROFILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles"
RECORDED = {
    "recorded dense": ("llama-3.1-8b", "rtx-4090", "RTX4090/meta-llama/Llama-3.1-8B/bf16"),
    "recorded sparse": ("qwen3-30b-a3b", "rtx-pro-6000", "RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507/bf16"),
}
ROOFLINES = {
    "roofline": CostConfig(model="qwen3-14b", gpu="h100-sxm"),
    "windows": CostConfig(model="gpt-oss-20b", gpu="rtx-pro-6000", tensor_parallel_size=2),
    "experts": CostConfig(model="qwen3-30b-a3b", gpu="h200-sxm", kv_cache_dtype="fp8", data_parallel_size=2),
    "latents": CostConfig(model="deepseek-v3", gpu="h200-sxm", tensor_parallel_size=4, data_parallel_size=4),
    "recurrences": CostConfig(model="qwen3-next-80b-a3b", gpu="b200"),
}
Backend = tuple[CostConfig, OperatorStepTime]

contexts = st.lists(st.integers(1, 200_000), max_size=40)
chunks = st.lists(st.tuples(st.integers(1, 9_000), st.integers(0, 200_000)), max_size=4)


@pytest.fixture(scope="module", params=[*ROOFLINES, "tables", *RECORDED])
def backend(request: pytest.FixtureRequest, config_json: Path, table_folder: Path) -> Backend:
    if request.param in RECORDED:
        model, gpu, folder = RECORDED[request.param]
        if not (PROFILES / folder).is_dir():
            pytest.skip(f"no recorded operator tables in {PROFILES / folder}")
        config = CostConfig(model=model, gpu=gpu, tables=PROFILES / folder)
    else:
        tables = CostConfig(model=str(config_json), gpu="rtx-4090", tables=table_folder)
        config = ROOFLINES.get(request.param, tables)
    cost = build_cost(config, block_size=16, max_num_batched_tokens=8192, max_num_seqs=128)
    assert isinstance(cost.step_time, OperatorStepTime)
    return config, cost.step_time


@LAW
@given(contexts=contexts, chunks=chunks)
def test_a_step_takes_time(backend: Backend, contexts: list[int], chunks: list[tuple[int, int]]) -> None:
    _, model = backend
    duration = model.step_ps(Batch.of(model.knots, chunks, contexts))
    assert type(duration) is int
    assert duration >= 1


@LAW
@given(contexts=st.lists(st.integers(1, 200_000), min_size=1, max_size=40), steps=st.integers(1, 300))
def test_growth_is_exact_within_cells(backend: Backend, contexts: list[int], steps: int) -> None:
    _, model = backend
    borders = (*model.knots, 1 << 60)
    room = min(borders[bisect_right(model.knots, c)] - 1 - c for c in contexts)
    steps = min(steps, room)
    batch = Batch.of(model.knots, contexts=contexts)
    first, growth = model.step_ps(batch), model.growth_ps(batch)
    later = Batch.of(model.knots, contexts=[c + steps for c in contexts])
    assert model.step_ps(later) == first + steps * growth
    assert model.growth_ps(later) == growth
    assert decode_run(model, batch, steps + 1)[-1] == pytest.approx(to_s(first + steps * growth))


@LAW
@given(contexts=st.lists(st.integers(1, 200_000), min_size=1, max_size=40), data=st.data())
def test_decode_never_gets_faster_with_context(
    backend: Backend, contexts: list[int], data: st.DataObject
) -> None:
    _, model = backend
    row = data.draw(st.integers(0, len(contexts) - 1))
    longer = list(contexts)
    longer[row] += data.draw(st.integers(1, 50_000))
    assert model.step_ps(Batch.of(model.knots, contexts=longer)) >= model.step_ps(
        Batch.of(model.knots, contexts=contexts)
    )


@LAW
@given(
    contexts=contexts,
    chunks=st.lists(st.tuples(st.integers(1, 9_000), st.integers(0, 200_000)), min_size=1, max_size=4),
    data=st.data(),
)
def test_a_mixed_step_never_gets_faster_with_work(
    backend: Backend, contexts: list[int], chunks: list[tuple[int, int]], data: st.DataObject
) -> None:
    _, model = backend
    more_chunks, more_contexts = list(chunks), list(contexts)
    i = data.draw(st.integers(0, len(chunks) - 1))
    new, history = chunks[i]
    more_chunks[i] = (new + data.draw(st.integers(0, 500)), history + data.draw(st.integers(0, 5_000)))
    if contexts:
        row = data.draw(st.integers(0, len(contexts) - 1))
        more_contexts[row] += data.draw(st.integers(0, 5_000))
    before = model.step_ps(Batch.of(model.knots, chunks, contexts))
    after = model.step_ps(Batch.of(model.knots, more_chunks, more_contexts))
    assert after >= before * (1 - ROUNDING)


@LAW
@given(contexts=st.lists(st.integers(1, 200_000), min_size=1, max_size=40), extra=st.integers(0, 10_000))
def test_a_row_as_long_as_the_longest_adds_time(backend: Backend, contexts: list[int], extra: int) -> None:
    _, model = backend
    before = model.step_ps(Batch.of(model.knots, contexts=contexts))
    after = model.step_ps(Batch.of(model.knots, contexts=[*contexts, max(contexts) + extra]))
    assert after >= before * (1 - ROUNDING)


@LAW
@given(contexts=contexts, chunks=chunks)
def test_no_step_beats_the_spec_sheet(
    backend: Backend, contexts: list[int], chunks: list[tuple[int, int]]
) -> None:
    config, step_time = backend
    model, gpu, ranks = load_model(config.model), load_accelerator(config.gpu), config.tensor_parallel_size
    seconds = to_s(step_time.step_ps(Batch.of(step_time.knots, chunks, contexts)))
    tokens = len(contexts) + sum(new for new, _ in chunks)
    number_bytes = 1 if config.kv_cache_dtype == "fp8" else 2
    flops = bytes_read = 0.0
    for group in model.groups:
        mlp, window = group.feed_forward, group.attention.window
        linear = group.attention.linear_parameters(model.hidden) + 3 * model.hidden * mlp.width
        awake = linear + mlp.experts_per_token * mlp.expert_parameters(model.hidden)
        pairs = sum(_attended(1, c - 1, window) for c in contexts)
        pairs += sum(_attended(new, history, window) for new, history in chunks)
        read = sum(min(c, window or c) for c in contexts)
        read += sum(new + min(history, window or history) for new, history in chunks)
        flops += group.count * (2 * tokens * awake + group.attention.flops(pairs))
        kept = number_bytes * read * group.attention.kv_numbers()
        bytes_read += group.count * (2 * linear * bool(tokens) + kept)
    assert seconds >= flops / ranks / gpu.bf16_flops * (1 - ROUNDING)
    assert seconds >= bytes_read / ranks / gpu.memory_bytes_per_s * (1 - ROUNDING)


def _attended(new: int, history: int, window: int | None) -> int:
    reach = np.arange(history + 1, history + new + 1)
    return int((np.minimum(reach, window) if window else reach).sum())


@LAW
@given(chunks=st.lists(st.tuples(st.integers(1, 2_000), st.integers(0, 50_000)), min_size=2, max_size=4))
def test_chunks_together_cost_no_more_than_alone_and_no_less_than_the_longest(
    backend: Backend, chunks: list[tuple[int, int]]
) -> None:
    _, model = backend

    def attention(rows: list[tuple[int, int]]) -> int:
        return model.mixed_ps(Batch.of(model.knots, rows))

    alone = [attention([chunk]) for chunk in chunks]
    assert max(alone) <= attention(chunks) <= sum(alone)


def test_chunks_are_not_pooled(backend: Backend) -> None:
    config, model = backend
    if load_model(config.model).groups[0].attention.window:
        pytest.skip("a window bounds the history, so pooling would change little")
    apart = model.mixed_ps(Batch.of(model.knots, [(512, 20_000)] * 4))
    pooled = model.mixed_ps(Batch.of(model.knots, [(4 * 512, 4 * 20_000)]))
    assert pooled > 2.5 * apart


def test_an_empty_step_is_host_time(backend: Backend) -> None:
    config, model = backend
    host_s = max(config.host_overhead_s, config.host_work_s)
    assert to_s(model.step_ps(Batch.of(model.knots))) == pytest.approx(host_s)
