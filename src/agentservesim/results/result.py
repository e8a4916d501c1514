"""The result of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from agentservesim.model import Program
from agentservesim.results import run_folder
from agentservesim.results.recorder import Recorder
from agentservesim.results.summary import Summary, summarise
from agentservesim.results.tables import program_table, published, step_table, turn_table


@dataclass(frozen=True, repr=False)
class Result:
    """Metrics and tables of one run.

    `turns` and `programs` have a row per turn and program; `steps` a row per engine step, or None
    if they were not recorded. Times in the tables are seconds on the simulated clock.
    """

    summary: Summary
    turns: pl.DataFrame
    programs: pl.DataFrame
    steps: pl.DataFrame | None = None

    def save(self, folder: str | Path) -> Path:
        """Write the run folder, whole or not at all, and return its path.

        An earlier run there is replaced. Raises InputError if the folder holds anything else.
        """
        tables = {"programs": self.programs, "turns": self.turns}
        if self.steps is not None:
            tables["steps"] = self.steps
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


def make_result(facts: Summary, recorder: Recorder, programs: Sequence[Program]) -> Result:
    """Tables and summary of a finished run.

    `facts` are the keys of the summary that the run itself reports: the metrics without a formula,
    the scenario, the seed and the provenance.
    """
    turns = turn_table(recorder, programs)
    rows = program_table(turns, programs)
    return Result(
        summary=summarise(facts, turns, rows),
        turns=published(turns, "turn"),
        programs=published(rows, "program"),
        steps=published(step_table(recorder)) if recorder.wants_steps else None,
    )


def _shown(seconds: float | None, scale: float, unit: str) -> str:
    return "none" if seconds is None else f"{seconds * scale:.4g} {unit}"
