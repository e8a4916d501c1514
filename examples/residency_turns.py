"""The same work in more and more turns: what each turn's gap costs under a policy.

    python examples/residency_turns.py [--tools each|program] [--rate R] [--programs N] [--seed N]
        [--policies NAME ...]

Programs of 70,000 tokens in all, 0.13 a second, cut into 11 to 51 turns, on one H100 with the pool that it
has. After Continuum's experiment on the number of turns (arXiv 2511.02230). --tools program: the tools of a
program take 9.9 s in all, however often they are called; each: they take 0.9 s a call.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from agentservesim.random import stream
from agentservesim.scenario import Scenario, simulate

TOKENS, REPLIES, GAP_S = 70_000, 1_200, 0.9
TURNS = (11, 21, 31, 41, 51)
ARMS: dict[str, dict[str, str]] = {
    "vLLM": {"residency": "lru"},
    "programs in order, LRU": {"residency": "lru", "scheduler": "program-fcfs"},
    "Continuum's pins, vLLM's order": {"residency": "continuum"},
    "Continuum": {"policy": "continuum"},
    "Continuum, preview": {"policy": "continuum", "residency": "continuum-preview"},
    "InferCept without DRAM": {"policy": "infercept"},
    "Continuum, six programs at most": {"policy": "continuum", "admission": "max-programs,limit=6"},
}


def programs(count: int, rate: float, turns: int, gap_s: float, seed: int) -> str:
    """A trace of programs that all end with the same context; gaps are log-normal. Arrivals are those of
    any `turns`."""
    arrivals, gaps, lines, arrival_s = stream(seed, "arrivals"), stream(seed, "gaps"), [], 0.0
    reply = REPLIES // turns
    for _ in range(count):
        arrival_s += arrivals.exponential(1 / rate)
        run, context = [], 0
        for index in range(turns):
            end = TOKENS * (index + 1) // turns
            tool = {"name": "shell", "duration_s": gaps.lognormal(-0.5, 1) * gap_s}
            run.append({"new_tokens": end - reply - context, "output_tokens": reply, "tools": [tool]})
            context = end
        lines.append(json.dumps({"arrival_s": arrival_s, "turns": run}) + "\n")
    return "".join(lines)


def latency_s(trace: Path, policies: dict[str, str]) -> float:
    """Mean latency of a program."""
    scenario = Scenario.model_validate({"workload": {"trace": str(trace)}, **policies})
    return float(simulate(scenario).summary["program"]["latency_s"]["mean"])


def main() -> None:
    """Mean program latency in seconds, a column for each number of turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tools", choices=("each", "program"), default="program")
    parser.add_argument("--rate", type=float, default=0.13)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policies", action="append", choices=ARMS)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        traces = [Path(folder, f"{turns}.jsonl") for turns in TURNS]
        for turns, trace in zip(TURNS, traces, strict=True):
            gap_s = GAP_S if options.tools == "each" else GAP_S * TURNS[0] / turns
            trace.write_text(programs(options.programs, options.rate, turns, gap_s, options.seed))
        print("| policies | " + " | ".join(f"{turns} turns" for turns in TURNS) + " |")
        print("|---|" + "---:|" * len(TURNS))
        for name in options.policies or ARMS:
            cells = (f"{latency_s(trace, ARMS[name]):,.0f}" for trace in traces)
            print("| " + " | ".join([name, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
