"""What becomes a slice of the timeline: steps that belong together, turns that fit side by side, samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
import polars as pl
from numpy.typing import NDArray

Integers = NDArray[np.int64]
TOLERANCE_S = 1e-9
"""Times in tables are rounded to 64-bit floats; a difference below this is none."""

Flows = dict[int, list[int]]
"""The flows that pass each slice."""


def thinned(size: int, most: int) -> Integers:
    """At most `most` of `size` indices, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))


def program_sample(turns: pl.DataFrame, most: int) -> pl.DataFrame:
    """The turns of every n-th program, so that there are at most `most`, or those of one program."""
    if turns.height <= most:
        return turns
    programs = turns["program_id"].unique(maintain_order=True)
    share = most / turns.height
    while True:
        kept = programs.gather(thinned(len(programs), max(1, int(len(programs) * share))))
        sample = turns.filter(pl.col("program_id").is_in(kept.implode()))
        if sample.height <= most or len(kept) == 1:
            return sample
        share *= 0.8


def lanes(starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """A lane for each interval, in order of start: the lowest one that is free."""
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    found: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        lane = heappop(free) if free else len(busy)
        heappush(busy, (end, lane))
        found.append(lane)
    return found


def step_slices(steps: pl.DataFrame) -> tuple[pl.DataFrame, Integers]:
    """The steps of one instance, those that follow each other and decode the same batch as one slice.

    `steps` are in order of start. Returns the slices (in order of start, with the number of steps in each)
    and the slice of every step.
    """
    same = [pl.col(name) == pl.col(name).shift() for name in ("decode_rows", "running", "waiting")]
    decodes = (pl.col("prefill_tokens") == 0) & (pl.col("prefill_tokens").shift() == 0)
    goes_on = (pl.col("start_s") - pl.col("end_s").shift()).abs() < TOLERANCE_S
    together = pl.all_horizontal(*same, decodes, goes_on).fill_null(False)
    numbered = steps.with_columns(((~together).cum_sum() - 1).cast(pl.Int64).alias("slice"))
    slices = numbered.group_by("slice", maintain_order=True).agg(
        pl.col("start_s").first(),
        pl.col("end_s").last(),
        pl.len().cast(pl.Int64).alias("steps"),
        pl.col("prefill_tokens", "decode_rows", "running", "waiting").first(),
        pl.col("free_blocks").last(),
    )
    return slices, numbered["slice"].to_numpy()


def steps_of_turns(
    steps: pl.DataFrame, slice_of_step: Integers, turns: pl.DataFrame, frontend_out_s: float
) -> tuple[Flows, Flows]:
    """The slices through which the turns of one instance went, and those where they ended.

    A turn goes through the first step with prompt tokens since it was admitted, the step that ended with its
    first token and the one that ended with its last; tokens reach the client `frontend_out_s` later.
    """
    through: Flows = defaultdict(list)
    last: Flows = defaultdict(list)
    prefills = np.flatnonzero(steps["prefill_tokens"].to_numpy())
    if not prefills.size:
        return through, last
    starts, ends = steps["start_s"].to_numpy(), steps["end_s"].to_numpy()
    admissions = turns["scheduled_s"].to_numpy() - TOLERANCE_S
    first = np.searchsorted(starts[prefills], admissions).clip(max=prefills.size - 1)
    marks = (
        prefills[first],
        _last_ended(ends, turns["first_token_s"].to_numpy() - frontend_out_s),
        _last_ended(ends, turns["finish_s"].to_numpy() - frontend_out_s),
    )
    paths = np.column_stack([slice_of_step[mark] for mark in marks]).tolist()
    for flow, (admitted, first_token, finished) in zip(turns["flow"], paths, strict=True):
        for number in dict.fromkeys((admitted, first_token)):
            if number != finished:
                through[number].append(flow)
        last[finished].append(flow)
    return through, last


def _last_ended(ends: NDArray[np.float64], times: NDArray[np.float64]) -> Integers:
    """For each time the index of the last step that had ended."""
    return (np.searchsorted(ends, times + TOLERANCE_S, side="right") - 1).clip(min=0).astype(np.int64)
