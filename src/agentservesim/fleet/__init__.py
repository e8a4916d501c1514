"""Programs over instances: orchestrator, tools, router, fleet."""

from agentservesim.fleet.fleet import Counts, Fleet, InstanceSpec

__all__ = ["Counts", "Fleet", "InstanceSpec"]
