"""SAGA: the 95th percentile of a tool's gaps, pressure, and the score."""

from __future__ import annotations

import math

import pytest

from agentservesim.policies.protocols import CACHE, GapEnded, Placement, ProgramEnded, TurnAdmitted
from agentservesim.policies.residency.saga import Saga
from tests.policies.residency.views import Server, gap, run


def test_ttl_is_the_95th_percentile_of_a_log_normal() -> None:
    policy = Saga()
    assert policy.ttl_s(["Bash"]) == 2.0
    policy.observe(GapEnded(gap(), math.exp(1)))
    assert policy.ttl_s(["Bash"]) == pytest.approx(math.exp(1))
    policy.observe(GapEnded(gap(), math.exp(3)))
    # mean 1 + 0.2 * 2 = 1.4; variance 0.8 * (0 + 0.2 * 2**2) = 0.64, deviation 0.8
    assert policy.ttl_s(["Bash"]) == pytest.approx(math.exp(1.4 + 1.6448536 * 0.8))
    assert policy.ttl_s(["Read"]) == 2.0
    policy.cap_s = 10.0
    assert policy.ttl_s(["Bash"]) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("free", "ttl_s"),
    [
        (1000, 2.0),
        (300, 2.0),  # 70 % in use
        (200, 1.5),  # 80 %: half way, 2 * (1 - 0.5 * 0.5)
        (100, 1.0),  # 90 %: 2 * (1 - 0.5)
        (0, 1.0),
    ],
)
def test_pressure_shortens_it(free: int, ttl_s: float) -> None:
    placement = Saga().place(gap(started_s=5.0), Server(now_s=5.0, free_tokens=free))
    assert placement == Placement("hbm", pytest.approx(5.0 + ttl_s))


def test_an_expired_pin_is_left_to_the_score() -> None:
    assert Saga().place(gap(started_s=5.0), Server(now_s=7.0)) == CACHE


def test_survival_is_learnt_from_all_sessions() -> None:
    policy = Saga()
    assert policy.survival.after(1) == 1.0
    for session, turns in [("a", 1), ("b", 2), ("c", 3)]:
        policy.observe(TurnAdmitted("p", session, 0.0, 100, 0))
        for turn in range(1, turns):
            policy.observe(GapEnded(gap(session, turns=turn), 1.0))
    assert policy.survival.after(1) == 1.0
    policy.observe(ProgramEnded("p", 6))
    # after one turn a ended, b and c went on; after two b ended, c went on; after three c ended
    assert [policy.survival.after(n) for n in (1, 2, 3, 4)] == [2 / 3, 1 / 2, 0.0, 1.0]


def test_the_score_weighs_age_reuse_and_size() -> None:
    policy = Saga()
    for session in "xy":
        policy.observe(TurnAdmitted(session, session, 0.0, 1, 0))
    policy.observe(GapEnded(gap("y", program="y", turns=1), 1.0))
    policy.observe(ProgramEnded("x", 1))
    assert policy.survival.after(1) == 1 / 2
    old = gap("old", started_s=0.0, tokens=100, turns=2)  # .3 * 10/10 + .5 * 0 + .2 * 100/400 = .35
    likely_over = gap("over", started_s=6.0, tokens=100, turns=1)  # .3 * .4 + .5 * .5 + .05 = .42
    large = gap("large", started_s=5.0, tokens=400, turns=2)  # .3 * .5 + 0 + .2 = .35
    recent = gap("recent", started_s=9.0, tokens=200, turns=2)  # .3 * .1 + 0 + .1 = .13
    order = policy.rank("hbm", [recent, large, old, likely_over], Server(now_s=10.0))
    assert order[0] is likely_over
    assert order[-1] is recent
    # weigh size more, and the large one goes first
    assert Saga(size=0.4).rank("hbm", [recent, large, old], Server(now_s=10.0))[0] is large
    assert Saga(size=0.1).rank("hbm", [recent, large, old], Server(now_s=10.0))[0] is old


def test_leap_equals_step() -> None:
    assert run(Saga()).same_as(run(Saga(), leap=False))
    assert run(Saga()).turns != run(Saga(cold_s=0.0, cap_s=1e-3)).turns
