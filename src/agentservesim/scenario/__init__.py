"""A scenario is everything that decides a run; `simulate` runs it."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.scenario.config import InstanceConfig, Scenario, load_scenario
    from agentservesim.scenario.plan import Plan, RunError, prepare, simulate
else:
    __getattr__ = on_demand(__name__, "config", "plan")

__all__ = ["InstanceConfig", "Plan", "RunError", "Scenario", "load_scenario", "prepare", "simulate"]
