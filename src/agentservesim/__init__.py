"""A step-exact simulator of multi-turn LLM agent serving.

    from agentservesim import InstanceConfig, Scenario, simulate
    result = simulate(Scenario(instances=(InstanceConfig(count=4, gpu="h100-sxm"),)))
    result.turns["ttft_s"].mean()

The names are loaded when they are first used, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.fleet.config import ToolsConfig
    from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
    from agentservesim.model import InputError
    from agentservesim.results import Result
    from agentservesim.scenario import InstanceConfig, Scenario, load_scenario, simulate
    from agentservesim.workload.config import WorkloadConfig
else:
    __getattr__ = on_demand(
        __name__, "model", "scenario", "fleet.config", "kv.config", "workload.config", "results"
    )

__all__ = [
    "InputError",
    "InstanceConfig",
    "LinkConfig",
    "MemoryConfig",
    "Result",
    "Scenario",
    "TierConfig",
    "ToolsConfig",
    "WorkloadConfig",
    "load_scenario",
    "simulate",
]
