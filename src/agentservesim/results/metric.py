"""What a metric is, and how its formula is computed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from agentservesim.model import PS_PER_S

if TYPE_CHECKING:
    import polars as pl

Subject = Literal["turn", "program", "run", "tenant", "instance", "link"]
Better = Literal["lower", "higher", ""]

TABLES: dict[Subject, str] = {
    "turn": "turns",
    "program": "programs",
    "run": "programs",
    "tenant": "tenants",
    "instance": "instances",
    "link": "links",
}
"""The table that a subject's formulas are over.

Tenants are there where the trace names some, instances and links where KV is pinned or moved.
"""

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max", "n")


@dataclass(frozen=True)
class Metric:
    """One quantity.

    `name` is its place in summary.json. A metric of a turn or a program has a value per row and is
    summarised as mean, percentiles, max and n; the others are one number each. `formula` is None for
    what the run itself reports (its clock, its counters). `better` says whether less or more of it is good,
    where that is clear: a comparison names a winner only there.
    """

    name: str
    unit: str
    subject: Subject
    formula: str | None
    meaning: str
    better: Better = ""

    def each(self, **names: str) -> Metric:
        """This metric for one tier, or one link and direction."""
        name, formula = self.name, self.formula or ""
        for key, value in names.items():
            name, formula = name.replace(f"<{key}>", value), formula.replace(f"<{key}>", column_part(value))
        return replace(self, name=name, formula=formula)


def column_part(tier: str) -> str:
    """A tier's name inside the name of a column."""
    return tier.replace("-", "_")


def expression(metric: Metric) -> pl.Expr:
    """The metric's formula for a table of picoseconds, in the metric's own unit.

    Raises ValueError for a metric that has no formula.
    """
    if metric.formula is None:
        raise ValueError(f"{metric.name} has no formula")
    import polars as pl  # not to tell what metrics there are

    value = pl.sql_expr(re.sub(r"_s\b", "_ps", metric.formula))
    match metric.unit:
        case "s" | "B s":
            return value / PS_PER_S
        case "1/s" | "1/min":
            return value * PS_PER_S
    return value
