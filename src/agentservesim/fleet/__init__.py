"""Programs over instances: orchestrator, tools, router, fleet."""

from agentservesim.fleet.engines import InstanceSpec
from agentservesim.fleet.fleet import Counts, Fleet

__all__ = ["Counts", "Fleet", "InstanceSpec"]
