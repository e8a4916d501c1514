"""The roofline against arithmetic by hand."""

from __future__ import annotations

import pytest

from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.base import Batch
from agentservesim.cost.config import Efficiency
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.layers import attended_pairs
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.operators import Host
from agentservesim.cost.roofline import IDEAL, Roofline

LAYER = 4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336
"""Weights of the linear layers of a layer of Llama-3.1-8B."""


@pytest.fixture(scope="module")
def ideal() -> Roofline:
    on = Deployment(load_model("llama-3.1-8b"), load_accelerator("h100-sxm"))
    return Roofline(on, Efficiency(**IDEAL, sampler_s=0.0), Host())


@pytest.mark.parametrize("window", [None, 1, 10, 100, 1000])
@pytest.mark.parametrize(("new", "history"), [(1, 0), (1, 99), (50, 0), (50, 60), (300, 500)])
def test_attended_pairs(new: int, history: int, window: int | None) -> None:
    counted = sum(min(history + i, window or 1 << 60) for i in range(1, new + 1))
    assert attended_pairs(new, history, window) == counted


def test_one_token_reads_every_weight(ideal: Roofline) -> None:
    assert ideal.dense_ps(1) / 1e12 == pytest.approx(32 * LAYER * 2 / 3.35e12)
    assert ideal.head_ps(1) / 1e12 == pytest.approx(128_256 * 4096 * 2 / 3.35e12)


def test_many_tokens_compute(ideal: Roofline) -> None:
    assert ideal.dense_ps(8192) / 1e12 == pytest.approx(2 * 8192 * 32 * LAYER / 989e12)


def test_a_decode_row_reads_its_context(ideal: Roofline) -> None:
    short, long = (Batch.of(ideal.knots, contexts=[context]) for context in (1000, 101_000))
    per_token = (ideal.step_ps(long) - ideal.step_ps(short)) / 100_000 / 1e12
    assert per_token == pytest.approx(131_072 / 3.35e12, rel=1e-4)


def test_a_short_append_on_a_long_history_reads_it(ideal: Roofline) -> None:
    """An agent's tool result: bound by bytes, however few tokens are new."""
    append = ideal.chunk_ps(16, 100_000) / 1e12
    assert append == pytest.approx(100_016 * 131_072 / 3.35e12, rel=1e-6)
    assert append > 3.9e-3


def test_a_first_chunk_computes(ideal: Roofline) -> None:
    flops = 32 * 4 * 32 * 128 * (8192 * 8193 // 2)
    assert ideal.chunk_ps(8192, 0) / 1e12 == pytest.approx(flops / 989e12, rel=1e-6)


def test_sparse_layers_read_the_experts_they_wake() -> None:
    on = Deployment(load_model("qwen3-30b-a3b"), load_accelerator("h100-sxm"))
    model = Roofline(on, Efficiency(**IDEAL, sampler_s=0.0), Host())
    expert, attention = 3 * 2048 * 768, 2048 * (32 + 8) * 128 + 32 * 128 * 2048
    # One token wakes its 8; the router is small and left out of the roofline.
    assert model.dense_ps(1) / 1e12 == pytest.approx(48 * 2 * attention / 3.35e12, rel=1e-6)
    assert model.shared_ps(1, 0) / 1e12 == pytest.approx(48 * 2 * 8 * expert / 3.35e12, rel=1e-6)
    mlp = on.groups[0].feed_forward
    assert on.awake_experts(mlp, 1) == pytest.approx(8)
    assert on.awake_experts(mlp, 2) == pytest.approx(128 * (1 - (120 / 128) ** 2))
    assert on.awake_experts(mlp, 10_000) == pytest.approx(128)


def test_shared_experts_are_read_in_part() -> None:
    model, gpu = load_model("qwen3-30b-a3b"), load_accelerator("h100-sxm")
    alone, shared = Deployment(model, gpu), Deployment(model, gpu, engines=2)
    mlp = alone.groups[0].feed_forward
    assert shared.awake_experts(mlp, 16) == pytest.approx(alone.awake_experts(mlp, 16) / 2)


def test_quantised_weights_are_read_and_computed_faster() -> None:
    gpu = load_accelerator("h100-sxm")
    plain, fp8 = (
        Roofline(Deployment(model, gpu), Efficiency(**IDEAL, sampler_s=0.0), Host())
        for model in (load_model("qwen3-8b"), _quantised("qwen3-8b"))
    )
    assert plain.dense_ps(1) == pytest.approx(2 * fp8.dense_ps(1), rel=1e-6)
    assert plain.dense_ps(8192) == pytest.approx(2 * fp8.dense_ps(8192), rel=2e-3)


def _quantised(name: str) -> object:
    from dataclasses import replace

    return replace(load_model(name), quantization="fp8")
