"""Pictures of programs: where their time goes, and the slowest ones turn by turn."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import polars as pl

from agentservesim.report.html.series import rounded

PARTS = ("tool", "queue", "transfer", "prefill", "decode")
"""What a program's time is made of, in the order in which a turn goes through it."""

SLOWEST = 10
MAX_NAMES = 8
MAX_LANES = 4
MAX_SEGMENTS = 600
"""Stretches drawn of one program; longer histories are drawn by the part that prevails in each."""

_LENGTHS = ((1, 5), (6, 20), (21, 100), (101, None))


@dataclass(frozen=True)
class ProgramClass:
    """Some of the programs: all, those of a kind or tenant of the trace, or those of similar length."""

    label: str
    rows: pl.Expr

    def programs(self, programs: pl.DataFrame) -> pl.DataFrame:
        """The rows of this class."""
        return programs.filter(self.rows)

    def turns(self, turns: pl.DataFrame, programs: pl.DataFrame) -> pl.DataFrame:
        """The turns of its programs; all turns, also those of unfinished programs, if it is all of them."""
        chosen = self.programs(programs)
        return turns if chosen.height == programs.height else turns.join(chosen, on="program_id", how="semi")


def program_classes(programs: pl.DataFrame) -> list[ProgramClass]:
    """All programs; the kinds and the tenants of the trace, if there are several; lengths in turns."""
    named = [_named(programs, column) for column in ("kind", "tenant") if column in programs.columns]
    lengths = [_of_length(least, most) for least, most in _LENGTHS]
    lengths = [length for length in lengths if length.programs(programs).height]
    groups = [group for group in (*named, lengths) if len(group) > 1]
    return [ProgramClass("all programs", pl.lit(True)), *(one for group in groups for one in group)]


def _named(programs: pl.DataFrame, column: str) -> list[ProgramClass]:
    """The most frequent values of a column, each as a class."""
    counted = programs[column].value_counts(sort=False).sort("count", column, descending=[True, False])
    names = counted[column].head(MAX_NAMES).to_list()
    return [
        ProgramClass(f"{column}: {name or 'none'}", pl.col(column).eq_missing(pl.lit(name))) for name in names
    ]


def _of_length(least: int, most: int | None) -> ProgramClass:
    label = f"{least} to {most} turns" if most else f"{least} turns and more"
    return ProgramClass(label, pl.col("turns").is_between(least, most or 2**62))


def time_parts(programs: pl.DataFrame) -> dict[str, Any]:
    """Seconds of each part for the programs at the percentiles of latency (nearest rank), and on average."""
    columns = [f"{part}_s" for part in PARTS]
    ranked = programs.sort("latency_s", "program_id")
    rows = []
    for quantile in (0.99, 0.9, 0.5) if ranked.height else ():
        row = ranked.row(ceil(quantile * ranked.height) - 1, named=True)
        rows.append(
            {
                "label": f"p{quantile * 100:.0f}",
                "program": row["program_id"],
                "latency_s": row["latency_s"],
                "turns": row["turns"],
                "values": rounded([row[column] for column in columns]),
            }
        )
    if ranked.height:
        means = ranked.select(pl.col(*columns, "latency_s", "turns").mean()).row(0, named=True)
        mean = {"label": "mean", "program": "", "latency_s": means["latency_s"], "turns": means["turns"]}
        rows.append({**mean, "values": rounded([means[column] for column in columns])})
    return {"parts": PARTS, "rows": rows}


def slowest(programs: pl.DataFrame, turns: pl.DataFrame) -> dict[str, Any]:
    """The programs of the longest latency, each as segments `[lane, part, start, end]` since its arrival.

    Sessions that run side by side are in lanes of their own, as far as there are lanes. The queueing after a
    preemption is drawn before the first token.
    """
    chosen = programs.sort("latency_s", "program_id", descending=[True, False]).head(SLOWEST)
    theirs = turns.join(chosen, on="program_id", how="semi").partition_by("program_id", as_dict=True)
    rows = []
    for row in chosen.iter_rows(named=True):
        own = theirs[(row["program_id"],)]
        segments, lanes = _segments(own, row["arrival_s"], row["finish_s"])
        rows.append(
            {
                "program": row["program_id"],
                "kind": row["kind"],
                "latency_s": row["latency_s"],
                "turns": row["turns"],
                "lanes": lanes,
                "segments": segments,
            }
        )
    return {"parts": PARTS, "rows": rows}


