"""Experiments of many runs: arms compared with each other, grids of settings."""

from agentservesim.experiment.arms import Arm, split_values
from agentservesim.experiment.comparison import Cell, Comparison, Line, Run, compare_runs
from agentservesim.experiment.intervals import Estimate
from agentservesim.experiment.laboratory import compare, sweep
from agentservesim.experiment.sweep import Point, Sweep

__all__ = [
    "Arm",
    "Cell",
    "Comparison",
    "Estimate",
    "Line",
    "Point",
    "Run",
    "Sweep",
    "compare",
    "compare_runs",
    "split_values",
    "sweep",
]
