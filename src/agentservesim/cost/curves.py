"""Measured points as functions: monotone, linear between points, straight beyond them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def monotone(values: Array, axis: int = -1) -> Array:
    """The nearest simple non-decreasing table: half-way between the running maximum and, from the end,
    the running minimum. Values already in order stay as they are; order along other axes is kept."""
    rising = np.maximum.accumulate(values, axis=axis)
    falling = np.flip(np.minimum.accumulate(np.flip(values, axis), axis=axis), axis)
    middle: Array = (rising + falling) / 2
    return middle


def tail_slope(points: Sequence[float] | Array, values: Array) -> float:
    """Slope with which a curve goes on beyond its last point: that of its last doubling, at least 0."""
    if len(points) < 2:
        return 0.0
    start = max(points[0], points[-1] / 2)
    rise = values[-1] - float(np.interp(start, points, values))
    return float(max(0.0, rise / (points[-1] - start)))


def resample(at: Sequence[float] | Array, points: Sequence[float] | Array, values: Array) -> Array:
    """A curve through (points, values) at other points: flat before the first, straight after the last."""
    beyond = np.maximum(0.0, np.asarray(at, dtype=float) - points[-1])
    read: Array = np.interp(at, points, values) + tail_slope(points, values) * beyond
    return read
