"""Prompt caching as providers sell it: its times and its prices."""

from __future__ import annotations

import pytest

from agentservesim.policies.protocols import GapEnded, Placement, TurnAdmitted
from agentservesim.policies.residency import CacheTtl
from tests.policies.residency.views import Server, gap


def test_what_comes_back_too_late_is_written_again_be_it_at_hand_or_not() -> None:
    policy = CacheTtl(ttl_s=300.0, input_price=1.0)
    policy.observe(TurnAdmitted("p", "p", 0.0, 1000, 0))
    policy.observe(GapEnded(gap(), 300.0))
    policy.observe(TurnAdmitted("p", "p", 0.0, 1500, 1000))
    assert policy.figures()["prompt_cost_usd"] == pytest.approx(1e-6 * 2500 * 1.25)
    policy.observe(GapEnded(gap(), 299.0))  # that was a use, from which the time counts anew
    policy.observe(TurnAdmitted("p", "p", 0.0, 1600, 1500))
    assert policy.figures()["prompt_cost_usd"] == pytest.approx(1e-6 * (2600 * 1.25 + 1500 * 0.1))


def test_it_keeps_for_its_time_and_then_forgets() -> None:
    policy = CacheTtl()
    assert policy.place(gap(started_s=10), Server(now_s=10)) == Placement("hbm", 310)
    assert policy.place(gap(started_s=10), Server(now_s=310)) == Placement("drop")
    # a use in between starts the time again: the next gap has its own
    assert policy.place(gap(started_s=200), Server(now_s=200)) == Placement("hbm", 500)
    assert CacheTtl(ttl_s=3600, tier="dram").place(gap(), Server()) == Placement("dram", 3600)


@pytest.mark.parametrize(
    ("ttl_s", "write_price", "factor"), [(300, 0, 1.25), (3600, 0, 2.0), (300, 1.1, 1.1)]
)
def test_what_it_costs(ttl_s: float, write_price: float, factor: float) -> None:
    policy = CacheTtl(ttl_s=ttl_s, write_price=write_price, input_price=2.0)
    policy.observe(TurnAdmitted("p", "p", 0.0, 1000, 0))
    policy.observe(GapEnded(gap(), 5.0))
    policy.observe(TurnAdmitted("p", "p", 0.0, 1500, 1000))
    policy.observe(TurnAdmitted("p", "p", 0.0, 1600, 400))  # the same turn, after a preemption
    # written 1000 + 500, read 1000; 2 dollars for a million
    assert policy.figures() == pytest.approx(
        {"prompt_cost_usd": 2e-6 * (1500 * factor + 1000 * 0.1), "prompt_cost_uncached_usd": 2e-6 * 2500}
    )
