"""What tiers cost: the demo under each residency policy with DRAM and SSD, and without them.

python -m benchmarks.tiers [--runs N] [POLICY ...]. Three runs take turns in one process: LRU without tiers,
the policy without tiers (where it works without), and the policy with them; times are the least CPU seconds
from the workload in memory to the result with its tables. `tiers` is to stay within the budget: the time with
tiers over that of the same run without, which is LRU's for a policy that needs tiers. `all` is the time with
tiers over that of LRU without: the policy's own work is in it, and what it changes in the engine (more or
fewer steps, other hits). `calls` are the same two ratios of Python's function calls, which do not depend on
how busy the machine is.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import time
import warnings
from dataclasses import replace

from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.model import InputError
from agentservesim.policies import list_policies
from agentservesim.scenario import InstanceConfig, Plan, Scenario, prepare
from agentservesim.workload.config import WorkloadConfig

BUDGET = 1.5
"""Times the run without tiers."""

MEMORY = MemoryConfig(
    tiers=(TierConfig(name="dram", capacity_bytes=200e9), TierConfig(name="ssd", capacity_bytes=4e12)),
    links=(
        LinkConfig(between=("hbm", "dram"), kind="pcie5-x16"),
        LinkConfig(between=("hbm", "ssd"), kind="nvme-gen5"),
        LinkConfig(between=("dram", "ssd"), kind="nvme-gen5"),
    ),
)

VARIANTS = ("hicache,write=write_back", "hicache,storage=ssd", "belady,copy_to=dram")
"""Settings of shipped policies that use the tiers in another way."""


def demo(max_programs: int | None = None, instances: int = 4) -> Plan:
    """The demo, or its first programs, without tiers."""
    group = InstanceConfig(count=instances)
    workload = WorkloadConfig(trace="demo", max_programs=max_programs)
    return prepare(Scenario(workload=workload, instances=(group,)))


def with_tiers(plan: Plan, residency: str, memory: MemoryConfig = MEMORY) -> Plan:
    """The same with tiers and a policy."""
    return replace(plan, scenario=plan.scenario.model_copy(update={"memory": memory, "residency": residency}))


def without_tiers(plan: Plan, residency: str) -> Plan:
    """The same with a policy, or with LRU if the policy needs tiers."""
    alone = with_tiers(plan, residency, plan.scenario.memory)
    try:
        alone.run()
    except InputError:
        return plan
    return alone


def cpu_s(plan: Plan) -> float:
    """CPU seconds of a run."""
    gc.collect()
    start = time.process_time()
    plan.run()
    return time.process_time() - start


def calls(plan: Plan) -> int:
    """Function calls of a run."""
    profile = cProfile.Profile()
    profile.runcall(plan.run)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def main() -> None:
    """Print the ratio of each policy."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiers", description=__doc__)
    parser.add_argument("policies", nargs="*", help="residency policies; all if none is named")
    parser.add_argument("--runs", type=int, default=5, help="runs of each")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    base = demo()
    base.run()
    base_calls = calls(base)
    print(f"demo on 4 instances; DRAM and SSD may cost {BUDGET} times the same run without them")
    head = f"{'LRU, s':>7} {'without':>8} {'with':>6} {'tiers':>6} {'all':>5} {'calls: tiers':>13} {'all':>5}"
    print(f"{'policy':28} {head}")
    for name in options.policies or sorted([*list_policies("residency"), *VARIANTS]):
        alone, tiered = without_tiers(base, name), with_tiers(base, name)
        rounds = [(cpu_s(base), cpu_s(alone), cpu_s(tiered)) for _ in range(options.runs)]
        lru, without, within = (min(times) for times in zip(*rounds, strict=True))
        ratio, counted = within / without, calls(tiered)
        line = f"{name:28} {lru:7.3f} {without:8.3f} {within:6.3f} {ratio:6.2f} {within / lru:5.2f}"
        line += f" {counted / calls(alone):13.2f} {counted / base_calls:5.2f}"
        print(line + ("" if ratio <= BUDGET else "  over"), flush=True)


if __name__ == "__main__":
    main()
