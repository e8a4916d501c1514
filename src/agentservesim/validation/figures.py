"""Figures of one side of a comparison, real or simulated, and how its load went over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentservesim.validation.recording import Array, Recording

UNQUEUED_S = 0.02
"""A request waited less than this in the engine's queue if it counts as unqueued."""

PERCENTILES = (50, 90, 99)

Figures = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Side:
    """Stamps of every request, in seconds from the first arrival; `cached_tokens` where they are known."""

    arrival: Array
    scheduled: Array
    first_token: Array
    last_token: Array
    cached_tokens: NDArray[np.int64] | None = None


def recorded_side(run: Recording) -> Side:
    """What was recorded."""
    scheduled = run.arrival if run.scheduled is None else run.scheduled
    return Side(run.arrival, scheduled, run.first_token, run.last_token, run.cached_tokens)


@dataclass(frozen=True)
class Timeline:
    """Means over bins of equal width. `edges` are their borders in seconds; output in tokens a second."""

    edges: Array
    output: Array
    waiting: Array
    running: Array


def figures(run: Recording, side: Side, unqueued: NDArray[np.bool_], queued: NDArray[np.bool_]) -> Figures:
    """Every figure by (figure, statistic): times in seconds, throughput in tokens a second.

    `unqueued` and `queued` tell which requests hardly waited in the recording, and which did. Saturated
    throughput is that of output tokens from when the first of those that waited arrives until the last of
    them is scheduled: there the engine is never short of work.
    """
    several = run.output_tokens > 1
    values = {
        "TTFT": side.first_token - run.arrival,
        "TPOT": (side.last_token - side.first_token)[several] / (run.output_tokens[several] - 1),
        "E2E": side.last_token - run.arrival,
    }
    found: Figures = {}
    for figure, series in values.items():
        if series.size:
            found[figure, "mean"] = float(series.mean())
            for percent in PERCENTILES:
                found[figure, f"p{percent}"] = float(np.percentile(series, percent))
    if unqueued.any():
        found["unqueued TTFT", "mean"] = float(values["TTFT"][unqueued].mean())
    span = float(side.last_token.max())
    found["makespan", "total"] = span
    found["throughput", "total"] = float(run.output_tokens.sum()) / span
    if queued.any():
        window = np.array([side.arrival[queued].min(), side.scheduled[queued].max()])
        inside = _overlap(side.first_token, side.last_token, window)[0]
        share = inside / np.maximum(side.last_token - side.first_token, 1e-9)
        found["throughput", "saturated"] = float((share * run.output_tokens).sum() / np.diff(window)[0])
        found["queue", "mean"] = float((side.scheduled - side.arrival).sum()) / span
    if side.cached_tokens is not None and run.cached_tokens is not None:
        found["hit rate", "total"] = float(side.cached_tokens.sum() / run.prompt_tokens.sum())
    return found


def timeline(run: Recording, side: Side, edges: Array) -> Timeline:
    """Output, waiting and running requests over time; a request's tokens are spread evenly from its first
    to its last."""
    width = np.diff(edges)
    rate = run.output_tokens / np.maximum(side.last_token - side.first_token, 1e-9)
    output = (_overlap(side.first_token, side.last_token, edges) * rate).sum(axis=1) / width
    waiting = _overlap(side.arrival, side.scheduled, edges).sum(axis=1) / width
    running = _overlap(side.scheduled, side.last_token, edges).sum(axis=1) / width
    return Timeline(edges, output, waiting, running)


def _overlap(starts: Array, ends: Array, edges: Array) -> Array:
    """Seconds of each interval in each bin, shape (bins, intervals)."""
    low = np.maximum(starts[None, :], edges[:-1, None])
    high = np.minimum(ends[None, :], edges[1:, None])
    return np.asarray(np.maximum(high - low, 0.0))
