"""Many events as few numbers: averages over bins of time, points of a distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

DIGITS = 5
"""Significant digits of a drawn number."""

QUANTILES: Floats = np.unique(np.concatenate([np.linspace(0, 1, 101), [0.995, 0.999]]))


def step_average(times: ArrayLike, levels: ArrayLike, edges: Floats) -> Floats:
    """The time average, between each pair of `edges`, of a level that changes at `times`.

    `times` (n,) ascend; `levels` (n,) or (n, k) hold from their time until the next one. Before the first
    time the level is 0. The result has shape (len(edges) - 1,) or (len(edges) - 1, k).
    """
    at, level = np.asarray(times, float), np.asarray(levels, float)
    if not len(at):
        return np.zeros((len(edges) - 1, *level.shape[1:]))
    columns = level.reshape(len(at), -1)
    ends = np.append(at, max(edges[-1], at[-1]))
    area = np.vstack([np.zeros(columns.shape[1]), np.cumsum(columns * np.diff(ends)[:, None], axis=0)])
    reached = np.column_stack([np.interp(edges, ends, area[:, k]) for k in range(columns.shape[1])])
    averages = np.diff(reached, axis=0) / np.diff(edges)[:, None]
    return averages.reshape(len(edges) - 1, *level.shape[1:])


def interval_average(starts: ArrayLike, ends: ArrayLike, weights: ArrayLike, edges: Floats) -> Floats:
    """The time average, between each pair of `edges`, of the sum of the `weights` of the open intervals."""
    begin, end = np.asarray(starts, float), np.asarray(ends, float)
    weight = np.broadcast_to(np.asarray(weights, float), begin.shape)
    times = np.concatenate([begin, end])
    order = np.argsort(times, kind="stable")
    levels = np.cumsum(np.concatenate([weight, -weight])[order])
    return step_average(times[order], levels, edges)


def bins(end_s: float, count: int) -> Floats:
    """Edges of `count` equal bins from 0 to the end of the run; shape (count + 1,)."""
    return np.linspace(0.0, end_s or 1.0, count + 1)


def rounded(values: ArrayLike) -> list[float]:
    """The values with as many digits as a picture can show."""
    return [float(f"{value:.{DIGITS}g}") for value in np.asarray(values, float).ravel()]
