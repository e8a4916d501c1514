"""LMCache: every tier gets a copy, loads are whole chunks."""

from __future__ import annotations

import pytest

from agentservesim.policies.protocols import CACHE, Placement
from agentservesim.policies.residency.lmcache import LmCache
from tests.policies.residency.views import Server, gap, run


def test_tier_after_tier_gets_a_copy() -> None:
    assert LmCache().place(gap(), Server()) == Placement("dram", copy=True, then=("ssd",))
    assert LmCache().place(gap(), Server(tiers=("cxl",))) == Placement("cxl", copy=True)


def test_without_tiers_it_is_lru() -> None:
    assert LmCache().place(gap(), Server(tiers=())) == CACHE


def test_whole_chunks_are_loaded() -> None:
    policy, server = LmCache(), Server()
    # 700 tokens are 2 chunks of 256 = 512; HBM has 160 of them
    assert policy.resume(gap(), {"hbm": 160, "dram": 512, "ssd": 700}, server) == 352
    assert policy.resume(gap(), {"hbm": 160, "dram": 250}, server) == 0
    assert LmCache(chunk=16).resume(gap(), {"hbm": 160, "ssd": 700}, server) == 43 * 16 - 160


def test_chunk_is_checked() -> None:
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        LmCache(chunk=0)


def test_leap_equals_step() -> None:
    leaps = run(LmCache(chunk=64))
    assert leaps.same_as(run(LmCache(chunk=64), leap=False))
    assert leaps.moved_bytes > 0
