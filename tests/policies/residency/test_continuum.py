"""Continuum's time to live, and the two-second rule of its release."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from agentservesim.policies.protocols import CACHE, GapEnded, Placement, ProgramEnded
from agentservesim.policies.residency import Continuum, ContinuumPreview
from agentservesim.policies.residency.samples import TurnCounts
from tests.policies.residency.views import Server, gap


def learnt(*gaps_s: float, tool: str = "Bash", min_samples: int = 2) -> Continuum:
    policy = Continuum(min_samples=min_samples)
    for gap_s in gaps_s:
        policy.observe(GapEnded(gap(tools=(tool,)), gap_s))
    return policy


def test_without_samples_gaps_are_exponential() -> None:
    # 100 tokens are computed in 5 s: P(gap <= t) * 5 - t is highest at t = ln 5
    placement = Continuum().place(gap(started_s=3), Server(now_s=3))
    assert placement.tier == "hbm"
    assert placement.until_s == pytest.approx(3 + log(5))
    # 10 tokens in 0.5 s: never worth it
    assert Continuum().place(gap(tokens=10), Server()) == CACHE


def test_the_wait_of_evicted_turns_counts() -> None:
    placement = Continuum().place(gap(), Server(queue_delay_s=2.0))
    assert placement.until_s == pytest.approx(log(5 + 2))


def test_eta_counts_from_the_moment_gaps_are_known() -> None:
    # programs of 1 and 3 turns: (k, left) = (1, 0), (1, 2), (2, 1), (3, 0), of which the correlation is
    # (4 * 4 - 7 * 3) / sqrt((4 * 15 - 49) * (4 * 5 - 9)) = -5 / 11
    server, policy = Server(queue_delay_s=11.0), Continuum(min_samples=2)
    for turns in (1, 3):
        policy.observe(ProgramEnded(f"p{turns}", turns))
    # 100 tokens are computed in 5 s
    assert policy.place(gap(), server).until_s == pytest.approx(log(5 + 11))
    for gap_s in (1, 2, 9.5):
        policy.observe(GapEnded(gap(), gap_s))
    # 5 + 11 * 5/11 = 10: 10/3 - 1 = 2.33, 20/3 - 2 = 4.67, 10 - 9.5 = 0.5 (with eta = 1 it would be 9.5 s)
    assert policy.place(gap(), server).until_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("benefit_s", "time_to_live_s"),
    [
        (5, 2),  # 5/3 - 1 = 0.67, 10/3 - 2 = 1.33, 5 - 10 < 0
        (60, 10),  # 20 - 1, 40 - 2, 60 - 10
        (1, 0),  # 1/3 - 1, 2/3 - 2 and 1 - 10 are all less than nothing
    ],
)
def test_the_best_of_the_gaps_seen(benefit_s: float, time_to_live_s: float) -> None:
    assert learnt(2, 10, 1).time_to_live_s("Bash", benefit_s) == time_to_live_s


def test_a_tool_with_few_samples_is_judged_by_all() -> None:
    policy = learnt(1, 2, 10)
    policy.observe(GapEnded(gap(tools=("Read",)), 0.1))
    # 0.1, 1, 2, 10: 60/4 - .1 = 14.9, 29, 43, 50
    assert policy.time_to_live_s("Read", 60) == 10
    # its own from the third on: 0.1 is as good as three times 0.1
    policy.observe(GapEnded(gap(tools=("Read",)), 0.1))
    policy.observe(GapEnded(gap(tools=("Read",)), 0.1))
    assert policy.time_to_live_s("Read", 60) == 0.1


def test_it_decides_once() -> None:
    policy = learnt(4, 4, 4)
    chain = gap(started_s=10)
    assert policy.place(chain, Server(now_s=10)) == Placement("hbm", 14)
    assert policy.place(chain._replace(pinned_until_s=14.0), Server(now_s=14)) == CACHE
    # brought up meanwhile: the pin is asked about before its time is up
    assert policy.place(chain._replace(pinned_until_s=1e9), Server(now_s=12)) == Placement("hbm", 14)


def test_eta_is_the_correlation_of_turns_done_and_left() -> None:
    counts = TurnCounts()
    assert counts.memory() == 1
    for turns in (1, 3, 7):
        counts.add(turns)
    points = [(k, turns - k) for turns in (1, 3, 7) for k in range(1, turns + 1)]
    assert counts.memory() == pytest.approx(-np.corrcoef(np.array(points).T)[0, 1])


def test_equally_long_programs_have_eta_one_and_memoryless_ones_none() -> None:
    equal, memoryless = TurnCounts(), TurnCounts()
    for _ in range(5):
        equal.add(4)
    for turns in range(1, 16):
        for _ in range(2 ** (15 - turns)):
            memoryless.add(turns)
    assert equal.memory() == pytest.approx(1)
    assert abs(memoryless.memory()) < 0.01
    policy = Continuum()
    policy.observe(ProgramEnded("p", 4))
    assert policy.place(gap(), Server(queue_delay_s=2.0)).until_s == pytest.approx(log(7))


def test_preview_pins_for_quick_and_unknown_tools() -> None:
    policy = ContinuumPreview()
    assert policy.place(gap(started_s=1), Server(now_s=1)) == Placement("hbm", 3)
    assert policy.place(gap(started_s=1), Server(now_s=3)) == CACHE
    assert policy.place(gap(tools=()), Server()) == CACHE
    for gap_s in (1.0, 2.9):
        policy.observe(GapEnded(gap(), gap_s))
    assert policy.place(gap(), Server()) == Placement("hbm", 2)  # mean 1.95
    policy.observe(GapEnded(gap(), 2.2))
    assert policy.place(gap(), Server()) == CACHE  # mean 2.03
    assert ContinuumPreview(pin_s=0.01).place(gap(tools=("Read",)), Server()) == CACHE
