"""The timeline of a run as a trace for Perfetto (https://ui.perfetto.dev)."""

from agentservesim.report.perfetto.timeline import TRACE, build_trace, write_trace

__all__ = ["TRACE", "build_trace", "write_trace"]
