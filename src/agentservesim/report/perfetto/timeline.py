"""A run as a timeline: programs, instances, tiers and links, one group of tracks each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agentservesim.files import write_whole
from agentservesim.report.perfetto.encoding import TraceWriter
from agentservesim.report.perfetto.slices import (
    Integers,
    lanes,
    program_sample,
    step_slices,
    steps_of_turns,
    thinned,
)
from agentservesim.report.saved_run import SavedRun, by_instance, read_run

TRACE = "trace.pftrace"

MAX_TURNS = 20_000
MAX_SLICES = 200_000
MAX_POINTS = 400_000
"""Turns, slices of steps and values of counters at most, each instance and counter having its share."""

PARTS = ("queue", "transfer", "prefill", "decode")
ARGUMENTS = ("prompt_tokens", "cached_tokens", "computed_tokens", "output_tokens", "preemptions")
STATES = ("pinned", "active", "in_flight", "cached")


def write_trace(folder: str | Path) -> Path:
    """Write trace.pftrace into a run folder, whole or not at all, and return its path.

    Raises InputError if the folder is no run or cannot be written to.
    """
    run = read_run(folder)
    return write_whole(run.folder / TRACE, build_trace(run))


def build_trace(run: SavedRun) -> bytes:
    """The trace of a run.

    Programs have a track each, with lanes below it for what runs side by side: gaps and turns, and in a turn
    its parts. Instances have a track of their steps, if the run kept them; steps that follow each other and
    decode the same batch are one slice. An arrow leads from a turn to the first step that computes its
    prompt, to the one with its first token and to the one with its last. Tiers and links have counters.
    """
    draft = _Draft(run)
    draft.programs()
    draft.instances()
    draft.tiers()
    draft.links()
    draft.remarks()
    return bytes(draft.trace)


@dataclass
class _Draft:
    run: SavedRun
    trace: TraceWriter = field(default_factory=TraceWriter)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        every = self.run.table("turns")
        self.turns = program_sample(every, MAX_TURNS).with_row_index("flow", offset=1)
        if self.turns.height < every.height:
            self.notes.append(f"{self.turns.height:,} of {every.height:,} turns: those of every n-th program")
        self.about = self.trace.group("About this trace", 1)
        instances = len(self.run.instance_names())
        tiers = 1 + len(self.run.summary["scenario"]["memory"]["tiers"])
        self.slices_each = MAX_SLICES // instances
        self.points_each = max(2, MAX_POINTS // (instances * (2 + tiers * len(STATES))))

    def programs(self) -> None:
        """A track for each program."""
        group = self.trace.group("Programs", 2)
        flows = self.run.has("steps")
        for program in self.turns.partition_by("program_id", maintain_order=True):
            parent = self.trace.track(program["program_id"][0], group)
            tracks = [parent]
            for lane, turns in enumerate(_by_lane(program)):
                if lane:
                    tracks.append(self.trace.track("side by side", parent))
                self._turns(turns, tracks[lane], flows)

    def _turns(self, turns: pl.DataFrame, track: int, flows: bool) -> None:
        """The gaps and turns of one lane, which do not overlap."""
        trace = self.trace
        names = self.run.instance_names()
        parts = [part for part in PARTS if f"{part}_s" in turns.columns]
        for row in turns.iter_rows(named=True):
            begin, end = _ns(row["ready_s"]), _ns(row["finish_s"])
            if row["gap_s"] > 0:
                trace.begin(track, _ns(row["ready_s"] - row["gap_s"]), "tools, think time")
                trace.end(track, begin)
            arguments = {"instance": names[row["instance"]], "session": row["session_id"]}
            arguments |= {name: row[name] for name in ARGUMENTS}
            trace.begin(track, begin, f"turn {row['turn_id']}", arguments, [row["flow"]] if flows else ())
            at = row["ready_s"]
            for part in parts:
                if row[f"{part}_s"] > 0:
                    trace.begin(track, min(_ns(at), end), part)
                    at += row[f"{part}_s"]
                    trace.end(track, min(_ns(at), end))
            trace.end(track, end)

    def instances(self) -> None:
        """For each instance how many turns wait and run, and its steps."""
        group = self.trace.group("Instances", 3)
        steps = by_instance(self.run.table("steps")) if self.run.has("steps") else {}
        served = by_instance(self.run.table("turns"))
        if not self.run.has("steps"):
            self.notes.append("No steps: agentservesim run --steps keeps them")
        for index, name in enumerate(self.run.instance_names()):
            parent = self.trace.track(name, group)
            turns = served.get(index, self.run.table("turns").clear())
            for label, since, until in (
                ("waiting", "ready_s", "scheduled_s"),
                ("running", "scheduled_s", "finish_s"),
            ):
                ones = np.ones(turns.height, np.int64)
                self._deltas(f"{label} turns", parent, turns[since], turns[until], ones, "count")
            if index in steps:
                self._steps(steps[index], index, parent)

    def _steps(self, steps: pl.DataFrame, index: int, track: int) -> None:
        """The steps of an instance, with the flows of the turns that went through them."""
        steps = steps.sort("start_s")
        turns = self.turns.filter(pl.col("instance") == index)
        slices, slice_of_step = step_slices(steps)
        through, last = steps_of_turns(steps, slice_of_step, turns, self._frontend_out_s(index))
        needed = np.array(sorted(through.keys() | last.keys()), dtype=np.int64)
        kept = np.union1d(thinned(slices.height, self.slices_each), needed).astype(np.int64)
        if kept.size < slices.height:
            self.notes.append(
                f"{kept.size:,} of {slices.height:,} slices of steps on {self.run.instance_names()[index]}"
            )
        shown = slices[kept].with_columns(number=pl.Series(kept))
        starts, ends = _all_ns(shown["start_s"]), _all_ns(shown["end_s"])
        lane_of = lanes(starts, ends)
        tracks = [track, *(self.trace.track("in flight too", track) for _ in range(max(lane_of, default=0)))]
        for lane, start, end, row in zip(lane_of, starts, ends, shown.iter_rows(named=True), strict=True):
            number = row["number"]
            arguments = {name: row[name] for name in ("steps", "prefill_tokens", "decode_rows")}
            arguments |= {name: row[name] for name in ("running", "waiting", "free_blocks")}
            self.trace.begin(
                tracks[lane],
                start,
                _composition(row),
                arguments,
                through.get(number, ()),
                last.get(number, ()),
            )
            self.trace.end(tracks[lane], end)

    def tiers(self) -> None:
        """For each tier of each instance a counter of bytes per state."""
        if not self.run.has("residency"):
            self.notes.append(
                "No tiers: this run has none, and no pins, so the states of KV were not recorded"
            )
            return
        group = self.trace.group("KV by tier", 4)
        names = self.run.instance_names()
        table = self.run.table("residency")
        for (index, tier), rows in table.group_by("instance", "tier", maintain_order=True):
            parent = self.trace.track(f"{tier} of {names[int(str(index))]}", group)
            kept = rows[thinned(rows.height, self.points_each)]
            times = _array_ns(kept["time_s"])
            for state in STATES:
                counter = self.trace.counter(f"{tier} {state.replace('_', ' ')}", parent, "bytes")
                values = kept[f"{state}_bytes"].to_numpy()
                news = np.flatnonzero(np.diff(values, prepend=-1))
                self.trace.values(counter, times[news].tolist(), values[news].tolist())

    def links(self) -> None:
        """For each link and direction a counter of the bytes that are on their way."""
        if not self.run.has("transfers") or not self.run.table("transfers").height:
            return
        group = self.trace.group("Links", 5)
        way = pl.when(pl.col("verb") == "promote").then(pl.lit("up")).otherwise(pl.lit("down")).alias("way")
        table = self.run.table("transfers").with_columns(way)
        for (link, direction), rows in table.group_by("link", "way", maintain_order=True):
            name = f"{link} {direction}"
            self._deltas(name, group, rows["start_s"], rows["end_s"], rows["bytes"].to_numpy(), "bytes")

    def remarks(self) -> None:
        """What a reader of the trace must know, on a track of its own."""
        track = self.trace.track("notes", self.about)
        title = f"{self.run.name}, seed {self.run.summary['seed']}; times are of the simulated clock"
        for note in (title, *self.notes):
            self.trace.instant(track, 0, note)

    def _deltas(
        self, name: str, parent: int, since: pl.Series, until: pl.Series, weights: Integers, unit: str
    ) -> None:
        """A counter that goes up by a weight at one time and down by it at another."""
        times = np.concatenate([_array_ns(since), _array_ns(until)])
        order = np.argsort(times, kind="stable")
        levels = np.cumsum(np.concatenate([weights, -weights])[order])
        times = times[order]
        last = np.append(times[1:] != times[:-1], True)[: times.size]  # of several values at once the last
        times, levels = times[last], levels[last]
        kept = thinned(times.size, self.points_each)
        counter = self.trace.counter(name, parent, "bytes" if unit == "bytes" else "count")
        self.trace.values(counter, times[kept].tolist(), levels[kept].tolist())

    def _frontend_out_s(self, index: int) -> float:
        return float(self.run.engines()[index]["frontend_out_s"])


def _by_lane(program: pl.DataFrame) -> Sequence[pl.DataFrame]:
    """A program's turns, each with the gap before it, so that those of one lane do not overlap."""
    ordered = program.with_columns(start_s=pl.col("ready_s") - pl.col("gap_s")).sort("start_s", "finish_s")
    lane_of = lanes(_all_ns(ordered["start_s"]), _all_ns(ordered["finish_s"]))
    return (
        ordered.with_columns(lane=pl.Series(lane_of, dtype=pl.Int64))
        .sort("lane", "start_s", "finish_s")
        .partition_by("lane", maintain_order=True)
    )


def _composition(row: dict[str, int]) -> str:
    """What is in a step: its prompt tokens and the requests that decode."""
    said = [f"prefill {row['prefill_tokens']:,}"] if row["prefill_tokens"] else []
    said += [f"decode {row['decode_rows']:,}"] if row["decode_rows"] else []
    return " + ".join(said) or "idle"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _array_ns(seconds: pl.Series) -> NDArray[np.int64]:
    return np.rint(seconds.to_numpy() * 1e9).astype(np.int64)


def _all_ns(seconds: pl.Series) -> list[int]:
    numbers: list[int] = _array_ns(seconds).tolist()
    return numbers
