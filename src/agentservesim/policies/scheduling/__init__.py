"""Built-in scheduling policies, one a file."""

from agentservesim.policies.scheduling.fcfs import Fcfs
from agentservesim.policies.scheduling.priority import Priority

__all__ = ["Fcfs", "Priority"]
