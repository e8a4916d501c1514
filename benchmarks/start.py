"""What comes before the first step: the start of a run, and what a step's time costs to ask for.

A run has started when all its modules are loaded and the step times of a deployment are composed from the
tables that ship with the package; reading a trace is not in it. The modules have been loaded once before, as
in a package that was installed: Python need not compile them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.base import Batch, StepTime, decode_run
from benchmarks.clock import REFERENCE_S, Timing, fixed_work, measure

if TYPE_CHECKING:
    from benchmarks.speed import Report

BUDGET_START_S = 0.3
BUDGET_QUERY_US = 2.0
ROWS, LEAPS = (1, 64, 256), (12, 100)
"""Decode rows of a step, and steps of a leap: 12 is their mean in measurement 1."""

LIMITS = {"block_size": 16, "max_num_batched_tokens": 8192, "max_num_seqs": 1024}
PROGRAM = f"""
import time
from agentservesim.cost import build_cost
from agentservesim.scenario import InstanceConfig, prepare
cost = build_cost(InstanceConfig(step_time="tables"), **{LIMITS})
print(time.process_time())
"""


def start_up(runs: int) -> Timing:
    """CPU time of a process that starts and has its step times."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-X", f"pycache_prefix={Path(folder)}", "-c", PROGRAM]

        def started() -> float:
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            return float(done.stdout)

        started()
        cpu, fixed = [], [fixed_work()]
        for _ in range(runs):
            cpu.append(started())
            fixed.append(fixed_work())
    around = [(before + after) / 2 for before, after in pairwise(fixed)]
    return Timing(
        tuple(cpu), tuple(each / work * REFERENCE_S for each, work in zip(cpu, around, strict=True))
    )


def query_us(model: StepTime, rows: int, steps: int, runs: int) -> float:
    """Microseconds for each step's time, where a leap asks for those of `steps` steps at once."""
    batch = Batch.of(model.knots, contexts=range(2000, 2000 + rows))
    repeats = 2000

    def ask() -> None:
        for _ in range(repeats):
            decode_run(model, batch, steps)

    return 1e6 * measure(ask, runs).normal_s / (repeats * steps)


def starting(report: Report, runs: int) -> None:
    """The start of a run, and queries of step times."""
    timing = start_up(runs)
    report.line()
    report.line("6. From the start of Python to step times from the shipped tables, and one query of them")
    report.line(f"   CPU seconds     {report.hold('start-up, s', timing.normal_s, BUDGET_START_S, '.2f')}")
    report.line(f"   here            fastest {timing.fastest_s:.2f} s, median {timing.median_s:.2f} s")
    model = build_cost(CostConfig(step_time="tables"), **LIMITS).step_time
    costs = {(rows, steps): query_us(model, rows, steps, runs) for rows in ROWS for steps in LEAPS}
    worst = report.hold("a step-time query, us", max(costs.values()), BUDGET_QUERY_US, ".2f")
    for (rows, steps), cost in costs.items():
        report.line(f"   {rows:>4} rows, {steps:>3} steps at once: {cost:.3f} us a step")
    report.line(f"   most, us        {worst}")
    report.numbers["start"] = {
        "reference_s": round(timing.normal_s, 4),
        "query_us": round(max(costs.values()), 3),
    }
