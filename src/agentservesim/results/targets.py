"""What is asked of a run: objectives (`slo`), and limits inside which a turn is good (`goodput`).

An objective is `METRIC.STATISTIC OP VALUE`, as in `turn.ttft.p99<2s`. METRIC is a name of `agentservesim
metrics`, without `_s` if one likes; STATISTIC (mean, p50, p90, p95, p99, max) is for what has a value per
turn or program; OP is <, <=, > or >=. Times need a unit (us, ms, s, min, h), shares may have a %.

A limit is `METRIC:VALUE`, as in `ttft:2s`: most of a turn's metric, or of a program's, as in
`program.latency:10min`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import polars as pl

from agentservesim.lookup import did_you_mean, near_or_all
from agentservesim.model import InputError
from agentservesim.results.metric import STATISTICS, Metric, expression
from agentservesim.results.metrics import METRICS, ROW_METRICS, find_metric

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_UNITS: dict[str, dict[str, float]] = {
    "s": _SECONDS,
    "": {"": 1.0, "%": 0.01},
    "1/s": {"": 1.0, "/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600},
    "1/min": {"": 1.0, "/min": 1.0},
}


@dataclass(frozen=True)
class Objective:
    """One service level objective; `metric` is its place in the summary, `bound` in that metric's unit."""

    text: str
    metric: str
    operator: str
    bound: float
    unit: str

    def judge(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Whether a run met it. What has no value (a metric of nothing) is missed."""
        found: Any = summary
        for key in self.metric.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        met = found is not None and _OPERATORS[self.operator](found, self.bound)
        shown = {"slo": self.text, "metric": self.metric, "unit": self.unit, "bound": self.bound}
        return {**shown, "value": found, "met": met}


@dataclass(frozen=True)
class Limit:
    """The most that a good turn or program may take, in the metric's unit. No value is inside."""

    metric: Metric
    most: float

    @property
    def inside(self) -> pl.Expr:
        """For each row of a table of picoseconds."""
        return (expression(self.metric) <= self.most).fill_null(True)


@dataclass(frozen=True)
class Targets:
    """All that is asked of a run."""

    objectives: Sequence[Objective] = ()
    limits: Sequence[Limit] = ()

    @classmethod
    def of(cls, slo: Sequence[str], goodput: Sequence[str]) -> Targets:
        """Raises InputError for what cannot be read."""
        return cls([parse_objective(text) for text in slo], [parse_limit(text) for text in goodput])

    def mark_turns(self, turns: pl.DataFrame) -> pl.DataFrame:
        """Turns with a column `good`, if there are limits."""
        return turns.with_columns(good=self._inside("turn")) if self.limits else turns

    def mark_programs(self, programs: pl.DataFrame, turns: pl.DataFrame) -> pl.DataFrame:
        """Programs with `good_turns` and `good`, if there are limits; the turns are marked ones."""
        if not self.limits:
            return programs
        counts = turns.group_by("program_id").agg(good_turns=pl.col("good").sum().cast(pl.Int64))
        marked = programs.join(counts, on="program_id", how="left", maintain_order="left")
        whole = (pl.col("good_turns") == pl.col("turns")) & (pl.col("status") == "done")
        return marked.with_columns(pl.col("good_turns").fill_null(0), good=self._inside("program") & whole)

    def _inside(self, subject: str) -> pl.Expr:
        limits = [limit.inside for limit in self.limits if limit.metric.subject == subject]
        return reduce(operator.and_, limits, pl.lit(True))


NO_TARGETS = Targets()


def parse_objective(text: str) -> Objective:
    """Read `turn.ttft.p99<2s`. Raises InputError with what is wrong and what would be right."""
    parts = re.fullmatch(r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([^<>=]+?)\s*", text)
    if parts is None:
        raise InputError(f"'{text}': expected METRIC.STATISTIC<VALUE, for example turn.ttft.p99<2s")
    name, symbol, value = parts.groups()
    place, metric = parse_place(name)
    return Objective(text, place, symbol, _value(text, metric, value), metric.unit)


def parse_place(name: str) -> tuple[str, Metric]:
    """Where in the summary `turn.ttft.p99` is, and its metric. Raises InputError if there is none."""
    stem, _, last = name.rpartition(".")
    statistic = last if last in STATISTICS[:-1] else ""
    plain = stem if statistic else name
    metric = find_metric(plain) or find_metric(f"{plain}_s")
    if metric is None:
        known = [metric.name.removesuffix("_s") for metric in METRICS]
        hint = did_you_mean(plain, known) or "; `agentservesim metrics` lists them"
        raise InputError(f"no metric '{plain}'{hint}")
    if metric in ROW_METRICS and not statistic:
        raise InputError(f"{name} has a value per {metric.subject}; say which, as in {name}.p99")
    if metric not in ROW_METRICS and statistic:
        raise InputError(f"{stem} is one number; leave out .{statistic}")
    full = plain if find_metric(plain) else f"{plain}_s"
    return f"{full}.{statistic}" if statistic else full, metric


def parse_limit(text: str) -> Limit:
    """Read `ttft:2s` or `program.latency:10min`. Raises InputError with what is wrong."""
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not name or not value:
        raise InputError(f"'{text}': expected METRIC:VALUE, for example ttft:2s")
    full = name if "." in name else f"turn.{name}"
    metric = next((m for m in ROW_METRICS if full in (m.name, m.name.removesuffix("_s"))), None)
    if metric is None:
        known = [m.name.removesuffix("_s").removeprefix("turn.") for m in ROW_METRICS]
        raise InputError(f"'{text}': no metric '{name}' of turns or programs{near_or_all(name, known)}")
    return Limit(metric, _value(text, metric, value))


def _value(text: str, metric: Metric, value: str) -> float:
    units = _UNITS.get(metric.unit, {"": 1.0})
    parts = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(\S*)", value)
    if parts is None or parts[2] not in units:
        wanted = " or ".join(f"2{unit}" for unit in units if unit) or "a number"
        what = "needs a unit" if parts is not None and not parts[2] else f"cannot be '{value}'"
        raise InputError(f"'{text}': the value {what}; expected one such as {wanted}")
    return float(parts[1]) * units[parts[2]]
