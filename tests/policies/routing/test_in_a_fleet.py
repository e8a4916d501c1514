"""Routers in a fleet: where turns go, and what all of them have in common."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentservesim.model import Program, TurnRecord
from agentservesim.policies import Router, load_policy
from tests.fleet.parts import PerToken, after, chain, instance, program, serve, turn

NAMES = [
    entry.name
    for entry in entry_points(group="agentservesim.router")
    if entry.value.startswith("agentservesim.policies.routing.")
]


def test_routers_in_a_fleet() -> None:
    """a: three turns with a gap of 1 s; b: one long turn; a sub-agent of a runs beside it."""
    a = program(
        turn(0, 2, name="a0"),
        turn(1, 2, after(0, 1), name="a1"),
        turn(2, 2, after(0, 1), name="a2", session="sub"),
        name="a",
    )
    programs = [a, chain("b", [30])]
    # order of sending: a0, b at 0 s; a1, a2 at 3 s
    expected = {
        "round-robin": {"a0": 0, "b:0": 1, "a1": 0, "a2": 1},
        "least-loaded": {"a0": 0, "b:0": 1, "a1": 0, "a2": 0},
        "session-affinity": {"a0": 0, "b:0": 1, "a1": 0, "a2": 0},
    }
    for name, places in expected.items():
        done = serve(programs, [instance(), instance()], router=load_policy("router", name))
        assert {record.turn_id: record.instance for record in done.log.turns} == places


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 3)), max_size=8),
    st.booleans(),
)
def test_with_one_instance_all_routers_are_equal(shapes: list[tuple[list[int], int]], tight: bool) -> None:
    """Bit for bit: the same records in the same order."""
    programs: list[Program] = [
        chain(f"p{i}", outputs, gap_s=i % 2, arrival_s=at) for i, (outputs, at) in enumerate(shapes)
    ]
    spec = instance(step_time=PerToken(10**9, 3 * 10**10), num_gpu_blocks=6 if tight else 1000)

    def records(router: Router) -> list[TurnRecord]:
        return serve(programs, [spec], router=router).log.turns

    first, *others = (records(load_policy("router", name)) for name in NAMES)
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", ["round-robin", "least-loaded", "session-affinity"])
def test_a_router_serves_a_fleet_evenly(name: str) -> None:
    """Equal programs at equal distances: no instance gets more than its share, give or take one program."""
    programs = [chain(f"p{i}", [2, 2], gap_s=3, arrival_s=i) for i in range(60)]
    done = serve(programs, [instance() for _ in range(4)], router=load_policy("router", name))
    turns = [sum(record.instance == i for record in done.log.turns) for i in range(4)]
    if name == "least-loaded":  # two of four are idle at any time, and ties go to the lowest index
        assert turns == sorted(turns, reverse=True)
    else:
        assert turns == [30, 30, 30, 30]
