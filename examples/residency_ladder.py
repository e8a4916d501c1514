"""InferCept's ladder: what each of its techniques adds, on a mix of six kinds of tools.

    python examples/residency_ladder.py [--rate R] [--programs N] [--seed N]

Programs after the paper's table of workloads (arXiv 2402.01869, by notes that quote it): how many calls,
with how much context, and how long they take on average; the six kinds in equal parts. Llama 2 7B, whose
KV takes 512 KiB a token, on an A100. Normalized latency is a program's latency without its tools over the
tokens that it generates.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from agentservesim.policies.protocols import ChainView, OraclePolicy
from agentservesim.policies.residency.drop import Drop
from agentservesim.policies.residency.gaps import Lengths
from agentservesim.policies.residency.infercept import InferCept
from agentservesim.policies.residency.lru import Lru
from agentservesim.policies.residency.preserved import Preserved, Shelf
from agentservesim.random import stream
from agentservesim.scenario import Scenario, simulate


class Kind(NamedTuple):
    """Means: calls of a program, tokens of context at a call, seconds of a call."""

    calls: float
    context: int
    gap_s: float


KINDS = {
    "math": Kind(3.75, 1422, 9e-5),
    "qa": Kind(2.52, 1846, 0.69),
    "virtual-env": Kind(28.18, 2185, 0.09),
    "chat": Kind(4.45, 753, 28.6),
    "image": Kind(6.91, 1247, 20.03),
    "speech": Kind(6.91, 1251, 17.24),
}
REPLY, RETURNED = 40, 25
"""Tokens generated before a call, and returned by it: assumed, the notes do not have them."""


class NeverAgain(Shelf):
    """Contexts that would take for ever to compute again."""

    def put(self, chain: ChainView, recompute_s: float, running: int) -> Preserved:
        """Whatever it takes."""
        return super().put(chain, 1e9, running)


@dataclass
class PreserveTheRest(InferCept):
    """Preserves what the link has no time to swap, however long it takes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._shelves = defaultdict(NeverAgain)


class KnownLengths(Lengths):
    """How long each gap still takes."""

    def __init__(self, oracle: OraclePolicy) -> None:
        super().__init__("elapsed", 0.0)
        self._oracle = oracle

    def of(self, chain: ChainView, now_s: float) -> float:
        """To its end."""
        return self._oracle.next_use_s[chain.program_id, chain.session_id] - now_s


@dataclass
class KnownGaps(InferCept, OraclePolicy):
    """InferCept's oracle: how long each gap still takes is known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        OraclePolicy.__init__(self)
        self._lengths = KnownLengths(self)


WHOLE = {"max_num_batched_tokens": 16_384, "max_model_len": 16_384, "enable_chunked_prefill": False}
CHUNKS = {"max_num_batched_tokens": 2048}
FORGETS = {"enable_prefix_caching": False}
RUNGS: dict[str, tuple[dict[str, Any], str, Callable[[], object]]] = {
    "vLLM": (WHOLE | FORGETS, "fcfs", Drop),
    "ImprovedDiscard: original arrival": (WHOLE | FORGETS, "infercept", Drop),
    "+ chunks": (CHUNKS | FORGETS, "infercept", Drop),
    "+ swap": (CHUNKS, "infercept", lambda: InferCept(preserve=False)),
    "+ preserve": (CHUNKS, "infercept", PreserveTheRest),
    "min-waste": (CHUNKS, "infercept", InferCept),
    "min-waste, gaps known": (CHUNKS, "infercept", KnownGaps),
    "min-waste without swap": (CHUNKS, "infercept", lambda: InferCept(swap=False)),
    "vLLM today: LRU, chunks": (CHUNKS, "fcfs", Lru),
}
MEMORY = {
    "tiers": [{"name": "dram", "capacity_bytes": 400e9}],
    "links": [{"between": ("hbm", "dram"), "kind": "pcie4-x16"}],
}


def programs(count: int, rate: float, seed: int) -> str:
    """A trace: kinds in equal parts, Poisson arrivals, exponential numbers and lengths of calls, growing
    contexts."""
    random, lines, arrival_s = stream(seed, "ladder"), [], 0.0
    for _ in range(count):
        arrival_s += random.exponential(1 / rate)
        name = list(KINDS)[random.integers(len(KINDS))]
        kind, run = KINDS[name], []
        turns = 1 + max(1, round(random.exponential(kind.calls)))
        prompt = max(64, kind.context - (REPLY + RETURNED) * turns // 2)
        for index in range(turns):
            call = {"name": name, "duration_s": random.exponential(kind.gap_s)}
            new_tokens = RETURNED if index else prompt
            run.append({"new_tokens": new_tokens, "output_tokens": REPLY, "tools": [call]})
        lines.append(json.dumps({"arrival_s": arrival_s, "turns": run}) + "\n")
    return "".join(lines)


def row(name: str, trace: Path) -> str:
    """The line of a rung: normalized latency, its improvement over vLLM's, hits, memory held in gaps."""
    engine, scheduler, residency = RUNGS[name]
    instance = {"model": str(Path(__file__).with_name("llama-2-7b.json")), "gpu": "a100-sxm", **engine}
    scenario = {"workload": {"trace": str(trace)}, "instances": [instance], "scheduler": scheduler}
    if isinstance(residency(), InferCept):
        scenario["memory"] = MEMORY
    result = simulate(Scenario.model_validate(scenario), residency=residency())
    table, summary = result.programs, result.summary
    served_s = table["latency_s"] - table["tool_s"]
    normalized_s = served_s / table["output_tokens"]
    cells = (
        f"{normalized_s.mean() * 1e3:.1f}",  # type: ignore[operator]
        f"{normalized_s.median() * 1e3:.1f}",  # type: ignore[operator]
        f"{served_s.mean():.1f}",  # type: ignore[str-bytes-safe]
        f"{summary['tokens']['hit_rate']:.1%}",
        f"{summary.get('kv', {}).get('waste_share', 0.0):.1%}",
    )
    return "| " + " | ".join([name, *cells]) + " |"


def main() -> None:
    """Print a row for each rung."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=2.0)
    parser.add_argument("--programs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| rung | normalized latency, ms: mean | median | served, s | hits | held |")
    print("|---|---:|---:|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        trace = Path(folder, "ladder.jsonl")
        trace.write_text(programs(options.programs, options.rate, options.seed))
        for name in RUNGS:
            print(row(name, trace), flush=True)


if __name__ == "__main__":
    main()
