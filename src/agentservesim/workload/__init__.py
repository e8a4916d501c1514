"""Workloads: traces of agent programs read, written, drawn, changed and described."""

from typing import TYPE_CHECKING

from agentservesim.model import shared_tokens
from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.workload.config import WorkloadConfig
    from agentservesim.workload.load import load_workload
    from agentservesim.workload.options import ReadOptions
    from agentservesim.workload.profiles import list_profiles
    from agentservesim.workload.reader import read_trace
    from agentservesim.workload.stats import TraceStats, trace_stats
    from agentservesim.workload.synth import synthesise
    from agentservesim.workload.write import write_trace
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "ReadOptions",
    "TraceStats",
    "WorkloadConfig",
    "list_profiles",
    "load_workload",
    "read_trace",
    "shared_tokens",
    "synthesise",
    "trace_stats",
    "write_trace",
]
