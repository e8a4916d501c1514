"""The result of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from agentservesim.model import Program
from agentservesim.results import run_folder
from agentservesim.results.expenses import expenses
from agentservesim.results.memory_tables import (
    instance_table,
    link_table,
    residency_table,
    transfer_table,
)
from agentservesim.results.recorder import Recorder
from agentservesim.results.summary import Summary, summarise
from agentservesim.results.tables import program_table, published, step_table, tenant_table, turn_table
from agentservesim.results.targets import NO_TARGETS, Targets


@dataclass(frozen=True, repr=False)
class Result:
    """Metrics and tables of one run.

    `turns` and `programs` have a row per turn and program; `steps` a row per engine step, or None
    if they were not recorded; `tenants` one per tenant, or None if the trace names none. `memory` has the
    tables transfers, residency, instances and links where KV is pinned or moved. Times in the tables are
    seconds on the simulated clock.
    """

    summary: Summary
    turns: pl.DataFrame
    programs: pl.DataFrame
    steps: pl.DataFrame | None = None
    tenants: pl.DataFrame | None = None
    memory: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the run folder, whole or not at all, and return its path.

        An earlier run there is replaced. Raises InputError if the folder holds anything else.
        """
        tables = {"programs": self.programs, "turns": self.turns}
        if self.tenants is not None:
            tables["tenants"] = self.tenants
        if self.steps is not None:
            tables["steps"] = self.steps
        tables.update(self.memory)
        run_folder.write(Path(folder), self.summary, tables)
        return Path(folder)

    def __repr__(self) -> str:
        counts, latency = self.summary["counts"], self.summary["program"]["latency_s"]
        ttft, tpot = self.summary["turn"]["ttft_s"], self.summary["turn"]["tpot_s"]
        return (
            f"<Result {self.summary['scenario']['name']!r}: {counts['programs']:,} programs, "
            f"{counts['turns']:,} turns; mean program latency {_shown(latency['mean'], 1, 's')}, "
            f"TTFT {_shown(ttft['mean'], 1e3, 'ms')}, TPOT {_shown(tpot['mean'], 1e3, 'ms')}>"
        )


def make_result(
    facts: Summary,
    recorder: Recorder,
    programs: Sequence[Program],
    known: Mapping[str, Sequence[int]],
    targets: Targets = NO_TARGETS,
    fault: str = "",
) -> Result:
    """Tables and summary of a run.

    `facts` are the keys of the summary that the run itself reports: the metrics without a formula,
    the scenario, the seed and the provenance. `known` has the columns of turns that are known before the
    run, program by program; `targets` is what is asked of it. A run that did not come to its end has the
    `fault` that ended it; its programs are those that did.
    """
    turns = targets.mark_turns(turn_table(recorder, programs, known))
    rows = targets.mark_programs(program_table(turns, programs, recorder.rejected), turns)
    if fault:
        facts = {**facts, "incomplete": fault}
        ended = {program.id: len(program.turns) for program in programs}
        whole = pl.col("turns") == pl.col("program_id").replace_strict(ended, return_dtype=pl.Int64)
        rows = rows.filter(whole | (pl.col("status") == "rejected"))
    tables = {"turns": turns, "programs": rows}
    if (rows["tenant"] != "").any():
        tables["tenants"] = tenant_table(rows)
    if recorder.uses:
        served = rows.filter(pl.col("status") != "rejected").height
        tokens = int(turns["output_tokens"].sum())
        facts = {**facts, "cost": expenses(recorder.uses, recorder.clock_ps, served, tokens)}
    memory = _memory(recorder) if recorder.memories else {}
    summary = summarise(facts, {**tables, **memory}, recorder.tiers)
    if targets.objectives:
        summary["slo"] = [objective.judge(summary) for objective in targets.objectives]
    return Result(
        summary=summary,
        turns=published(turns, "turn"),
        programs=published(rows, "program"),
        steps=published(step_table(recorder)) if recorder.wants_steps else None,
        tenants=published(tables["tenants"]) if "tenants" in tables else None,
        memory={name: published(table) for name, table in memory.items()},
    )


def _memory(recorder: Recorder) -> dict[str, pl.DataFrame]:
    residency = residency_table(recorder)
    return {
        "transfers": transfer_table(recorder),
        "residency": residency,
        "instances": instance_table(recorder, residency),
        "links": link_table(recorder),
    }


def _shown(seconds: float | None, scale: float, unit: str) -> str:
    return "none" if seconds is None else f"{seconds * scale:.4g} {unit}"
