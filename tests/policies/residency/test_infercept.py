"""InferCept's min-waste. 100 tokens are computed in 5 s; with 50 tokens running, discarding them
wastes 5 * (100 / 2 + 50) = 500 token-seconds, as much as 5 s of preserving."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentservesim.model import Workload
from agentservesim.policies.protocols import ChainView, GapEnded, Placement, ServerView
from agentservesim.policies.residency import InferCept, PinAlways
from tests.policies.residency import views
from tests.policies.residency.views import Server, agents, gap, run


def test_it_preserves_until_that_wastes_more() -> None:
    policy, chain = InferCept(), gap(started_s=10)
    for elapsed_s in (0.0, 3.0, 5.0):
        server = Server(now_s=10 + elapsed_s, running_tokens=50, tiers=())
        assert policy.place(chain, server) == Placement("hbm", server.now_s + 0.1)
    assert policy.place(chain, Server(now_s=15.1, running_tokens=50, tiers=())) == Placement("drop")


def test_it_swaps_what_the_link_has_time_for() -> None:
    policy = InferCept()
    large, small = gap("large"), gap("small", tokens=50)
    for chain in (large, small):
        assert policy.place(chain, Server(running_tokens=50)) == Placement("hbm", 0.1)  # nothing wasted yet
    # after 1 s `large` wastes 100 and goes first; it keeps the link for 1 s, of a budget of 0.1 s
    assert policy.place(small, Server(now_s=1, running_tokens=50)) == Placement("hbm", 1.1)
    assert policy.place(large, Server(now_s=1, running_tokens=50)) == Placement("dram")
    assert policy.place(small, Server(now_s=1.1, running_tokens=50)) == Placement("dram")


def test_a_mean_gap_may_decide_at_once() -> None:
    server = Server(running_tokens=50, tiers=())
    policy = InferCept(gap="mean")
    assert policy.place(gap(), server) == Placement("hbm", 0.1)  # 1 s, unseen: 100 against 500
    policy.observe(GapEnded(gap(), 6.0))
    assert policy.place(gap(), server) == Placement("drop")  # 600


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
