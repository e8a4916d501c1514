"""A folder of runs in the browser: list, filter, open, put two side by side."""

from agentservesim.report.view.server import serve

__all__ = ["serve"]
