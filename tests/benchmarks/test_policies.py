"""The benchmark of policies sets each of them as a run takes it."""

from __future__ import annotations

import pytest

from agentservesim import Scenario
from agentservesim.scenario import prepare
from agentservesim.workload.config import WorkloadConfig
from benchmarks.policies import FAMILIES, PLAIN, choices


@pytest.mark.parametrize("family", FAMILIES)
def test_every_choice_can_run(family: str) -> None:
    plan = prepare(Scenario(workload=WorkloadConfig(trace="demo", max_programs=1), **PLAIN))
    for settings in choices(family).values():
        scenario = plan.scenario.model_copy(update=settings)
        type(plan)(scenario, plan.workload, plan.costs).check()
