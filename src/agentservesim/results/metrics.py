"""Every metric, defined once: the formula that is printed is the one that is computed.

A formula is an SQL expression over the columns of one of the run's tables (see TABLES). It reads in
seconds; it is evaluated on the recorded integer picoseconds, so that differences of large times lose
nothing. A metric with `<tier>` in its name exists for each tier, one with `<link>` and `<direction>` for
each link and direction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from agentservesim.model import PS_PER_S

Subject = Literal["turn", "program", "run", "instance", "link"]

TABLES: dict[Subject, str] = {
    "turn": "turns",
    "program": "programs",
    "run": "programs",
    "instance": "instances",
    "link": "links",
}
"""The table that a subject's formulas are over. Instances and links are there where KV is pinned or moved."""

_SPAN = "(MAX(finish_s) - MIN(arrival_s))"
_PARTS = ("tool", "queue", "prefill", "decode", "transfer")
_WHOLE = "(" + " + ".join(f"SUM({part}_s)" for part in _PARTS) + ")"


@dataclass(frozen=True)
class Metric:
    """One quantity.

    `name` is its place in summary.json. A metric of a turn or a program has a value per row and is
    summarised as mean, percentiles, max and n; the others are one number each. `formula` is None for
    what the run itself reports (its clock, its counters).
    """

    name: str
    unit: str
    subject: Subject
    formula: str | None
    meaning: str

    def each(self, **names: str) -> Metric:
        """This metric for one tier, or one link and direction."""
        name, formula = self.name, self.formula or ""
        for key, value in names.items():
            name, formula = name.replace(f"<{key}>", value), formula.replace(f"<{key}>", column_part(value))
        return replace(self, name=name, formula=formula)


def column_part(tier: str) -> str:
    """A tier's name inside the name of a column."""
    return tier.replace("-", "_")


