"""KVFlow: steps to execution, eviction by them, prefetch, and what happens without a workflow."""

from __future__ import annotations

import math

import pytest

from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    GapEnded,
    Placement,
    ProgramEnded,
    TurnAdmitted,
)
from agentservesim.policies.residency.kvflow import KvFlow
from agentservesim.policies.residency.workflows import steps_to_execution
from tests.policies.residency.views import Server, gap, run

RING = {"a": {"after": ["c"]}, "b": {"after": ["a"]}, "c": {"after": ["b"]}}


def agent(session: str, **changes: object) -> ChainView:
    return gap(session, hints={"workflow": RING}, **changes)  # type: ignore[arg-type]


def starts(policy: KvFlow, session: str) -> None:
    policy.observe(TurnAdmitted("p", session, 0.0, 100, 0))


def test_steps_add_up_along_the_workflow() -> None:
    assert steps_to_execution(RING, {"a"}) == {"b": 1, "c": 2, "a": 3}
    assert steps_to_execution(RING, {"b"}) == {"c": 1, "a": 2, "b": 3}
    assert steps_to_execution(RING, set()) == dict.fromkeys("abc", math.inf)


@pytest.mark.parametrize(("join", "steps"), [("all", 1 + 2), ("any", 1 + 1)])
def test_a_join_waits_for_the_last_or_the_first(join: str, steps: int) -> None:
    workflow = {
        "b": {"after": ["a"]},  # 1
        "c": {"after": ["b"]},  # 2
        "d": {"after": ["b", "c"], "join": join},
    }
    assert steps_to_execution(workflow, {"a"})["d"] == steps


def test_the_last_to_run_is_the_first_to_go() -> None:
    policy, server = KvFlow(), Server()
    a, b, c = agent("a"), agent("b"), agent("c")
    stranger = gap(program="q")
    starts(policy, "a")
    assert policy.place(a, server) == CACHE
    assert policy.rank("hbm", [a, b, c, stranger], server) == [stranger, a, c, b]
    starts(policy, "b")
    # b runs (0), c is next (1), a behind it (2)
    assert policy.rank("hbm", [a, b, c], server) == [a, c, b]
    policy.place(b, server)
    policy.observe(GapEnded(c, 3.0))
    # c runs, a is next, b behind it
    assert policy.rank("hbm", [a, b, c], server) == [b, a, c]
    policy.observe(ProgramEnded("p", 3))
    assert policy.rank("hbm", [a, b, c], server) == []


def test_both_sides_of_a_fork_are_next() -> None:
    policy = KvFlow()
    fork = {"l": {"after": ["a"]}, "r": {"after": ["a"]}, "z": {"after": ["l", "r"]}}
    left, right, z = (gap(name, hints={"workflow": fork}) for name in "lrz")
    policy.place(gap("a", hints={"workflow": fork}), Server())
    assert policy.rank("hbm", [left, right, z], Server())[0] is z
    starts(policy, "l")
    # r is still next: a has not done its part before both have begun
    assert policy.rank("hbm", [left, right, z], Server()) == [z, right, left]


def test_the_next_agents_are_brought_up() -> None:
    policy = KvFlow()
    policy.place(agent("a"), Server())
    chains = [agent("a", hbm=0, dram=100), agent("b", hbm=20, dram=100), agent("c", hbm=0, ssd=100)]
    assert list(policy.tick(chains, Server())) == [(chains[1], Placement("hbm"))]
    policy.ahead = 2
    assert [chain for chain, _ in policy.tick(chains, Server())] == chains[1:]
    assert list(policy.tick([agent("b", dram=100)], Server())) == []


def test_a_prefetch_keeps_to_its_budget() -> None:
    """160 tokens may be on their way, 40 are: 80 of the next agent, and 40 of the one behind it."""
    policy = KvFlow(ahead=2, budget_tokens=160)
    policy.place(agent("a"), Server())
    chains = [agent("c", hbm=0, ssd=100), agent("b", hbm=20, dram=100)]
    assert list(policy.tick(chains, Server(prefetching_tokens=40))) == [
        (chains[1], Placement("hbm", budget_tokens=80)),
        (chains[0], Placement("hbm", budget_tokens=40)),
    ]
    assert list(policy.tick(chains, Server(prefetching_tokens=160))) == []


def test_without_hints_it_is_lru() -> None:
    policy = KvFlow()
    assert policy.place(gap(), Server()) == CACHE
    assert policy.rank("hbm", [gap(), gap("b")], Server()) == []
    assert policy.spill == {"hbm": "dram"}


def test_leap_equals_step() -> None:
    leaps = run(KvFlow())
    assert leaps.same_as(run(KvFlow(), leap=False))
    assert leaps.moved_bytes > 0
