"""What policies cost: the CPU time of a run with each of them, as a multiple of the plain one's.

Twice: on 4 instances that keep up, and on one that does not, where dozens of turns wait. Beside it is told
how many more steps and chunks of prefill there are: a policy that rations prompts makes many small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import polars as pl

from agentservesim.engine.scheduler import Scheduler
from agentservesim.engine.step import Step
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.bundles import BUNDLES, bundle_parts
from agentservesim.results import Result
from agentservesim.scenario import InstanceConfig, Plan, Scenario, prepare
from agentservesim.workload.config import WorkloadConfig
from benchmarks.clock import measure
from benchmarks.workload import trace

if TYPE_CHECKING:
    from benchmarks.speed import Report

BUDGET_RATIO = 2.0
NEAR = 0.75
"""From this part of the budget on, one measurement does not do."""

FAMILIES = ("scheduler", "router", "admission", "bundle")
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


def choices(family: str) -> dict[str, dict[str, str]]:
    """The settings of each policy of a family, the plain one first."""
    if family == "bundle":
        return {"plain": {}, **{name: {"policy": name, **bundle_parts(name)} for name in sorted(BUNDLES)}}
    partners = list_policies("admission").keys() if family == "router" else set()
    names = sorted(list_policies(family).keys() - partners - {PLAIN[family]})
    return {name: {family: name} | together(family, name) for name in (PLAIN[family], *names)}


def together(family: str, name: str) -> dict[str, str]:
    """The other families whose policy a policy has to be as well."""
    return dict.fromkeys(getattr(load_policy(family, name), "together", ()), name)


class Work(NamedTuple):
    """Steps that were decided (all but those that were leapt over), chunks of prefill in them, and turns that
    waited at a time."""

    steps: int
    chunks: int
    waiting: float


def work(plan: Plan) -> Work:
    """What a run does; these figures are the same in every run."""
    steps = chunks = 0
    schedule: Callable[[Scheduler, int, bool], Step | None] = Scheduler.schedule

    def counted(scheduler: Scheduler, now: int, one_by_one: bool) -> Step | None:
        nonlocal steps, chunks
        step = schedule(scheduler, now, one_by_one)
        if step is not None:
            steps, chunks = steps + 1, chunks + len(step.chunks)
        return step

    with patch.object(Scheduler, "schedule", counted):
        result = plan.run()
    return Work(steps, chunks, waiting(result))


def ratio(plan: Plan, plain: Plan, runs: int) -> float:
    """CPU time of a run over that of the plain one, each beside the other; where it is near the budget, the
    median of `runs`."""
    ratios: list[float] = []
    while not ratios or (len(ratios) < runs and median(ratios) > NEAR * BUDGET_RATIO):
        beside = measure(plain.run, 1).normal_s
        ratios.append(measure(plan.run, 1).normal_s / beside)
    return median(ratios)


def waiting(result: Result) -> float:
    """Turns in waiting queues, on average over the run."""
    turns = result.turns
    span = turns.select(pl.col("finish_s").max() - pl.col("ready_s").min()).item()
    return float(turns["queue_s"].sum()) / span


def policy_costs(report: Report, runs: int) -> None:
    """Every policy against the plain ones of all families."""
    report.line()
    report.line("5. CPU time with each policy, as a multiple of that with the plain ones")
    report.line(f"   plain: {', '.join(PLAIN.values())}")
    report.numbers["policies"] = {}
    for load, plain in loads().items():
        least = work(plain)
        report.line(
            f"   {load}: {least.steps:,} steps, {least.chunks:,} chunks, {least.waiting:.1f} turns wait"
        )
        for family in FAMILIES:
            found = {}
            for name, settings in choices(family).items():
                plan = Plan(plain.scenario.model_copy(update=settings), plain.workload, plain.costs)
                done, found[name] = work(plan), ratio(plan, plain, runs)
                verdict = report.hold(f"{family} {name}, {load}", found[name], BUDGET_RATIO, ".2f")
                report.line(
                    f"      {family:<9} {name:<15} {verdict}; {done.steps / least.steps:.2f} steps, "
                    f"{done.chunks / least.chunks:.2f} chunks; {done.waiting:.1f} wait"
                )
            report.numbers["policies"][f"{family}, {load}"] = {n: round(r, 3) for n, r in found.items()}