METRICS: tuple[Metric, ...] = (
    Metric(
        "program.latency_s",
        "s",
        "program",
        "finish_s - arrival_s",
        "From a program's arrival to its last token, tool calls and think time included.",
    ),
    Metric(
        "turn.ttft_s",
        "s",
        "turn",
        "first_token_s - ready_s",
        "Time to first token, as the client sees it: queueing, prefill and the front end.",
    ),
    Metric(
        "turn.tpot_s",
        "s",
        "turn",
        "CASE WHEN output_tokens > 1 THEN (finish_s - first_token_s) / (output_tokens - 1) END",
        "Time per output token after the first. A turn with a single output token has none and is not in n.",
    ),
    Metric(
        "turn.e2el_s",
        "s",
        "turn",
        "finish_s - ready_s",
        "End-to-end latency of a turn: from sending it to its last token.",
    ),
    Metric(
        "turn.queue_s",
        "s",
        "turn",
        "queue_s",
        "Waiting to be scheduled: before the first admission (the front end's way in included) and after "
        "every preemption.",
    ),
    Metric("counts.programs", "", "run", "COUNT(*)", "Programs that ran to their end."),
    Metric("counts.turns", "", "run", "SUM(turns)", "Turns (LLM calls) that were served."),
    Metric("counts.steps", "", "run", None, "Engine steps (forward passes) of all instances."),
    Metric(
        "counts.leaps",
        "",
        "run",
        None,
        "Times the engine took several decode steps at once; 0 with --no-leap, and nothing else differs.",
    ),
    Metric(
        "counts.preemptions",
        "",
        "run",
        "SUM(preemptions)",
        "Requests put back in the queue to free blocks.",
    ),
    Metric("tokens.prompt", "token", "run", "SUM(prompt_tokens)", "Prompt tokens of all turns."),
    Metric(
        "tokens.cached",
        "token",
        "run",
        "SUM(cached_tokens)",
        "Prompt tokens found in the prefix cache when a turn was first admitted.",
    ),
    Metric(
        "tokens.cached_<tier>",
        "token",
        "run",
        "SUM(cached_<tier>_tokens)",
        "Of the cached tokens, those that were in this tier when the turn was admitted; what lay lower was "
        "loaded. They sum to tokens.cached.",
    ),
    Metric("tokens.computed", "token", "run", "SUM(computed_tokens)", "Prompt tokens that were not cached."),
    Metric(
        "tokens.recomputed",
        "token",
        "run",
        "SUM(recomputed_tokens)",
        "Tokens (prompt or reply) computed again because of a preemption.",
    ),
    Metric(
        "tokens.new",
        "token",
        "run",
        "SUM(new_tokens)",
        "Prompt tokens that no turn before had in its prompt or reply, programs taken one after the other: "
        "what an unlimited cache would leave to compute.",
    ),
    Metric(
        "tokens.hit_rate",
        "",
        "run",
        "SUM(cached_tokens) / SUM(prompt_tokens)",
        "Share of the prompt tokens that did not have to be computed.",
    ),
    Metric(
        "tokens.prefill_amplification",
        "",
        "run",
        "(SUM(computed_tokens) + SUM(recomputed_tokens)) / SUM(new_tokens)",
        "Tokens prefilled for each new one; 1 would be an unlimited cache of single tokens.",
    ),
    Metric("tokens.output", "token", "run", "SUM(output_tokens)", "Tokens generated."),
    Metric(
        "throughput.programs_per_s",
        "1/s",
        "run",
        f"COUNT(*) / {_SPAN}",
        "Programs over the time from the first arrival to the last token.",
    ),
    Metric(
        "throughput.turns_per_s",
        "1/s",
        "run",
        f"SUM(turns) / {_SPAN}",
        "Turns over the time from the first arrival to the last token.",
    ),
    Metric(
        "throughput.output_tokens_per_s",
        "1/s",
        "run",
        f"SUM(output_tokens) / {_SPAN}",
        "Generated tokens over the time from the first arrival to the last token.",
    ),
    *(
        Metric(f"program.time_share.{part}", "", "run", f"SUM({part}_s) / {_WHOLE}", meaning)
        for part, meaning in zip(
            _PARTS,
            (
                "Share of the programs' time outside the engine: tool calls and think time. Time is summed "
                "over turns, so sub-agents that run side by side each count; the five shares sum to 1.",
                "Share spent waiting to be scheduled.",
                "Share spent from being scheduled to the first token.",
                "Share spent from the first token to the last.",
                "Share spent waiting for KV to be moved between tiers or instances.",
            ),
            strict=True,
        )
    ),
    Metric(
        "kv.hit_rate.<tier>",
        "",
        "run",
        "SUM(cached_<tier>_tokens) / SUM(prompt_tokens)",
        "Share of the prompt tokens that were in this tier when the turn was admitted.",
    ),
    Metric(
        "kv.held_in_gap_byte_s",
        "B s",
        "instance",
        "SUM(held_in_gap_byte_s)",
        "KV pinned in HBM times how long, until the turn after the gap is admitted; what several pins "
        "share counts for each.",
    ),
    Metric(
        "kv.waste_share",
        "",
        "instance",
        "SUM(pinned_byte_s + in_flight_byte_s) / SUM(pool_byte_s)",
        "Share of HBM's KV space and time that was taken by nothing but pins of idle sessions and copies "
        "under way.",
    ),
    Metric(
        "kv.forced_unpins",
        "",
        "instance",
        "SUM(forced_unpins)",
        "Pins broken before their time because blocks were short.",
    ),
    Metric(
        "kv.bytes_moved.<link>.<direction>",
        "B",
        "link",
        "SUM(bytes)",
        "KV sent over such links, down to the slower tier or up to the faster one.",
    ),
    Metric(
        "kv.link_utilisation.<link>.<direction>",
        "",
        "link",
        "SUM(busy_s) / SUM(open_s)",
        "Share of the run for which such links were at work in this direction.",
    ),
    Metric(
        "simulated_s",
        "s",
        "run",
        "MAX(finish_s)",
        "The simulated clock when the last token reached its client; the clock starts at 0 with the trace.",
    ),
    Metric("wall_s", "s", "run", None, "Real time the simulation took, without reading the trace."),
    Metric("cpu_s", "s", "run", None, "Processor time the simulation took, without reading the trace."),
)
ROW_METRICS = tuple(m for m in METRICS if m.subject in ("turn", "program"))
STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max", "n")


def expression(metric: Metric) -> pl.Expr:
    """The metric's formula for a table of picoseconds, in the metric's own unit.

    Raises ValueError for a metric that has no formula.
    """
    if metric.formula is None:
        raise ValueError(f"{metric.name} has no formula")
    value = pl.sql_expr(re.sub(r"_s\b", "_ps", metric.formula))
    match metric.unit:
        case "s" | "B s":
            return value / PS_PER_S
        case "1/s":
            return value * PS_PER_S
    return value
