"""The report of a run: one HTML file that needs nothing else."""

from agentservesim.report.html.page import REPORT, render, write_report

__all__ = ["REPORT", "render", "write_report"]
