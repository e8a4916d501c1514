"""Every bundle on one trace at three loads: below, at and above saturation.

    python examples/bundle_compare.py TRACE [--rates R,R,R] [--seeds N] [--programs N] [--max-gap S]
        [--instances N] [--bundle NAME ...] [--dram BYTES] [--out FOLDER] [--jobs N] [--variants]

Four H100 with Llama 3.1 8B by default. The same arrivals for all, drawn at each rate; no gap is longer than
--max-gap. Arms that can use a tier below HBM are run with and without DRAM of --dram bytes an instance.
Prints a Markdown table for each rate, best mean latency of programs first. --out keeps the runs: what is
there is not run again. --variants runs other settings of some bundles instead, each at a load that tells.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentservesim import Scenario
from agentservesim.experiment import Arm, Comparison, compare
from agentservesim.policies.bundles import BUNDLES
from agentservesim.report.progress import counting_runs

DEFAULT = "default"
WITH_DRAM: dict[str, dict[str, str]] = {
    "default + DRAM": {"residency": "hicache"},
    "infercept + DRAM": {"policy": "infercept"},
    "mori + DRAM": {"policy": "mori"},
}
VARIANTS: dict[str, tuple[dict[str, float], dict[str, dict[str, str]]]] = {
    "0.011 programs a second": (
        {"program_rate": 0.011},
        {
            "saga": {"policy": "saga"},
            "saga, residency lru": {"policy": "saga", "residency": "lru"},
            "saga, router session-affinity": {"policy": "saga", "router": "session-affinity"},
            "sglang, balance_abs=4": {"policy": "sglang", "router": "prefix-aware,balance_abs=4"},
        },
    ),
    "0.016 programs a second": (
        {"program_rate": 0.016},
        {
            "thunderagent, decay=0": dict.fromkeys(("admission", "router"), "thunderagent,decay=0"),
            "max-programs,limit=24": {"admission": "max-programs,limit=24"},
        },
    ),
    "64 programs at once": (
        {"max_concurrency": 64},
        {
            "continuum": {"policy": "continuum"},
            "thunderagent": {"policy": "thunderagent"},
            "thunderagent, decay=0": dict.fromkeys(("admission", "router"), "thunderagent,decay=0"),
        },
    ),
}
"""Load: settings of the workload, and the policies that are set against the default ones there."""
COLUMNS: dict[str, tuple[str, float, str]] = {
    "slowdown": ("program.slowdown.mean", 1, ".2f"),
    "TTFT, s": ("turn.ttft_s.mean", 1, ".2f"),
    "TTFT p99, s": ("turn.ttft_s.p99", 1, ",.1f"),
    "TPOT, ms": ("turn.tpot_s.mean", 1e3, ".1f"),
    "queue": ("program.time_share.queue", 100, ".1f"),
    "hits, %": ("tokens.hit_rate", 100, ".1f"),
    "programs/h": ("throughput.programs_per_s", 3600, ".1f"),
    "preempted": ("counts.preemptions", 1, ",.0f"),
}
"""Column: place in the summary, factor, format."""


def bundles(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every bundle, and those that use DRAM with it."""
    chosen: dict[str, dict[str, Any]] = {name: {"policy": name} for name in options.bundle or BUNDLES}
    memory = {
        "tiers": [{"name": "dram", "capacity_bytes": options.dram}],
        "links": [{"between": ("hbm", "dram"), "kind": "pcie5-x16"}],
    }
    if options.dram:
        chosen |= {name: {**policies, "memory": memory} for name, policies in WITH_DRAM.items()}
    return chosen


def arms(
    options: argparse.Namespace, load: Mapping[str, float], chosen: Mapping[str, dict[str, Any]]
) -> list[Arm]:
    """The default policies, and the chosen ones."""
    programs = {"max_gap_s": options.max_gap, "max_programs": options.programs}
    shared = {
        "workload": {"trace": options.trace, **programs, **load},
        "instances": [{"count": options.instances}],
    }
    return [
        Arm(name, Scenario.model_validate({**shared, **policies}))
        for name, policies in {DEFAULT: {}, **chosen}.items()
    ]


def table(comparison: Comparison) -> list[str]:
    """A row for each arm, best mean latency first."""
    lines = {line.place: line for line in comparison.lines}
    latency = lines["program.latency_s.mean"].cells
    rows = ["| arm | program, s | against default | " + " | ".join(COLUMNS) + " |"]
    rows.append("|---|" + "---:|" * (len(COLUMNS) + 2))
    for name in sorted(latency, key=lambda name: latency[name].mean):
        relative = latency[name].relative
        told = ""
        if relative is not None:
            told = f"{relative.value:+.0%}"
            told += f" ± {relative.half_width:.0%}" if relative.half_width is not None else ""
        cells = [f"{lines[place].cells[name].mean * scale:{form}}" for place, scale, form in COLUMNS.values()]
        rows.append("| " + " | ".join([f"`{name}`", f"{latency[name].mean:,.0f}", told, *cells]) + " |")
    return rows


def main() -> None:
    """Print a table for each load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--rates", default="0.005,0.011,0.016")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--programs", type=int, default=120)
    parser.add_argument("--max-gap", type=float, default=300.0)
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--bundle", action="append", choices=BUNDLES)
    parser.add_argument("--dram", type=float, default=100e9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--variants", action="store_true")
    options = parser.parse_args()
    rates = map(float, options.rates.split(","))
    every = {f"{rate:g} programs a second": ({"program_rate": rate}, bundles(options)) for rate in rates}
    for name, (load, chosen) in (VARIANTS if options.variants else every).items():
        folder = options.out and options.out / name.replace(" ", "-")
        with counting_runs(False) as progress:
            comparison = compare(arms(options, load, chosen), options.seeds, folder, options.jobs, progress)
        print(f"\n{name}\n")
        print("\n".join(table(comparison)), flush=True)


if __name__ == "__main__":
    main()
