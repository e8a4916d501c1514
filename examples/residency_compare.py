"""All residency policies side by side, under memory pressure, on three sizes of host memory.

    python examples/residency_compare.py [TRACE] [--programs N] [--rate R] [--blocks B] [--dram BYTES]
        [--policy SPEC ...]

Prints a Markdown table for each size: a DRAM tier with room for everything, one with too little, none;
or one table for the size given.
"""

from __future__ import annotations

import argparse

from agentservesim.model import InputError
from agentservesim.policies import list_policies
from agentservesim.scenario import Scenario, simulate

SIZES = {"room for all": 150e9, "too little": 20e9, "none": 0.0}
COLUMNS = ("policy", "turn, s", "TTFT, s", "TTFT p95, s", "queue, s", "hits", "moved, GB", "held", "forced")


def scenario(options: argparse.Namespace, residency: str, dram_bytes: float) -> Scenario:
    """One H100 with a small KV pool, and a DRAM tier behind PCIe 5."""
    memory = {
        "tiers": [{"name": "dram", "capacity_bytes": dram_bytes}],
        "links": [{"between": ("hbm", "dram"), "kind": "pcie5-x16"}],
    }
    return Scenario.model_validate(
        {
            "workload": {
                "trace": options.trace,
                "max_programs": options.programs,
                "program_rate": options.rate,
                "max_gap_s": options.max_gap,
            },
            "instances": [{"num_gpu_blocks": options.blocks}],
            "memory": memory if dram_bytes else {},
            "residency": residency,
        }
    )


def row(spec: str, options: argparse.Namespace, dram_bytes: float) -> tuple[float, str]:
    """Mean turn latency, and the line of the table."""
    summary = simulate(scenario(options, spec, dram_bytes)).summary
    turn, kv = summary["turn"], summary.get("kv", {})  # LRU alone moves and holds nothing
    moved = sum(sum(link.values()) for link in kv.get("bytes_moved", {}).values())
    cells = [
        f"{turn['e2el_s']['mean']:.2f}",
        f"{turn['ttft_s']['mean']:.2f}",
        f"{turn['ttft_s']['p95']:.2f}",
        f"{turn['queue_s']['mean']:.2f}",
        f"{summary['tokens']['hit_rate']:.1%}",
        f"{moved / 1e9:,.0f}",
        f"{kv.get('waste_share', 0.0):.1%}",
        f"{kv.get('forced_unpins', 0):,}",
    ]
    return turn["e2el_s"]["mean"], "| " + " | ".join([f"`{spec}`", *cells]) + " |"


def main() -> None:
    """Print the tables, best mean turn latency first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trace", nargs="?", default="demo")
    parser.add_argument("--programs", type=int, default=20)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--max-gap", type=float)
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--dram", type=float)
    parser.add_argument("--policy", action="append")
    options = parser.parse_args()
    sizes = SIZES if options.dram is None else {f"{options.dram:.0f} bytes": options.dram}
    for size, dram_bytes in sizes.items():
        rows = []
        for spec in options.policy or list_policies("residency"):
            try:
                rows.append(row(spec, options, dram_bytes))
            except InputError as error:
                if dram_bytes:  # without a tier, those that need one are left out
                    raise SystemExit(f"error: {error}") from None
        print(f"\nDRAM: {size}\n\n| " + " | ".join(COLUMNS) + " |")
        print("|---|" + "---:|" * (len(COLUMNS) - 1))
        print("\n".join(line for _, line in sorted(rows)), flush=True)


if __name__ == "__main__":
    main()
