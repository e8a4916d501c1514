"""MORI: idleness, the two caps, and the order of eviction."""

from __future__ import annotations

import pytest

from agentservesim.policies.protocols import CACHE, ChainView, GapEnded, Placement, TurnAdmitted
from agentservesim.policies.residency.mori import Mori
from tests.policies.residency.views import Server, gap, run


def admitted(session: str, wait_s: float) -> TurnAdmitted:
    return TurnAdmitted("p", session, wait_s, 100, 0)


def acting(policy: Mori, session: str, busy_s: float, tokens: int) -> ChainView:
    """A session that ran for busy_s and is in its gap since 10 s."""
    chain = gap(session, started_s=10.0, tokens=tokens, arrival_s=10.0 - busy_s)
    policy.observe(admitted(session, 0.0))
    assert policy.place(chain, Server(now_s=10.0)) == CACHE
    return chain


@pytest.mark.parametrize(("window", "idleness"), [(5, 15 / 22), (1, 3 / 6)])
def test_idleness_is_time_in_tools_without_the_wait(window: int, idleness: float) -> None:
    policy = Mori(window=window)
    policy.observe(admitted("p", 2.0))
    first = gap(started_s=6.0)
    policy.place(first, Server(now_s=6.0))
    # 6 s since arrival, 2 of them waiting: busy for 4; in tools for 4
    assert policy.idleness.of(first, 10.0) == 4 / 8
    policy.observe(GapEnded(first, 12.0))  # back at 18 s
    policy.observe(admitted("p", 1.0))
    second = gap(started_s=22.0)
    policy.place(second, Server(now_s=22.0))
    # busy for 4 and 22 - 18 - 1 = 3, in tools for 12 and 3; by the last call alone: 3 and 3
    assert policy.idleness.of(second, 25.0) == pytest.approx(idleness)


def test_the_idlest_leave_and_the_busiest_return() -> None:
    policy = Mori()
    a = acting(policy, "a", 1.0, 400)  # at 20 s: 10 / 11
    b = acting(policy, "b", 10.0, 400)  # 10 / 20
    c = acting(policy, "c", 5.0, 300)  # 10 / 15
    chains = [a, b, c]
    # 200 + 400 + 400 + 300 = 1300 of 1000: 300 too many, and a has 400
    assert list(policy.tick(chains, Server(20.0, running_tokens=200))) == [(a, Placement("dram"))]
    # 200 + 400 + 300: a does not fit into the 100 that are left, and nobody is moved for it
    assert list(policy.tick(chains, Server(20.0, running_tokens=200))) == []
    # 700 - 400 = 300 too many: c is the idlest on the GPU
    assert list(policy.tick(chains, Server(20.0, running_tokens=600))) == [(c, Placement("dram"))]
    # 400 of 1000: c (300) first, then a does not fit into 300
    assert list(policy.tick(chains, Server(20.0))) == [(c, Placement("hbm"))]


def test_without_room_on_the_cpu_a_session_is_inactive() -> None:
    policy = Mori(gpu_cap=0.5)
    a, b = acting(policy, "a", 1.0, 400), acting(policy, "b", 2.0, 300)
    # 700 of 500; the CPU has room for b only, and a alone is enough
    assert list(policy.tick([a, b], Server(20.0, room={"dram": 300}))) == [(a, CACHE)]
    assert list(policy.tick([a, b], Server(20.0, running_tokens=400, room={"dram": 300}))) == [
        (b, Placement("dram"))
    ]


def test_eviction_is_typed() -> None:
    policy = Mori(gpu_cap=0.5)
    inactive, idle, idler = (acting(policy, s, t, 400) for s, t in [("i", 1.0), ("d", 9.0), ("e", 4.0)])
    list(policy.tick([inactive], Server(20.0, running_tokens=400, room={"dram": 0})))
    busy = acting(policy, "b", 3.0, 100)
    policy.observe(GapEnded(busy, 5.0))
    busy = busy._replace(in_gap=False)
    chains, server = [busy, idle, inactive, idler], Server(20.0)
    assert policy.rank("hbm", chains, server) == [inactive, idler, idle, busy]
    assert policy.rank("dram", chains, server) == [inactive, busy, idler, idle]


def test_leap_equals_step() -> None:
    leaps = run(Mori(tick_s=1.0))
    assert leaps.same_as(run(Mori(tick_s=1.0), leap=False))
    assert leaps.moved_bytes > 0
