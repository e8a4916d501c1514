"""Programs over instances: orchestrator, tools, router, fleet."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.fleet.engines import InstanceSpec
    from agentservesim.fleet.fleet import Busy, Counts, Fleet
else:
    __getattr__ = on_demand(__name__, "engines", "fleet")

__all__ = ["Busy", "Counts", "Fleet", "InstanceSpec"]
