"""Tools to test the simulator with, for its developers and for authors of policies."""

from agentservesim.testing.admission_laws import AdmissionLaws
from agentservesim.testing.residency_laws import ResidencyLaws
from agentservesim.testing.router_laws import RouterLaws
from agentservesim.testing.scheduler_laws import SchedulerLaws

__all__ = ["AdmissionLaws", "ResidencyLaws", "RouterLaws", "SchedulerLaws"]
