"""Collectives by the alpha-beta model, on one node and over several."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.base import Batch, WaveTime
from agentservesim.cost.collectives import LINK_EFFICIENCY, Collectives, Group
from agentservesim.cost.config import Efficiency
from agentservesim.cost.deployment import Deployment, Network
from agentservesim.cost.measured import load_measured
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.operators import Host
from agentservesim.cost.roofline import Roofline

CARD = load_accelerator("rtx-4090")
"""PCIe, and no measured collectives."""

NODES = Network(gpus_per_node=4, bytes_per_s=10e9, latency_s=20e-6)


def test_a_group_on_one_node_uses_the_accelerators_own_links() -> None:
    group = Group.of(CARD, NODES, 4, 4)
    rate = CARD.link_bytes_per_s * LINK_EFFICIENCY
    # Each of four sends 2 x 3/4 of the message.
    assert group.all_reduce_s(8e6) == pytest.approx(15e-6 + 1.5 * 8e6 / rate)
    assert group.gather_s(8e6) == pytest.approx(15e-6 + 8e6 / rate)


def test_a_group_over_nodes_shares_their_adapters() -> None:
    """Eight on two nodes of four: rings cross over four adapters of 10 GB/s, or links that are slower.
    Two of which each is on another node have one adapter each."""
    eight, two = Group.of(CARD, NODES, 8, 8), Group.of(CARD, NODES, 2, 8)
    rate = min(CARD.link_bytes_per_s, 40e9) * LINK_EFFICIENCY
    assert eight.all_reduce_s(8e6) == pytest.approx(35e-6 + 1.75 * 8e6 / rate)
    assert two.send_s(8e6) == pytest.approx(35e-6 + 8e6 / (10e9 * LINK_EFFICIENCY))


def test_nobody_talks_to_itself() -> None:
    alone = Group.of(CARD, NODES, 1, 1)
    assert alone.all_reduce_s(1e9) == alone.gather_s(1e9) == alone.send_s(1e9) == 0.0


def test_a_layer_s_collectives_by_hand() -> None:
    """Two ranks: two all-reduces a layer and one after the embedding, of 10 tokens x 4096 x 2 bytes."""
    model = load_model("llama-3.1-8b")
    links = Collectives.of(Deployment(model, CARD, ranks=2))
    rate = CARD.link_bytes_per_s * LINK_EFFICIENCY
    assert links.layers_s(model, 10) == pytest.approx(65 * (15e-6 + 81_920 / rate))
    # Three stages: states and residual are handed on twice.
    stages = Collectives.of(Deployment(model, CARD, stages=3))
    assert stages.layers_s(model, 10) == pytest.approx(2 * (15e-6 + 2 * 81_920 / rate))


def test_experts_get_the_tokens_of_all_engines() -> None:
    """48 sparse layers: tokens of 2048 x 2 bytes come in, their sums go out."""
    model = load_model("qwen3-30b-a3b")
    links = Collectives.of(Deployment(model, CARD, engines=2))
    rate = CARD.link_bytes_per_s * LINK_EFFICIENCY
    assert links.exchange_s(model, 100) == pytest.approx(2 * 48 * (15e-6 + 100 * 4096 / rate))
    assert Collectives.of(Deployment(model, CARD)).exchange_s(model, 100) == 0.0


def test_gathering_is_as_measured_by_the_bytes_of_all() -> None:
    card, measured = load_accelerator("rtx-pro-6000"), load_measured("rtx-pro-6000")
    assert measured is not None
    for ranks in (2, 4, 8):
        group = Group.of(card, Network(), ranks, ranks)
        gather, scatter = (measured.collective(name, ranks) for name in ("all_gather", "reduce_scatter"))
        assert gather is not None
        assert scatter is not None
        received = 8e6 * (ranks - 1) / ranks
        assert group.gather_s(received) == pytest.approx(gather.at([8e6])[0] / 1e6)
        assert group.scatter_s(received) == pytest.approx(scatter.at([8e6])[0] / 1e6)
        assert (
            received / card.link_bytes_per_s < group.gather_s(received) < 3 * received / card.link_bytes_per_s
        )
    # Three were not measured, nor were two on two nodes.
    assert Group.of(card, Network(), 3, 3).all_gather is None
    assert Group.of(card, Network(gpus_per_node=1), 2, 2).all_gather is None


def test_unequal_numbers_of_tokens_are_sent_one_rank_after_another() -> None:
    model = load_model("qwen3-30b-a3b")
    time = Roofline(Deployment(model, CARD, engines=2), Efficiency(), Host(engines=2))
    even, uneven = (time.wave_ps(tokens, [0, 0], True) for tokens in ([1000, 1000], [1000, 999]))
    more = time.shared_ps(1999, 1999) - time.shared_ps(2000, 1000)
    assert uneven - even == more > 0


def test_more_nodes_are_never_faster() -> None:
    model = load_model("qwen3-30b-a3b")
    near = Roofline(Deployment(model, CARD, engines=8), Efficiency(), Host(engines=8))
    far = Roofline(
        Deployment(model, CARD, engines=8, network=replace(NODES, gpus_per_node=2)),
        Efficiency(),
        Host(engines=8),
    )
    batch = Batch.of(near.knots, contexts=[300] * 16)
    assert far.step_ps(batch) > near.step_ps(batch)


def test_engines_together_last_at_least_as_long_as_each_needs() -> None:
    """A wave of unequal ranks is no faster than any of them by itself, and than the wave without it."""
    config = CostConfig(model="qwen3-30b-a3b", gpu="h100-sxm", data_parallel_size=4)
    cost = build_cost(config, block_size=16, max_num_batched_tokens=8192, max_num_seqs=256)
    time = cost.step_time
    assert isinstance(time, WaveTime)
    busy = [[(2000, 0)], [], [(5, 30_000)], []]
    rows = [[], [500] * 100, [40_000], []]
    batches = [Batch.of(time.knots, chunks, contexts) for chunks, contexts in zip(busy, rows, strict=True)]
    tokens = [
        sum(new for new, _ in chunks) + len(contexts) for chunks, contexts in zip(busy, rows, strict=True)
    ]
    own = [time.rows_ps(batch) if count else 0 for batch, count in zip(batches, tokens, strict=True)]
    together = time.wave_ps(tokens, own, True)
    for rank in range(4):
        assert together >= time.rank_ps(tokens, rank, own[rank])
        fewer = [count if r != rank else 0 for r, count in enumerate(tokens)]
        without = [ps if r != rank else 0 for r, ps in enumerate(own)]
        assert together >= time.wave_ps(fewer, without, True)
