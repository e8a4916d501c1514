"""InferCept's min-waste. 100 tokens are computed in 5 s; with 50 tokens running, discarding them
wastes 5 * (100 / 2 + 50) = 500 token-seconds, as much as 5 s of preserving."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentservesim.model import Workload
from agentservesim.policies.protocols import ChainView, GapEnded, PinBroken, Placement, ServerView
from agentservesim.policies.residency import InferCept, PinAlways
from tests.policies.residency import views
from tests.policies.residency.views import Server, agents, gap, run


def test_it_preserves_until_that_wastes_more() -> None:
    policy, chain = InferCept(), gap(started_s=10)
    assert policy.place(chain, bare(10.0)) == Placement("hbm")
    for now_s in (10.1, 13.0, 15.0):
        assert list(policy.tick([chain], bare(now_s))) == []
    assert list(policy.tick([chain], bare(15.1))) == [(chain, Placement("drop"))]
    assert list(policy.tick([chain], bare(15.2))) == []


def test_it_looks_again_half_way_to_the_moment_at_which_it_would_change_its_mind() -> None:
    policy, chain = InferCept(), gap(started_s=10)
    policy.place(chain, bare(10.0, running=150))  # 5 * (100 / 2 + 150): good for 10 s
    assert list(policy.tick([chain], bare(14.9, running=0))) == []  # 5 * 100 / 2: was good for 2.5 s
    assert list(policy.tick([chain], bare(15.0, running=0))) == [(chain, Placement("drop"))]


def test_it_minds_how_little_ran_when_a_turn_ended() -> None:
    policy, chain = InferCept(), gap(started_s=10)
    policy.place(chain, bare(10.0, running=150))  # good for 10 s, and for 5 if no fewer than 50 run
    policy.place(gap("other", started_s=12.4), bare(12.4, running=60))
    assert list(policy.tick([chain], bare(12.9, running=150))) == []
    policy.place(gap("another", started_s=12.9), bare(12.9, running=0))
    assert list(policy.tick([chain], bare(13.0, running=150))) == [(chain, Placement("drop"))]  # 300 to 250


def test_what_gave_way_is_pinned_again_as_far_as_it_is_there() -> None:
    policy, chain = InferCept(), gap(started_s=10)
    policy.place(chain, bare(10.0))
    policy.observe(PinBroken(0, "p", "p"))
    assert list(policy.tick([chain], bare(10.1))) == [(chain, Placement("hbm"))]
    assert list(policy.tick([chain], bare(10.2))) == []


def test_it_swaps_what_the_link_has_time_for() -> None:
    policy = InferCept()
    large, small = gap("large"), gap("small", tokens=50)
    for chain in (large, small):
        assert policy.place(chain, Server(running_tokens=50)) == Placement("hbm")  # nothing wasted yet
    # after 1 s `large` wastes 100 and goes first; it keeps the link for 1 s, of a budget of 0.1 s
    chains = [small, large]
    assert list(policy.tick(chains, Server(now_s=1, running_tokens=50))) == [(large, Placement("dram"))]
    assert list(policy.tick(chains, Server(now_s=1.1, running_tokens=50))) == [(small, Placement("dram"))]


def test_who_is_back_is_not_decided_on() -> None:
    policy, chain = InferCept(), gap()
    policy.place(chain, bare(0.0))
    policy.observe(GapEnded(chain, 4.0))
    assert list(policy.tick([], bare(9.0))) == []


def test_a_mean_gap_may_decide_at_once() -> None:
    policy = InferCept(gap="mean")
    assert policy.place(gap(), bare(0.0)) == Placement("hbm")  # 1 s, unseen: 100 against 500
    policy.observe(GapEnded(gap(), 6.0))
    assert policy.place(gap(), bare(0.0)) == Placement("drop")  # 600


def bare(now_s: float, running: int = 50) -> Server:
    """A server without a lower tier."""
    return Server(now_s=now_s, running_tokens=running, tiers=())


def test_the_rungs_of_the_ladder() -> None:
    server = Server(running_tokens=50)
    assert InferCept(preserve=False, swap=False).place(gap(), server) == Placement("drop")
    assert InferCept(preserve=False).place(gap(), server) == Placement("dram")
    with pytest.raises(ValueError, match="gap must be elapsed or mean, not 'p95'"):
        InferCept(gap="p95")


def test_with_gaps_of_nothing_it_always_preserves(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []

    class Spy(InferCept):
        def place(self, chain: ChainView, server: ServerView) -> Placement:
            placed.append(super().place(chain, server))
            return placed[-1]

    monkeypatch.setattr(views, "agents", without_gaps)
    preserving = run(Spy())
    assert {placement.tier for placement in placed} == {"hbm"}
    assert len(placed) >= 8 * 5
    assert preserving.same_as(run(PinAlways()))


def without_gaps() -> Workload:
    """`agents()` in a hurry: every turn follows at once."""
    return Workload(
        tuple(
            replace(
                program,
                turns=tuple(
                    replace(
                        turn,
                        tools=(),
                        dependencies=tuple(replace(d, delay_ps=0) for d in turn.dependencies),
                    )
                    for turn in program.turns
                ),
            )
            for program in agents().programs
        )
    )
