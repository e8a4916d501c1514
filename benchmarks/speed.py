"""The speed of the simulator, in six measurements, against the project's budgets.

1. 1,000 programs on 4 instances. 2. 10,000 programs on 40 instances, in a process of its own, with its
peak memory. 3. What a turn costs as contexts grow from 4k to 400k tokens. 4. Leaping against stepping.
5. What each policy costs beside the plain one. 6. What comes before the first step.

Times are CPU seconds from the workload in memory to the result with its tables and metrics; reading
the trace is given apart. Budgets are held against the time on the reference machine (see `clock`).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from agentservesim.model import PS_PER_S, Dependency, Program, Segment, Turn, Workload
from agentservesim.results import Result
from agentservesim.scenario import InstanceConfig, Plan, Scenario, prepare
from agentservesim.workload.config import WorkloadConfig
from benchmarks.clock import Timing, measure
from benchmarks.policies import policy_costs
from benchmarks.start import starting
from benchmarks.workload import REPOSITORY, trace

HISTORY = REPOSITORY / "benchmarks" / "history.jsonl"
PEERS = "NVIDIA Dynamo 1.6.1 (Rust): 2.84 s for 1,000 programs, 21 to 33 s for 10,000"

BUDGET_1K_S = 0.6
BUDGET_10K_S = 12.0
BUDGET_10K_BYTES = 10**9
BUDGET_GROWTH = 0.25
"""How much more a turn with 400k tokens of context may cost than one with 4k."""

CONTEXTS = (4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 400_000)


@dataclass
class Report:
    """Numbers for the history, lines for the reader, and the budgets that were missed."""

    numbers: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def line(self, text: str = "") -> None:
        """Print a line now."""
        print(text, flush=True)

    def hold(self, what: str, value: float, budget: float, form: str) -> str:
        """`value` against its budget, as text; a budget that is missed is kept."""
        good = value <= budget
        text = f"{value:{form}} (budget {budget:{form}}: {'kept' if good else 'MISSED'})"
        if not good:
            self.missed.append(f"{what}: {text}")
        return text


def scenario(path: str, instances: int, **settings: Any) -> Scenario:
    """The workload on instances of 480,000 KV tokens, a session staying where it began."""
    groups = (InstanceConfig(count=instances, gpu="h100-sxm", model="llama-3.1-8b", num_gpu_blocks=30_000),)
    limits = {"max_programs": settings.pop("max_programs", None)}
    workload = WorkloadConfig(trace=path, format="mooncake", **limits)
    return Scenario(workload=workload, instances=groups, router="session-affinity", **settings)


# ---- 1: a thousand programs ---------------------------------------------------------------------


def thousand(report: Report, runs: int) -> None:
    """1,000 programs on 4 instances."""
    source = trace(1000, 2.0, 16)
    read = measure(lambda: prepare(scenario(str(source.path), 4)), 1)
    plan = prepare(scenario(str(source.path), 4))
    result = plan.run()
    timing = measure(plan.run, runs)
    counts, tokens = result.summary["counts"], result.summary["tokens"]
    sizes = f"{counts['turns']:,} turns, {tokens['prompt']:,} prompt and {tokens['output']:,} output tokens"
    report.line(f"1. 1,000 programs ({source.source}) on 4 instances of 30,000 blocks of 16")
    report.line(f"   {sizes}, {counts['steps']:,} steps")
    report.line(f"   simulation      {times(timing)}")
    verdict = report.hold("1,000 programs, s", timing.normal_s, BUDGET_1K_S, ".2f")
    report.line(f"   {verdict}; {1e6 * timing.normal_s / counts['turns']:.0f} us a turn")
    report.line(f"   reading apart   {times(read)}")
    report.numbers["1k"] = {
        "source": source.source,
        **numbers(timing),
        "read": numbers(read),
        "steps": counts["steps"],
        "leaps": counts["leaps"],
    }


# ---- 2: ten thousand programs -------------------------------------------------------------------


def ten_thousand(report: Report, runs: int) -> None:
    """10,000 programs on 40 instances, in a process that does nothing else."""
    source = trace(10_000, 20.0, 64)
    command = [sys.executable, "-m", "benchmarks", "--child", str(source.path), "--runs", str(runs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    found = json.loads(done.stdout)
    timing, read = Timing(**found["timing"]), Timing(**found["read"])
    report.line()
    report.line(f"2. 10,000 programs ({source.source}): {found['turns']:,} turns on 40 instances")
    report.line(f"   simulation      {times(timing)}")
    verdict = report.hold("10,000 programs, s", timing.normal_s, BUDGET_10K_S, ".1f")
    report.line(f"   {verdict}; {1e6 * timing.normal_s / found['turns']:.0f} us a turn")
    report.line(f"   reading apart   {times(read)}")
    memory = report.hold("memory, MB", found["peak_bytes"] / 1e6, BUDGET_10K_BYTES / 1e6, ".0f")
    report.line(f"   peak memory     {memory} MB, with reading")
    report.numbers["10k"] = {
        "source": source.source,
        **numbers(timing),
        "read": numbers(read),
        "peak_bytes": found["peak_bytes"],
    }


def child(path: str, runs: int) -> None:
    """The other process: read, simulate, and print what it took as JSON."""
    plans: list[Plan] = []
    read = measure(lambda: plans.append(prepare(scenario(path, 40))), 1)
    turns: list[int] = []
    timing = measure(lambda: turns.append(plans[0].run().turns.height), runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_bytes = peak if sys.platform == "darwin" else peak * 1024
    found = {"timing": asdict(timing), "read": asdict(read), "turns": turns[0], "peak_bytes": peak_bytes}
    print(json.dumps(found))


# ---- 3: growing contexts ------------------------------------------------------------------------


def long_programs(context: int, turns: int, programs: int = 4) -> Workload:
    """Programs one behind the other that begin with `context` tokens and grow by 300 a turn.

    Each has content of its own, and its turns follow each other by a second.
    """

    def made(name: int) -> Program:
        segment = Segment()
        grown = [context + 300 * i for i in range(turns)]
        return Program(
            str(name),
            0,
            tuple(
                Turn(
                    id=f"{name}:{i}",
                    index=i,
                    session_id=str(name),
                    prompt_tokens=prompt,
                    output_tokens=100,
                    path=((segment, prompt + 100),),
                    dependencies=(Dependency(i - 1, delay_ps=PS_PER_S),) if i else (),
                )
                for i, prompt in enumerate(grown)
            ),
        )

    return Workload(tuple(made(n) for n in range(programs)))


def growing_contexts(report: Report, runs: int, turns: int = 200) -> None:
    """CPU time of one more turn, by context: programs of many turns less the same with one turn.

    The first turn of a program computes its whole context, in steps of 8,192 tokens; those steps are not
    what is asked about here.
    """
    base = prepare(Scenario(instances=(InstanceConfig(gpu="h100-sxm", num_gpu_blocks=200_000),)))
    one_by_one = base.scenario.workload.model_copy(update={"max_concurrency": 1})
    settings = base.scenario.model_copy(update={"workload": one_by_one})
    report.line()
    report.line("3. One turn more, by context")
    report.line("      tokens   us a turn   steps a turn   leaps a turn")
    plans = {
        context: [Plan(settings, long_programs(context, n), base.costs) for n in (turns + 1, 1)]
        for context in CONTEXTS
    }
    spent: dict[int, list[float]] = {context: [] for context in CONTEXTS}
    for _ in range(runs):
        for context, (many, first) in plans.items():
            spent[context].append(measure(many.run, 1).normal_s - measure(first.run, 1).normal_s)
    costs = []
    for context, pair in plans.items():
        of_many, of_first = (plan.run().summary["counts"] for plan in pair)
        more = {key: of_many[key] - of_first[key] for key in ("turns", "steps", "leaps")}
        costs.append(1e6 * median(spent[context]) / more["turns"])
        report.line(
            f"   {context:>9,} {costs[-1]:>11.1f} {more['steps'] / more['turns']:>14.1f} "
            f"{more['leaps'] / more['turns']:>14.2f}"
        )
    slope, start = np.polyfit(np.array(CONTEXTS) / 1e5, costs, 1)
    growth = slope * (CONTEXTS[-1] - CONTEXTS[0]) / 1e5 / (start + slope * CONTEXTS[0] / 1e5)
    verdict = report.hold("growth from 4k to 400k tokens", float(growth), BUDGET_GROWTH, ".0%")
    report.line(f"   fitted line: {start:.1f} us and {slope:+.2f} us for 100,000 tokens; growth {verdict}")
    report.numbers["contexts"] = {
        "tokens": CONTEXTS,
        "us_per_turn": [round(cost, 1) for cost in costs],
        "us_per_100k_tokens": round(float(slope), 2),
    }


# ---- 4: leap and step ---------------------------------------------------------------------------


def leap_against_step(report: Report, runs: int) -> None:
    """200 of the programs with and without leaps: the same numbers, in how much less time."""
    path = str(trace(1000, 2.0, 16).path)
    plans = [prepare(scenario(path, 1, max_programs=200, leap=leap)) for leap in (True, False)]
    results: list[Result] = [plan.run() for plan in plans]
    leap, step = (measure(plan.run, runs) for plan in plans)
    same = results[0].turns.equals(results[1].turns)
    steps = results[0].summary["counts"]["steps"]
    report.line()
    report.line(f"4. 200 programs on one instance, {steps:,} steps")
    report.line(f"   leaping         {times(leap)}")
    report.line(f"   stepping        {times(step)}; {1e6 * step.normal_s / steps:.1f} us a step")
    ratio = step.normal_s / leap.normal_s
    report.line(f"   {ratio:.1f} times as fast; the turns are {'identical' if same else 'DIFFERENT'}")
    if not same:
        report.missed.append("leap and step give different turns")
    report.numbers["leap"] = {"leap_s": round(leap.normal_s, 4), "step_s": round(step.normal_s, 4)}


# ---- all ----------------------------------------------------------------------------------------


def times(timing: Timing) -> str:
    """The CPU times of the runs in a few words."""
    slower = median(cpu / alike for cpu, alike in zip(timing.cpu_s, timing.reference_s, strict=True))
    here = f"{timing.cpu_s[0]:.3f} s"
    if len(timing.cpu_s) > 1:
        here = f"fastest {timing.fastest_s:.3f} s, median {timing.median_s:.3f} s of {len(timing.cpu_s)} runs"
    return f"{timing.normal_s:.3f} s; here {here}, {slower:.2f} times as slow"


def numbers(timing: Timing) -> dict[str, float]:
    """A timing for the history."""
    return {
        "cpu_s_min": round(timing.fastest_s, 4),
        "cpu_s_median": round(timing.median_s, 4),
        "reference_s": round(timing.normal_s, 4),
    }


def record(report: Report) -> None:
    """Append a line to the history."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    entry = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        **report.numbers,
    }
    with HISTORY.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    report.line(f"recorded in {HISTORY.relative_to(REPOSITORY)}")


