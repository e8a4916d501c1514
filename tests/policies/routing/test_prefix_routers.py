"""Routers that keep an index of prefixes, each on cases worked out by hand."""

from __future__ import annotations

from math import exp

import pytest

from agentservesim.model import Path, Segment
from agentservesim.policies.protocols import Choice
from agentservesim.policies.routing import DynamoKv, LlmD, Preble, PrefixAware, RayPrefix
from tests.policies.parts import asks, begun, first_token, last_token, views

TRUNK = Segment()


def prompt(tokens: int) -> Path:
    """The first tokens of one long text."""
    return ((TRUNK, tokens),)


def other(tokens: int) -> Path:
    """A text like no other."""
    return ((Segment(), tokens),)


# ---- SGLang -----------------------------------------------------------------------------------


def test_prefix_aware_follows_a_match_above_its_threshold() -> None:
    """The first turn goes to the smallest index, 0; then 100 of 300 are a third, of 340 less than 0.3."""
    router = begun(PrefixAware())
    assert router.route(asks("a", path=prompt(100)), views(0, 0, 0), 0.0).index == 0
    choice = router.route(asks("b", path=((TRUNK, 100), (Segment(100, TRUNK), 300))), views(0, 0, 0), 0.0)
    assert choice == Choice(0, [100 / 300, 0.0, 0.0])
    # 100 of 340 are 0.294: to the smallest index, 1 before 2
    choice = router.route(asks("c", path=((TRUNK, 100), (Segment(100, TRUNK), 340))), views(0, 0, 0), 0.0)
    assert choice.index == 1


def test_prefix_aware_goes_by_load_when_that_is_out_of_balance() -> None:
    """Instance 0 has 3 turns more than the others (above 2) and more than 1.5 times theirs."""
    router = begun(PrefixAware(balance_abs=2))
    for number in range(4):
        chosen = router.route(asks(str(number), path=prompt(100)), views(0, 0, 0), 0.0).index
        assert chosen == (0 if number < 3 else 1)
    # the books are its own: what the instances report does not count, a last token does
    router.observe(last_token(asks("0"), 0))
    assert router.route(asks("4", path=prompt(100)), views(9, 0, 0), 0.0).index == 0


def test_prefix_aware_cuts_its_indexes_every_two_minutes() -> None:
    router = begun(PrefixAware(capacity=60), 1)
    seen = []
    for at in (0.0, 10.0, 119.0, 120.0, 121.0):
        seen.append(router.route(asks(path=prompt(100)), views(0), at).scores)
    # at 120 s 60 of 100 tokens are kept, until the turn is added
    assert seen == [[0.0], [1.0], [1.0], [0.6], [1.0]]


# ---- Ray --------------------------------------------------------------------------------------


def test_ray_prefix_follows_a_tenth_in_balance() -> None:
    router = begun(RayPrefix())
    assert router.route(asks(path=prompt(100)), views(0, 0, 0), 0.0).index == 0
    longer = ((TRUNK, 100), (Segment(100, TRUNK), 1000))
    assert router.route(asks(path=longer), views(10, 0, 0), 0.0).index == 0  # a tenth; a spread of 10
    nearly = ((TRUNK, 100), (Segment(100, TRUNK), 1010))
    assert router.route(asks(path=nearly), views(0, 0, 0), 0.0).index == 1  # the smallest index


def test_ray_prefix_takes_the_better_of_two_out_of_balance() -> None:
    router = begun(RayPrefix(), 2)
    router.route(asks(path=prompt(100)), views(0, 0), 0.0)
    assert router.route(asks(path=prompt(100)), views(11, 0), 0.0) == Choice(1, [1.0, 0.0])


# ---- Dynamo -----------------------------------------------------------------------------------


def test_dynamo_counts_blocks_to_compute_and_blocks_to_hold() -> None:
    """Blocks of 10 tokens, weight 2.

    a (100 tokens): 2 * 10 + 10 = 30 everywhere: instance 0.
    b (the same 100 and 40 more): 0 has 10 blocks being computed and 4 more to compute, 10 held and 14 more;
    the others 14 and 14: 2 * (10 + 4) + 24 = 52 and 2 * 14 + 14 = 42: instance 1.
    """
    router = begun(DynamoKv(overlap_weight=2.0), 2)
    a, b = asks("a", path=prompt(100)), asks("b", path=prompt(140))
    assert router.route(a, views(0, 0), 0.0) == Choice(0, [30.0, 30.0])
    assert router.route(b, views(0, 0), 0.0) == Choice(1, [52.0, 42.0])
    # a's first token, b's last: 0 has nothing to compute and holds 10, 1 nothing at all;
    # c is b's prompt: 0 has 100 of it: 2 * 4 + 10 + 14 = 32, 1 has it all: 14
    router.observe(first_token(a, 0))
    router.observe(first_token(b, 1))
    router.observe(last_token(b, 1))
    c = asks("c", path=prompt(140))
    assert router.route(c, views(0, 0), 119.0) == Choice(1, [32.0, 14.0])
    router.observe(last_token(c, 1))
    # two minutes after b, but not after c, whose use made it young; a's is out of date: 2 * 14 + 10 + 14
    assert router.route(asks("d", path=prompt(140)), views(0, 0), 121.0).scores == [52.0, 14.0]


