"""What a step costs: accelerators, models, step-time models and KV capacity."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.cost.accelerators import list_gpus
    from agentservesim.cost.base import Batch, StepTime
    from agentservesim.cost.build import Cost, build_cost
    from agentservesim.cost.catalogued import list_tables
    from agentservesim.cost.config import CostConfig
    from agentservesim.cost.modelnames import list_models
else:
    __getattr__ = on_demand(__name__, "accelerators", "base", "catalogued", "config", "modelnames", "build")

__all__ = [
    "Batch",
    "Cost",
    "CostConfig",
    "StepTime",
    "build_cost",
    "list_gpus",
    "list_models",
    "list_tables",
]
