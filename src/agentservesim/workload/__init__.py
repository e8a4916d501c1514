"""Workloads: traces of agent programs read, written, drawn, changed and described."""

from agentservesim.workload.config import WorkloadConfig
from agentservesim.workload.content import shared_tokens
from agentservesim.workload.load import load_workload
from agentservesim.workload.options import ReadOptions
from agentservesim.workload.reader import read_trace
from agentservesim.workload.write import write_trace

__all__ = ["ReadOptions", "WorkloadConfig", "load_workload", "read_trace", "shared_tokens", "write_trace"]