def main() -> int:
    """Run what is asked for; 1 if a budget is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"append a line to {HISTORY.name}")
    parser.add_argument("--runs", type=int, default=7, help="runs of each short measurement")
    parser.add_argument(
        "--only", type=int, choices=(1, 2, 3, 4, 5, 6), action="append", help="one measurement"
    )
    parser.add_argument("--child", metavar="TRACE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.runs)
        return 0
    report, start = Report(), time.perf_counter()
    report.line("CPU seconds on the reference machine; here: on this machine, as busy as it is now")
    report.line()
    parts: dict[int, Callable[[Report], None]] = {
        1: partial(thousand, runs=options.runs),
        2: partial(ten_thousand, runs=2),
        3: partial(growing_contexts, runs=options.runs),
        4: partial(leap_against_step, runs=2),
        5: partial(policy_costs, runs=min(options.runs, 5)),
        6: partial(starting, runs=options.runs),
    }
    for number, part in parts.items():
        if options.only is None or number in options.only:
            part(report)
    report.line()
    report.line(f"peers on such a machine: {PEERS}")
    report.line(f"took {time.perf_counter() - start:.0f} s in all")
    if options.record:
        record(report)
    for missed in report.missed:
        report.line(f"MISSED {missed}")
    return 1 if report.missed else 0
