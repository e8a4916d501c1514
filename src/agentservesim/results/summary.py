"""summary.json: the run in numbers.

Keys are nested as their dots say: `summary["turn"]["ttft_s"]["p99"]`. Same scenario and seed, same
bytes, but for what `comparable` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import fsum, isnan
from typing import Any

import numpy as np
import polars as pl

from agentservesim.results.metric import STATISTICS, TABLES, Metric, expression
from agentservesim.results.metrics import METRICS

SCHEMA_VERSION = 1

Summary = dict[str, Any]


_ORDER = (
    *("schema_version", "incomplete", "scenario", "seed", "simulated_s", "wall_s", "cpu_s"),
    *("counts", "tokens", "program", "turn", "throughput", "goodput", "fairness", "cost", "kv"),
    *("policy_figures", "policy_wants", "provenance"),
)


def summarise(facts: Summary, tables: Mapping[str, pl.DataFrame], tiers: Sequence[str]) -> Summary:
    """The facts of a run and every metric that has a formula, and the columns that are in it.

    The tables are those in picoseconds; `tiers` are the tiers below HBM.
    """
    summary: Summary = {**facts, "schema_version": SCHEMA_VERSION, "counts": dict(facts["counts"])}
    for metric in METRICS:
        table = tables.get(TABLES[metric.subject])
        if metric.formula is None or table is None:
            continue
        for one, rows in _each(metric, table, tiers):
            formula = expression(one)
            if not set(formula.meta.root_names()) <= set(rows.columns):
                continue
            values = rows.select(formula.alias("value"))["value"]
            whole = metric.subject in ("turn", "program")
            _put(summary, one.name, statistics(values) if whole else _number(values.item()))
    return {key: summary[key] for key in _ORDER if key in summary}


def _each(metric: Metric, table: pl.DataFrame, tiers: Sequence[str]) -> Iterator[tuple[Metric, pl.DataFrame]]:
    """The metric for each tier or link it is about, and the rows it is over; most metrics are one."""
    if "<tier>" in metric.name:
        for tier in ("hbm", *tiers) if tiers else ():
            yield metric.each(tier=tier), table
    elif "<link>" in metric.name:
        for (link, direction), rows in table.group_by("link", "direction", maintain_order=True):
            yield metric.each(link=str(link), direction=str(direction)), rows
    else:
        yield metric, table


def _number(value: float | int | None) -> float | int | None:
    """A metric of no rows (0 over 0) has no value."""
    return None if value is None or isnan(value) else value


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
    (`counts.leaps`, the scenario's `leap`), and what policies would have liked to be told (`policy_wants`).
    """
    kept = {key: value for key, value in summary.items() if key not in ("wall_s", "cpu_s", "policy_wants")}
    kept["counts"] = {key: value for key, value in kept["counts"].items() if key != "leaps"}
    kept["scenario"] = {key: value for key, value in kept["scenario"].items() if key != "leap"}
    return kept


def _put(summary: Summary, name: str, value: object) -> None:
    *tables, key = name.split(".")
    for table in tables:
        summary = summary.setdefault(table, {})
    summary[key] = value
