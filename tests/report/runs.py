"""Runs to draw: small ones of all kinds, and folders made up of tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from agentservesim import Scenario, WorkloadConfig
from agentservesim.policies.protocols import CACHE
from agentservesim.report.html import write_report
from agentservesim.scenario import RunError, prepare

HOSTILE = """</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">'"&${name}<!--"""
TIERS: dict[str, Any] = {
    "memory": {
        "tiers": [{"name": "dram", "capacity_bytes": 30e9}],
        "links": [{"between": ["hbm", "dram"], "kind": "pcie5-x16"}],
    },
    "residency": "demote,copy=true",
}


@dataclass
class FailsLater:
    """A residency policy that gives up after some gaps."""

    gaps: int = 40

    def place(self, chain: object, server: object) -> object:
        self.gaps -= 1
        if self.gaps < 0:
            raise RuntimeError(HOSTILE)
        return CACHE


def write_run(folder: Path, **fields: Any) -> Path:
    """Simulate a scenario and write it with its report."""
    prepare(Scenario.model_validate(fields)).run().save(folder)
    write_report(folder)
    return folder


def tiered_run(folder: Path) -> Path:
    """Four programs of the demo, KV in two tiers, steps kept."""
    return write_run(
        folder,
        name="tiered",
        workload={"trace": "demo", "max_programs": 4, "program_rate": 0.2},
        instances=[{"num_gpu_blocks": 11000}],
        record_steps=True,
        slo=["turn.ttft.p99<60s", "turn.tpot.p99<1ms"],
        goodput=["ttft:2s"],
        **TIERS,
    )


def plain_run(folder: Path) -> Path:
    """Eight programs of the demo on two instances, nothing about memory recorded."""
    workload = WorkloadConfig(trace="demo", max_programs=8).model_dump()
    return write_run(folder, name="plain", workload=workload, instances=[{"count": 2}])


def failed_run(folder: Path, gaps: int = 40) -> Path:
    """A run that its policy brought to an end after so many gaps."""
    scenario = Scenario.model_validate({"workload": {"trace": "demo", "max_programs": 4}, **TIERS})
    try:
        prepare(scenario).run(residency=FailsLater(gaps))
    except RunError as error:
        error.partial.save(folder)
        write_report(folder)
    return folder


def choosy_run(folder: Path, ttft_s: float) -> Path:
    """Twelve programs in six seconds, some of which are turned away; all of them, if none is quick enough."""
    return write_run(
        folder,
        workload={"trace": "demo", "max_programs": 12, "program_rate": 2},
        admission=f"early-reject,ttft_s={ttft_s}",
        goodput=["ttft:2s"],
        record_steps=True,
        **TIERS,
    )


def hostile_run(folder: Path) -> Path:
    """A run in which every name that a trace or a scenario can give is an attack."""
    trace = folder.with_name("hostile.jsonl")
    turn = {"new_tokens": 2000, "output_tokens": 30, "tools": [{"name": HOSTILE, "duration_s": 0.5}]}
    kinds = (HOSTILE, "constructor", "__proto__")
    rows = [
        {"program_id": f"{HOSTILE}{i}", "kind": kind, "arrival_s": i, "turns": [turn] * (i + 2)}
        for i, kind in enumerate(kinds)
    ]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiers = {
        "memory": {
            "tiers": [{"name": "dram", "capacity_bytes": 30e9}],
            "links": [{"between": ["hbm", "dram"], "kind": "pcie5-x16"}],
        }
    }
    return write_run(
        folder,
        name=HOSTILE,
        workload={"trace": str(trace)},
        instances=[{"name": HOSTILE}],
        residency="demote",
        record_steps=True,
        **tiers,
    )


def multiplied(run: Path, folder: Path, times: int) -> Path:
    """A run with its programs and turns many times over: as large as one wants."""
    folder.mkdir()
    for path in run.glob("*.parquet"):
        pl.read_parquet(path).write_parquet(folder / path.name)
    for name in ("programs", "turns"):
        table = pl.read_parquet(run / f"{name}.parquet")
        copies = [
            table.with_columns(pl.col("program_id") + f"#{i}", pl.col("kind") + f"{i % 20}")
            if name == "programs"
            else table.with_columns(pl.col("program_id", "session_id", "turn_id") + f"#{i}")
            for i in range(times)
        ]
        pl.concat(copies).write_parquet(folder / f"{name}.parquet")
    (folder / "summary.json").write_bytes((run / "summary.json").read_bytes())
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run."""
    summary: dict[str, Any] = orjson.loads((folder / "summary.json").read_bytes())
    return summary
