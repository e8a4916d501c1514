"""The same work in more and more turns: what each turn's gap costs under a policy.

    python examples/residency_turns.py [--policy SPEC ...]

Programs of 70,000 tokens in all, one in 7.5 s, tool gaps of about a second, cut into 5 to 40 turns; one
H100. After Continuum's experiment on the number of turns (arXiv 2511.02230).
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from agentservesim.model import Dependency, Program, Segment, ToolCall, Turn, Workload, to_ps
from agentservesim.random import stream
from agentservesim.scenario import InstanceConfig, Scenario, prepare

TOKENS, REPLIES, PROGRAMS, RATE, GAP_S = 70_000, 1_200, 60, 0.13, 0.9


def programs(turns: int) -> Workload:
    """Programs that all end with the same context; gaps are log-normal."""
    random = stream(0, f"turns-{turns}")
    made, arrival_s = [], 0.0
    for number in range(PROGRAMS):
        arrival_s += random.exponential(1 / RATE)
        content, reply, run = Segment(), REPLIES // turns, []
        for index in range(turns):
            end = TOKENS * (index + 1) // turns
            gap_ps = to_ps(random.lognormal(0, 1) * GAP_S / 1.65)
            run.append(
                Turn(
                    id=f"{number}:{index}",
                    index=index,
                    session_id="main",
                    prompt_tokens=end - reply,
                    output_tokens=reply,
                    path=((content, end),),
                    dependencies=(Dependency(index - 1),) if index else (),
                    tools=(ToolCall("shell", gap_ps),),
                )
            )
        made.append(Program(f"p{number}", to_ps(arrival_s), tuple(run)))
    return Workload(tuple(made))


def main() -> None:
    """Mean program latency in seconds, a column for each number of turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policy", action="append")
    parser.add_argument("--blocks", type=int, default=20_000)
    options = parser.parse_args()
    counts = (5, 10, 20, 40)
    print("| policy | " + " | ".join(f"{turns} turns" for turns in counts) + " |")
    print("|---|" + "---:|" * len(counts))
    for spec in options.policy or ["drop", "lru", "ttl", "continuum-preview", "continuum"]:
        instance = InstanceConfig(num_gpu_blocks=options.blocks)
        plan = prepare(Scenario(instances=(instance,), residency=spec))
        results = [replace(plan, workload=programs(turns)).run().summary for turns in counts]
        print(
            f"| `{spec}` | " + " | ".join(f"{r['program']['latency_s']['mean']:.1f}" for r in results) + " |"
        )


if __name__ == "__main__":
    main()
