"""summary.json: the run in numbers.

Keys are nested as their dots say: `summary["turn"]["ttft_s"]["p99"]`. Same scenario and seed, same
bytes, but for what `comparable` leaves out.
"""

from __future__ import annotations

from math import fsum
from typing import Any

import numpy as np
import polars as pl

from agentservesim.results.metrics import ROW_METRICS, RUN_METRICS, STATISTICS, expression

SCHEMA_VERSION = 1

Summary = dict[str, Any]


_ORDER = (
    *("schema_version", "scenario", "seed", "simulated_s", "wall_s", "cpu_s"),
    *("counts", "tokens", "program", "turn", "throughput", "provenance"),
)


def summarise(facts: Summary, turns: pl.DataFrame, programs: pl.DataFrame) -> Summary:
    """The facts of a run and every metric that has a formula; the tables are those in picoseconds."""
    summary: Summary = {**facts, "schema_version": SCHEMA_VERSION, "counts": dict(facts["counts"])}
    tables = {"turn": turns, "program": programs}
    for metric in ROW_METRICS:
        values = tables[metric.subject].select(expression(metric).alias("value"))["value"]
        _put(summary, metric.name, statistics(values))
    for metric in RUN_METRICS:
        _put(summary, metric.name, programs.select(expression(metric).alias("value")).item())
    return {key: summary[key] for key in _ORDER}


def statistics(values: pl.Series) -> dict[str, float | int | None]:
    """Mean, percentiles (linear interpolation between neighbours), max and n of the values that exist.

    Without any value all but n are None.
    """
    known = np.sort(values.drop_nulls().to_numpy())
    if not known.size:
        return {name: 0 if name == "n" else None for name in STATISTICS}
    p50, p90, p95, p99 = np.percentile(known, (50, 90, 95, 99), method="linear").tolist()
    mean = fsum(known.tolist()) / known.size
    return dict(zip(STATISTICS, (mean, p50, p90, p95, p99, float(known[-1]), int(known.size)), strict=True))


def comparable(summary: Summary) -> Summary:
    """The part that is the same, byte for byte, whenever the same thing is simulated.

    Left out: how long the computer took (`wall_s`, `cpu_s`), and how the engine went about it
    (`counts.leaps`, and the scenario's `leap`).
    """
    kept = {key: value for key, value in summary.items() if key not in ("wall_s", "cpu_s")}
    kept["counts"] = {key: value for key, value in kept["counts"].items() if key != "leaps"}
    kept["scenario"] = {key: value for key, value in kept["scenario"].items() if key != "leap"}
    return kept


def _put(summary: Summary, name: str, value: object) -> None:
    *tables, key = name.split(".")
    for table in tables:
        summary = summary.setdefault(table, {})
    summary[key] = value