def _segments(turns: pl.DataFrame, arrival_s: float, finish_s: float) -> tuple[list[list[float]], int]:
    """What one program did, by lane and time, and the number of lanes."""
    lanes = _lanes(turns)
    start = (pl.col("ready_s") - pl.col("gap_s") - arrival_s).alias("start_s")
    table = turns.select(
        pl.col("session_id").replace_strict(lanes, return_dtype=pl.Int64).alias("lane"),
        start,
        *(pl.col("gap_s" if part == "tool" else f"{part}_s").alias(part) for part in PARTS),
    )
    pieces = []
    begin = table["start_s"]
    for number, part in enumerate(PARTS):
        end = begin + table[part]
        pieces.append(
            pl.DataFrame({"lane": table["lane"], "part": [number] * len(begin), "start": begin, "end": end})
        )
        begin = end
    drawn = pl.concat(pieces).filter(pl.col("end") > pl.col("start")).sort("lane", "start")
    if drawn.height > MAX_SEGMENTS:
        drawn = _prevailing(drawn, finish_s - arrival_s)
    segments = [[int(lane), int(part), *rounded([a, b])] for lane, part, a, b in drawn.rows()]
    return segments, max(lanes.values()) + 1


def _prevailing(segments: pl.DataFrame, life_s: float) -> pl.DataFrame:
    """The longest part in each of MAX_SEGMENTS stretches of a life, runs of the same part as one segment.

    A segment that spans several stretches counts in each of them.
    """
    width = life_s / MAX_SEGMENTS
    first = (pl.col("start") / width).floor().cast(pl.Int64)
    last = (pl.col("end") / width).ceil().cast(pl.Int64)
    slots = segments.with_columns(slot=pl.int_ranges(first, pl.max_horizontal(last, first + 1))).explode(
        "slot"
    )
    inside = pl.min_horizontal("end", (pl.col("slot") + 1) * width) - pl.max_horizontal(
        "start", pl.col("slot") * width
    )
    longest = (
        slots.group_by("lane", "slot", "part")
        .agg(inside.sum().alias("inside"))
        .sort("lane", "slot", "inside", "part", descending=[False, False, True, False])
        .unique(["lane", "slot"], keep="first", maintain_order=True)
    )
    run = pl.struct("lane", "part", pl.col("slot") - pl.int_range(pl.len()).over("lane", "part")).rle_id()
    return (
        longest.group_by(run.alias("run"), maintain_order=True)
        .agg(
            pl.col("lane", "part").first(),
            (pl.col("slot").min() * width).alias("start"),
            ((pl.col("slot").max() + 1) * width).clip(upper_bound=life_s).alias("end"),
        )
        .select("lane", "part", "start", "end")
    )


def _lanes(turns: pl.DataFrame) -> dict[str, int]:
    """A lane for each session: the first one that is free when the session begins."""
    spans = turns.group_by("session_id").agg(
        (pl.col("ready_s") - pl.col("gap_s")).min().alias("start"), pl.col("finish_s").max().alias("end")
    )
    free_at: list[float] = []
    lanes: dict[str, int] = {}
    for session, start, end in spans.sort("start", "session_id").iter_rows():
        lane = _first_free(free_at, start)
        free_at[lane] = max(end, free_at[lane])
        lanes[session] = lane
    return lanes


def _first_free(free_at: list[float], start: float) -> int:
    for lane, time in enumerate(free_at):
        if time <= start:
            return lane
    if len(free_at) < MAX_LANES:
        free_at.append(-np.inf)
    return len(free_at) - 1
