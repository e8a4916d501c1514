"""Programs over instances: orchestrator, tools, router, fleet."""

from agentservesim.fleet.engines import InstanceSpec
from agentservesim.fleet.fleet import Busy, Counts, Fleet

__all__ = ["Busy", "Counts", "Fleet", "InstanceSpec"]
