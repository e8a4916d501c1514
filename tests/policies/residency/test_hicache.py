"""HiCache: when KV is written, and what a turn that is back loads."""

from __future__ import annotations

import pytest

from agentservesim.policies.protocols import CACHE, GapEnded, Placement, TurnAdmitted
from agentservesim.policies.residency.hicache import HiCache
from tests.policies.residency.views import Server, gap, run


def test_write_through_copies_every_gap_and_hbm_keeps_its_own() -> None:
    assert HiCache().place(gap(turns=1), Server()) == Placement("dram", None, copy=True)
    assert HiCache().spill == {}


def test_the_storage_follows_the_host() -> None:
    assert HiCache(storage="ssd").place(gap(), Server()) == Placement("dram", copy=True, then=("ssd",))
    assert HiCache().place(gap(), Server()) == Placement("dram", copy=True)


def test_selective_writes_what_a_second_turn_has_used() -> None:
    policy = HiCache(write="write_through_selective")
    assert policy.place(gap(turns=1), Server()) == CACHE
    assert policy.place(gap(turns=2), Server()) == Placement("dram", None, copy=True)


def test_write_back_writes_what_is_evicted() -> None:
    policy = HiCache(write="write_back")
    assert policy.place(gap(turns=9), Server()) == CACHE
    assert policy.spill == {"hbm": "dram"}
    assert HiCache(write="write_back", storage="ssd").spill == {"hbm": "dram", "dram": "ssd"}


@pytest.mark.parametrize(
    ("prefetch", "waited_s", "tokens"),
    [
        # HBM has 160 tokens, the host 320 more, the storage 640 more: 640 / 500 = 1.28 s
        ("best_effort", 0.0, 320),
        ("best_effort", 0.5, 320 + 192),  # 640 * 0.5 / 1.28 = 250 tokens, 3 pages of 64
        ("best_effort", 1.3, 320 + 640),
        ("wait_complete", 0.0, 320 + 640),
        # 1 + 0.25 * 640 / 1024 = 1.15625 s; 640 * 1.15625 / 1.28 = 578.1, 9 pages
        ("timeout", 0.0, 320 + 576),
        ("timeout", 1.2, 320 + 576),  # 640 * 1.2 / 1.28 = 600, 9 pages
        ("timeout", 1.3, 320 + 640),
    ],
)
def test_a_turn_gets_what_there_was_time_to_prefetch(prefetch: str, waited_s: float, tokens: int) -> None:
    policy = HiCache(prefetch=prefetch, storage="ssd")
    chain = gap(started_s=3.0)
    policy.observe(GapEnded(chain, 4.0))
    server = Server(now_s=7.0 + waited_s, tokens_per_s={"dram": 100.0, "ssd": 500.0})
    assert policy.resume(chain, {"hbm": 160, "dram": 480, "ssd": 1120}, server) == tokens


def test_what_is_fetched_at_once_is_a_share_of_the_host_s_surplus() -> None:
    """The host has 1000 tokens more than HBM: 800 may be on their way."""
    policy, server = HiCache(prefetch="wait_complete", storage="ssd"), Server()
    one, two, three = gap("one"), gap("two"), gap("three")
    hits = {"hbm": 0, "dram": 100, "ssd": 600}
    assert policy.resume(one, hits, server) == policy.resume(two, hits, server) == 600
    assert policy.resume(three, hits, server) == 100  # the host's: 1000 come from the storage
    assert policy.resume(one, hits, server) == 600  # asked again, it counts once
    policy.observe(TurnAdmitted("p", "one", 0.0, 700, 600))
    assert policy.resume(three, hits, server) == 600
    assert HiCache(storage="ssd", prefetch="wait_complete", prefetch_share=0).resume(one, hits, server) == 100


def test_too_little_is_not_fetched() -> None:
    policy, server = HiCache(prefetch="wait_complete", storage="ssd"), Server()
    assert policy.resume(gap(), {"hbm": 0, "ssd": 255}, server) == 0
    assert policy.resume(gap(), {"hbm": 0, "ssd": 256}, server) == 256
    assert policy.resume(gap(), {"hbm": 64, "dram": 73}, server) == 0
    assert policy.resume(gap(), {"hbm": 64, "dram": 74}, server) == 10


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match="write is 'through'; it must be write_through or"):
        HiCache(write="through")
    with pytest.raises(ValueError, match="prefetch is 'never'; it must be best_effort or"):
        HiCache(prefetch="never")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"write": "write_through_selective"},
        {"storage": "ssd"},
        {"storage": "ssd", "prefetch": "wait_complete"},
        {"write": "write_back", "storage": "ssd", "prefetch": "timeout"},
    ],
)
def test_leap_equals_step(changes: dict[str, str]) -> None:
    leaps = run(HiCache(**changes))  # type: ignore[arg-type]
    assert leaps.same_as(run(HiCache(**changes), leap=False))  # type: ignore[arg-type]
    assert leaps.moved_bytes > 0
