"""The plainest policies, and what all built-in ones have in common."""

from __future__ import annotations

import pytest

from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import CACHE, Placement
from agentservesim.policies.residency import Demote, Drop, Lru, PinAlways, Ttl
from tests.policies.residency.views import Server, gap, run

NAMES = [
    *("lru", "drop", "pin-always", "ttl", "demote", "continuum", "continuum-preview", "infercept", "hicache"),
    *("lmcache", "tokencake", "mori", "kvflow", "saga", "cache-ttl", "cost-aware", "oracle-gap", "belady"),
]


def test_where_the_plain_ones_put_it() -> None:
    assert Lru().place(gap(), Server()) == CACHE
    assert Drop().place(gap(), Server()) == Placement("drop")
    assert PinAlways().place(gap(), Server()) == Placement("hbm")
    assert PinAlways(hard=True).place(gap(), Server()).hard
    assert Demote("ssd", copy=True).place(gap(), Server()) == Placement("ssd", copy=True)


def test_ttl_pins_once() -> None:
    policy = Ttl(ttl_s=3.0)
    assert policy.place(gap(started_s=10), Server(now_s=10)) == Placement("hbm", 13)
    assert policy.place(gap(started_s=10), Server(now_s=13)) == CACHE


def test_all_are_installed() -> None:
    assert set(NAMES) <= set(list_policies("residency"))


def test_a_time_to_live_of_nothing_is_lru() -> None:
    assert run(Ttl(ttl_s=0.0)).same_as(run(Lru()))


@pytest.mark.parametrize("name", NAMES)
def test_with_ample_memory_all_are_equal(name: str) -> None:
    spec = "demote,copy=true" if name == "demote" else name
    if name == "infercept":
        spec = "infercept,swap=false"  # it swaps what HBM has room for, and so does demote
    assert run(load_policy("residency", spec), blocks=20_000).hits == run(Lru(), blocks=20_000).hits


@pytest.mark.parametrize(
    "name", ["continuum", "infercept", "cache-ttl", "cost-aware", "oracle-gap", "belady"]
)
def test_leaping_equals_stepping(name: str) -> None:
    leaping, stepping = (run(load_policy("residency", name), leap=leap) for leap in (True, False))
    assert leaping.same_as(stepping)
