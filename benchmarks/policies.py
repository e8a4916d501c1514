"""What policies cost: the CPU time of a run with each of them, as a multiple of the plain one's.

Twice: on 4 instances that keep up, and on one that does not, where hundreds of turns wait.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import polars as pl

from agentservesim.policies import list_policies
from agentservesim.results import Result
from agentservesim.scenario import InstanceConfig, Plan, Scenario, prepare
from agentservesim.workload.config import WorkloadConfig
from benchmarks.clock import measure
from benchmarks.workload import trace

if TYPE_CHECKING:
    from benchmarks.speed import Report

BUDGET_RATIO = 2.0
FAMILIES = ("scheduler", "router", "admission")
PLAIN = {"scheduler": "fcfs", "router": "session-affinity", "admission": "always"}


def loads() -> dict[str, Plan]:
    """The workloads, ready to run."""
    path = str(trace(1000, 2.0, 16).path)

    def plan(instances: int, programs: int, rate: float | None = None) -> Plan:
        groups = (
            InstanceConfig(count=instances, gpu="h100-sxm", model="llama-3.1-8b", num_gpu_blocks=30_000),
        )
        workload = WorkloadConfig(trace=path, format="mooncake", max_programs=programs, program_rate=rate)
        return prepare(Scenario(workload=workload, instances=groups, **PLAIN))

    return {"keeping up": plan(4, 600), "saturated": plan(1, 300, 4.0)}


def costs(family: str, plan: Plan, runs: int) -> dict[str, tuple[float, float]]:
    """CPU time of each policy of a family over that of the plain one, and turns that wait at a time."""
    partners = list_policies("admission").keys() if family == "router" else set()
    names = sorted(list_policies(family).keys() - partners)
    plans = {
        name: Plan(plan.scenario.model_copy(update={family: name}), plan.workload, plan.costs)
        for name in (PLAIN[family], *names)
    }
    plain = plans[PLAIN[family]]
    ratios: dict[str, list[float]] = {name: [] for name in plans}
    results: dict[str, Result] = {}

    def run(name: str) -> None:
        results[name] = plans[name].run()

    for _ in range(runs):
        for name in plans:
            beside = measure(plain.run, 1).normal_s
            ratios[name].append(measure(partial(run, name), 1).normal_s / beside)
    return {name: (median(ratios[name]), waiting(results[name])) for name in plans}


def waiting(result: Result) -> float:
    """Turns in waiting queues, on average over the run."""
    turns = result.turns
    span = turns.select(pl.col("finish_s").max() - pl.col("ready_s").min()).item()
    return float(turns["queue_s"].sum()) / span


def policy_costs(report: Report, runs: int) -> None:
    """Every policy against the plain one of its family, within one run."""
    report.line()
    report.line("5. CPU time with each policy, as a multiple of that with the plain one")
    report.numbers["policies"] = {}
    for load, plan in loads().items():
        for family in FAMILIES:
            found = costs(family, plan, runs)
            plain = PLAIN[family]
            report.line(f"   {load}: {family}, against {plain} ({found[plain][1]:.1f} turns wait at a time)")
            for name, (ratio, length) in found.items():
                verdict = report.hold(f"{family} {name}, {load}", ratio, BUDGET_RATIO, ".2f")
                report.line(f"      {name:<16} {verdict}; {length:.1f} wait")
            report.numbers["policies"][f"{family}, {load}"] = {n: round(r, 3) for n, (r, _) in found.items()}
