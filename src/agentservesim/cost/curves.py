"""Measured points as functions: monotone, linear between points, straight beyond them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Curve(NamedTuple):
    """A function of one variable by its points, ascending."""

    points: Array
    values: Array

    def at(self, where: Sequence[float] | Array) -> Array:
        """Values at other points: flat before the first, straight after the last."""
        return resample(where, self.points, self.values)


def total(parts: Iterable[tuple[float, Curve]]) -> Curve:
    """The sum of curves, each so many times, at all their points, made non-decreasing."""
    weighted = list(parts)
    points = distinct(np.concatenate([curve.points for _, curve in weighted])).astype(float)
    values = np.zeros(len(points))
    for times, curve in weighted:
        values = values + times * curve.at(points)
    return Curve(points, monotone(values))


def distinct(values: Array) -> Array:
    """The values in ascending order, each once. (np.unique looks for masked arrays, which load slowly.)"""
    ordered = np.sort(values)
    once: Array = ordered[np.diff(ordered, prepend=np.nan) != 0]
    return once


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


def thinned(points: Array, lanes: Array, error: Array) -> list[int]:
    """Indices of points between which every lane [lane, point] is straight to an error of less than `error`,
    of the same shape; the first and the last are kept."""
    kept = list(range(len(points)))
    while len(kept) > 2:
        errors = []
        for before, i, after in zip(kept, kept[1:], kept[2:], strict=False):
            gone = range(before + 1, after)
            share = (points[gone] - points[before]) / (points[after] - points[before])
            straight = lanes[:, [before]] + (lanes[:, [after]] - lanes[:, [before]]) * share
            errors.append((float((np.abs(straight - lanes[:, gone]) / error[:, gone]).max()), i))
        worst, i = min(errors)
        if worst > 1.0:
            break
        kept.remove(i)
    return kept