def test_dynamo_counts_whole_blocks_of_a_match() -> None:
    router = begun(DynamoKv(), 2)
    a = asks("a", path=prompt(15))
    router.route(a, views(0, 0), 0.0)
    router.observe(last_token(a, 0))
    # one block of two is cached; the other 5 tokens are half a block: 0.5 + 2 against 1.5 + 2
    assert router.route(asks("b", path=prompt(15)), views(0, 0), 0.0).scores == [2.5, 3.5]


def test_dynamo_draws_by_temperature() -> None:
    """Two instances, costs scaled to 0 and 1: at temperature 0.5 the dearer one has e^-2 of the weight."""
    chosen = []
    for seed in range(3000):
        router = begun(DynamoKv(temperature=0.5), 2, seed)
        router._books.held[1] = 7
        chosen.append(router.route(asks(), views(0, 0), 0.0).index)
    share = exp(-2) / (1 + exp(-2))  # 0.119
    assert abs(sum(chosen) / 3000 - share) < 0.024  # four standard deviations
    with pytest.raises(ValueError, match="temperature"):
        DynamoKv(temperature=-1)


# ---- llm-d ------------------------------------------------------------------------------------


def test_llm_d_adds_three_scorers() -> None:
    """A prompt of 200 tokens has 3 full blocks of 64; the index has 130 of it, 2 blocks, at instance 2.

    0: kv 40/100, queue (6 - 2) / (6 - 2) = 1: 0.4 + 1 = 1.4
    1: kv 1, queue 0: 1
    2: prefix 2 * 2/3, kv 0.2, queue (6 - 4) / 4 = 0.5: 2.0333
    """
    router = begun(LlmD())
    router._index.insert(2, prompt(130), 0.0)
    fleet = views(0, 0, 0)
    for view, free, waiting in zip(fleet, (40, 100, 20), (2, 6, 4), strict=True):
        view.free_blocks, view.waiting = free, waiting
    choice = router.route(asks(path=prompt(200)), fleet, 0.0)
    assert choice.index == 2
    assert choice.scores == pytest.approx([1.4, 1.0, 2 * 2 / 3 + 0.2 + 0.5])


def test_llm_d_counts_queues_alike_if_they_are_equal_and_forgets_what_does_not_fit() -> None:
    router = begun(LlmD(capacity=2), 2)
    fleet = views(0, 0)
    assert router.route(asks(path=other(256)), fleet, 0.0).scores == [2.0, 2.0]
    # 128 of 256 tokens are kept
    assert router._index.tokens == [128, 0]
    assert router.route(asks(path=other(256)), fleet, 1.0).index == 0


# ---- Preble -----------------------------------------------------------------------------------


def test_preble_explores_by_load_eviction_and_missed_prefill() -> None:
    """A prompt token takes 1 ms, a pool has 1000 tokens.

    a, 600 new tokens: 0.6 s of prefill everywhere: instance 0, which has 0.6 s of load now.
    b, 500 others: 0: L 0.6, M 100 tokens to evict, but nothing there was ever hit: 0, P 0.5; 1: P 0.5 alone.
    """
    router = begun(Preble(), 2)
    assert router.route(asks("a", path=prompt(600)), views(0, 0), 0.0) == Choice(0, [0.6, 0.6])
    assert router.route(asks("b", path=other(500)), views(0, 0), 1.0) == Choice(1, [1.1, 0.5])
    # c has 600 of 700 at 0, which is more than the rest: 0, though it is loaded with 0.6 s, not 0.5 s
    choice = router.route(asks("c", path=prompt(700)), views(0, 0), 2.0)
    assert choice.index == 0
    # d, 400 others: 0 has 0.7 s of load; 100 of its 700 + 400 tokens go, and of 1300 prompt tokens there
    # 600 were hits: 0.7 + 0.1 * 600 / 1300 + 0.4; 1 has room: 0.5 + 0.4
    choice = router.route(asks("d", path=other(400)), views(0, 0), 3.0)
    assert choice.scores == pytest.approx([0.7 + 0.1 * 600 / 1300 + 0.4, 0.9])
    assert choice.index == 1


def test_preble_leaves_a_holder_that_is_out_of_balance() -> None:
    """Load of 0.7 s against 0.4 s is more than 1.5 times."""
    for other_load, chosen in ((400, 1), (500, 0)):
        router = begun(Preble(), 2)
        router.route(asks("a", path=prompt(700)), views(0, 0), 0.0)
        router.route(asks("b", path=other(other_load)), views(0, 0), 0.0)
        assert router.route(asks("c", path=prompt(710)), views(0, 0), 0.0).index == chosen


def test_preble_forgets_load_after_three_minutes_and_counts_decoding() -> None:
    """Replies had 40 tokens on average; a row of 4 has a quarter of steps of 0.1 s: 1 s a turn."""
    router = begun(Preble(), 2)
    fleet = views(0, 0)
    fleet[0].running, fleet[0].step_s = 4, 0.1
    router.observe(last_token(asks("x"), 0, reply=30))
    router.observe(last_token(asks("y"), 0, reply=50))
    router.route(asks("a", path=prompt(100)), fleet, 0.0)
    assert router.route(asks("b", path=other(200)), fleet, 180.0).scores == pytest.approx([1.1 + 0.2, 0.2])
    assert router.route(asks("c", path=other(200)), fleet, 180.1).scores == pytest.approx([0.2, 0.4])
