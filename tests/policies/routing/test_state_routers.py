"""Routers that look at what instances have cached, each on cases worked out by hand."""

from __future__ import annotations

import pytest

from agentservesim.policies.protocols import Choice, Move, QueuedTurn
from agentservesim.policies.routing import LMetric, Mooncake, SagaRouter
from tests.policies.parts import Whole, asks, begun, first_token, last_token, views

# ---- LMetric ----------------------------------------------------------------------------------


def test_lmetric_multiplies_new_tokens_and_batch_size() -> None:
    """A prompt of 16; 1 has 10 of it: 16 * 1, 6 * 1, 16 * 1. Then 1 has 6 to compute and a batch of one:
    16, (6 + 6) * 2, 16; after its first token 6 * 2."""
    router = begun(LMetric())
    fleet = views(0, 0, 0)
    fleet[1].cached = 10
    a = asks("a")
    assert router.route(a, fleet, 0.0) == Choice(1, [16, 6, 16])
    assert router.route(asks("b"), fleet, 0.0) == Choice(0, [16, 24, 16])
    router.observe(first_token(a, 1))
    assert router.route(asks("c"), fleet, 0.0) == Choice(1, [32 * 2, 6 * 2, 16])
    router.observe(last_token(a, 1))
    assert router.route(asks("d"), fleet, 0.0).scores == [64, 24, 16]


# ---- Mooncake ---------------------------------------------------------------------------------


def test_mooncake_without_a_network_adds_queue_and_prefill() -> None:
    """1 ms a token. a: 16 ms, or 6 ms where 10 are cached. b: 6 ms more to wait there: 12 ms still."""
    router = begun(Mooncake())
    fleet = views(0, 0, 0)
    fleet[1].cached = 10
    a = asks("a")
    choice = router.route(a, fleet, 0.0)
    assert (choice.index, choice.source) == (1, None)
    assert choice.scores == pytest.approx([0.016, 0.006, 0.016])
    assert router.route(asks("b"), fleet, 0.0).scores == pytest.approx([0.016, 0.012, 0.016])
    router.observe(first_token(a, 1))
    assert router.route(asks("c"), fleet, 0.0).scores == pytest.approx([0.016, 0.012, 0.016])
    assert router.route(asks("d"), fleet, 0.0).index == 0  # three turns of 6 ms are 18 ms


def test_mooncake_sends_a_longer_prefix_over_the_network() -> None:
    """2 has 10 of 16 and a queue of 20 ms; a token takes 0.1 ms over the network.

    0 has 4: 6 tokens to send, 6 to compute: 0.6 + 6 = 6.6 ms; 1 has none: 1 + 6 = 7; 2: 20 + 6 = 26.
    """
    router = begun(Mooncake())
    fleet = views(0, 0, 0)
    for view, cached in zip(fleet, (4, 0, 10), strict=True):
        view.cached, view.send_s = cached, 1e-4
    router._books.prefill[2] = 0.02
    choice = router.route(asks(), fleet, 0.0)
    assert choice.scores == pytest.approx([0.0066, 0.007, 0.026])
    assert (choice.index, choice.source) == (0, 2)
    # within three times of the best nothing is sent: 0 computes 12
    assert begun(Mooncake(balance=3)).route(asks(), fleet, 0.0).scores[0] == pytest.approx(0.012)


# ---- SAGA -------------------------------------------------------------------------------------


def test_saga_goes_home_while_its_kv_is_there_and_there_is_room() -> None:
    fleet = views(0, 0, 0)
    for view, free in zip(fleet, (50, 30, 60), strict=True):
        view.free_blocks = free
    fleet[1].cached = 8  # half of 16
    router = begun(SagaRouter())
    choice = router.route(asks(home=1), fleet, 0.0)
    assert choice.index == 1
    assert choice.scores == pytest.approx([0.5, 0.7, 0.4])
    fleet[1].cached = 7
    assert router.route(asks(home=1), fleet, 0.0).index == 2
    fleet[1].cached, fleet[1].free_blocks = 16, 20  # 0.8 of the blocks are in use
    assert router.route(asks(home=1), fleet, 0.0).index == 2


def test_saga_takes_the_fewest_turns_of_equal_loads() -> None:
    assert begun(SagaRouter()).route(asks(), views(4, 1, 2), 0.0).index == 1


def test_saga_steals_the_longest_waiting_turn_for_an_idle_instance() -> None:
    """Instance 0 has 2 turns: only 2 has more than twice as many. It must be idle for two ticks."""
    fleet = views(2, 4, 5)
    for view, waiting in ((fleet[1], 2), (fleet[2], 2)):
        view.waiting = waiting
        view.queue = [QueuedTurn(f"p{view.index}", f"s{n}", 10.0 - n) for n in range(2)]
    router = begun(SagaRouter())
    assert list(router.rebalance(Whole(fleet, now_s=20.0))) == []
    assert list(router.rebalance(Whole(fleet, now_s=20.0))) == [Move("p2", "s1", 0, transfer=False)]
    fleet[0].waiting = 1
    assert list(router.rebalance(Whole(fleet, now_s=20.0))) == []
    fleet[0].waiting = 0
    assert list(router.rebalance(Whole(fleet, now_s=20.0))) == []  # idle again, but not for long enough


def test_saga_draws_whom_to_steal_from() -> None:
    fleet = views(0, 1, 1)
    for view in fleet[1:]:
        view.waiting, view.queue = 1, [QueuedTurn(f"p{view.index}", "s", 0.0)]
    stolen = set()
    for seed in range(20):
        router = begun(SagaRouter(), seed=seed)
        list(router.rebalance(Whole(fleet, now_s=20.0)))
        stolen |= {move.program_id for move in router.rebalance(Whole(fleet, now_s=20.0))}
    assert stolen == {"p1", "p2"}


def test_saga_leaves_a_turn_to_an_idle_instance_that_starts_it_now() -> None:
    fleet = views(0, 1)
    fleet[1].waiting, fleet[1].queue = 1, [QueuedTurn("p", "s", 5.0)]
    router = begun(SagaRouter(), instances=2)
    stolen = [Move("p", "s", 0, transfer=False)]
    assert [list(router.rebalance(Whole(fleet, now_s=5.0))) for _ in range(2)] == [[], []]
    assert list(router.rebalance(Whole(fleet, now_s=5.1))) == stolen, "it waits"
    fleet[1].running = 1
    assert list(router.rebalance(Whole(fleet, now_s=5.0))) == stolen, "others run"
