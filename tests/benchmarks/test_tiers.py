"""What tiers cost, in what can be counted: function calls, on the first programs of the demo under pressure.

Where each step was one by one because HBM held content twice, or because what it evicted was watched, these
counts were 8 to 29 times those of the run without tiers.
"""

from __future__ import annotations

import pytest

from agentservesim.scenario import Plan
from benchmarks.tiers import calls, demo, with_tiers


@pytest.fixture(scope="module")
def base() -> tuple[Plan, int]:
    plan = demo(max_programs=10, instances=1)
    plan.run()
    return plan, calls(plan)


@pytest.mark.parametrize(
    ("residency", "limit"),
    [
        ("hicache", 1.8),
        ("hicache,write=write_back", 1.8),
        ("demote", 2.0),
        ("lmcache", 2.4),
        ("mori", 2.8),
    ],
)
def test_tiers_cost_about_as_much_as_the_run_without(
    base: tuple[Plan, int], residency: str, limit: float
) -> None:
    plan, without = base
    assert calls(with_tiers(plan, residency)) / without < limit
