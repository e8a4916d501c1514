"""The cheapest of holding, demoting and computing again; the same with gaps known."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from agentservesim.policies.protocols import CACHE, GapEnded, OraclePolicy, Placement, TurnAdmitted
from agentservesim.policies.residency import Belady, CostAware, Lru, OracleGap
from agentservesim.policies.residency.cost_aware import best_hold_s
from tests.policies.residency.views import Server, gap, run


@pytest.mark.parametrize(
    ("found_s", "again_s", "keeps_s", "hold_s"),
    [
        # held until 0, 1, 2, 10: 0, 1 + 1 + 1, 1 + 2 + 2, 1 + 2 + 10; beyond: 3, 2, 1, 0 of 3 s each
        (3, 3, inf, 2),  # 9, 9, 8, 13
        (0.5, 30, inf, 0),  # 1.5, 4, 5.5, 13
        (0.5, 30, 5, 10),  # the rest of 10 is lost: 31, 33.5, 35, 13
        (0.6, 4.5, 1, 1),  # what is lost, more than 1 s behind: 9.6, 8.1, 9.5, 13
    ],
)
def test_how_long_to_hold(found_s: float, again_s: float, keeps_s: float, hold_s: float) -> None:
    assert best_hold_s(np.array([1.0, 2.0, 10.0]), found_s, again_s, keeps_s) == hold_s
    assert best_hold_s(np.empty(0), found_s, again_s, keeps_s) == 0


def learnt() -> CostAware:
    policy = CostAware(min_samples=2)
    for gap_s in (2.0, 10.0, 1.0):
        policy.observe(GapEnded(gap("other"), gap_s))
    return policy


def test_what_is_not_held_is_demoted_when_it_is_evicted() -> None:
    assert CostAware().place(gap(), Server()) == CACHE
    assert CostAware(tier="ssd").spill == {"hbm": "ssd"}


def test_it_learns_what_is_not_kept() -> None:
    # 60 tokens are computed in 3 s, 4.5 s with the 60 that run; loaded in 0.6 s
    policy, chain, server = learnt(), gap(tokens=60), Server(running_tokens=60, tiers=("dram",))
    assert policy.place(chain, server) == CACHE
    policy.observe(GapEnded(chain, 1.0))
    policy.observe(TurnAdmitted("p", "p", 0.0, 70, 0))
    # lost after 1 s, and gaps are 1, 1, 2, 10: 10.2 at once, 4 + 5.1 from 1 s, 6 + 4.5 from 2 s, 14
    assert policy.place(chain, server) == Placement("hbm", 1.0)
    # and after that second: 2 and 10 remain, 1 and 9 from now: 0.6 + 4.5 against 2 + 4.5 and 10
    assert policy.place(chain, Server(now_s=1.0, running_tokens=60, tiers=("dram",))) == CACHE


def test_it_learns_what_is_kept() -> None:
    policy, chain, server = CostAware(), gap(tokens=60), Server(running_tokens=60, tiers=("dram",))
    for gap_s, hit in ((10.0, 0), (8.0, 0), (20.0, 60), (9.5, 60)):
        policy.place(chain, server)
        policy.observe(GapEnded(chain, gap_s))
        policy.observe(TurnAdmitted("p", "p", 0.0, 70, hit))
    # 10, then 9 by a loss at 8 s, 9.9 by a find at 20 s; a find at 9.5 s is what was thought
    assert policy._keeps.s == pytest.approx(9.9)


def test_without_a_tier_it_is_held_or_left_to_lru() -> None:
    policy, chain, server = learnt(), gap(tokens=60), Server(running_tokens=60, tiers=())
    assert policy.place(chain, server) == CACHE
    policy.observe(GapEnded(chain, 1.0))
    policy.observe(TurnAdmitted("p", "p", 0.0, 70, 0))
    assert policy.place(chain, server) == Placement("hbm", 1.0)  # 9, 4 + 4.5, 6 + 4.5, 14


def test_loading_from_a_slow_tier_is_computing() -> None:
    # 60 tokens are loaded in 6 s, computed in 1.5 s; held for 1 s, 2 s or 10 s: 4.5, 6, 6.5, 13
    policy = learnt()
    chain, server = gap(tokens=60), Server(tiers=("dram",), tokens_per_s={"dram": 10.0})
    assert policy.place(chain, server) == CACHE
    # 4.5, 3 + 3, 5 + 1.5, 13 if loading were taken for what it is: 18, 15, 11, 13
    assert best_hold_s(np.array([1.0, 2.0, 10.0]), 6.0, 1.5, inf) == 2


def test_an_oracle_holds_through_what_is_shorter_than_a_reload() -> None:
    policy, server = OracleGap(), Server(now_s=5, tiers=("dram",), running_tokens=60)
    chain = gap(tokens=60, started_s=5)
    policy.next_use_s["p", "p"] = 5.5
    assert policy.place(chain, server) == Placement("hbm", 5.5)
    policy.next_use_s["p", "p"] = 5.7
    assert policy.place(chain, server) == CACHE
    del policy.next_use_s["p", "p"]
    assert policy.place(chain, server) == CACHE


def test_belady_evicts_first_what_is_used_last() -> None:
    policy = Belady()
    policy.next_use_s.update({("a", "p"): 3.0, ("b", "p"): 9.0})
    chains = [gap(program=name) for name in "abc"]
    assert [chain.program_id for chain in policy.rank("hbm", chains, Server())] == ["c", "b", "a"]
    assert policy.place(chains[0], Server()) == CACHE
    assert Belady(copy_to="dram").place(chains[0], Server()) == Placement("dram", copy=True)


def test_knowing_the_future_helps() -> None:
    assert run(Belady()).hits > run(Lru()).hits
    assert all(isinstance(policy, OraclePolicy) for policy in (Belady(), OracleGap()))
