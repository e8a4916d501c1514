"""Attention from measured points: chunks alone, decode rows alone, decode rows beside chunks.

Everything is in picoseconds of all layers together. Tables are made monotone in every direction
when they are read, so that what is interpolated from them is monotone too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import mul

import numpy as np
from numpy.typing import NDArray

from agentservesim.cost.curves import Array, distinct, monotone, resample
from agentservesim.cost.operators import CellPrices, Memo

FAR = 64
"""The last context of a table times this is one more knot, so that curves go on straight, and in order."""

_LOADS = 8

_REMEMBERED = 1 << 13
"""Chunks whose prices are kept: where prompts are cut into equal pieces, the same come again and again."""


class ChunkPrices:
    """Attention of one chunk by new tokens and history, bilinear between measured points: alone, and added
    to a step that keeps the accelerator busy.

    Shorter chunks than the shortest cost as much as it (a tile is computed whole); longer ones than
    the longest are priced in pieces of that length, each on the history it finds.
    """

    def __init__(self, points: Array, unit: float, floor_ps: Callable[[int, int], int]) -> None:
        """Points: rows (new tokens, history, time alone, time added); `unit` is picoseconds per unit of time.
        `floor_ps` is the least a chunk can take; between points it bends upwards, so that what is
        interpolated is never below."""
        self._floor_ps = floor_ps
        self._new = [int(new) for new in distinct(points[:, 0])]
        known = distinct(points[:, 1])
        far = max(known[-1], 1024.0) * FAR
        self._history = [int(history) for history in (*known, far)]
        self._alone, self._added = (self._grid(points, column, unit) for column in (2, 3))
        self.price = lru_cache(_REMEMBERED)(self._price)

    def _grid(self, points: Array, column: int, unit: float) -> list[list[int]]:
        lanes = []
        for new in self._new:
            lane = points[points[:, 0] == new]
            lane = lane[np.argsort(lane[:, 1])]
            lanes.append(resample(self._history, lane[:, 1], lane[:, column] * unit))
        floor = [[self._floor_ps(new, history) for history in self._history] for new in self._new]
        grid = np.maximum(monotone(monotone(np.array(lanes), 1), 0), floor)
        whole: list[list[int]] = np.rint(grid).astype(np.int64).tolist()
        return whole

    def _price(self, new: int, history: int) -> tuple[int, int]:
        """Picoseconds of a chunk of `new` tokens on `history` tokens, alone and added."""
        alone = added = 0
        longest = self._new[-1]
        while new > longest:
            piece = self._between(len(self._new) - 1, history)
            alone, added = alone + piece[0], added + piece[1]
            new, history = new - longest, history + longest
        own = self._measured(new, history)
        return alone + own[0], added + own[1]

    def _measured(self, new: int, history: int) -> tuple[int, int]:
        lane = bisect_right(self._new, new) - 1
        if lane < 0:
            return self._between(0, history)
        alone, added = self._between(lane, history)
        start = self._new[lane]
        if new == start:
            return alone, added
        more_alone, more_added = self._between(lane + 1, history)
        width, offset = self._new[lane + 1] - start, new - start
        return (
            alone + (more_alone - alone) * offset // width,
            added + (more_added - added) * offset // width,
        )

    def _between(self, lane: int, history: int) -> tuple[int, int]:
        alone, added, knots = self._alone[lane], self._added[lane], self._history
        cell = min(bisect_right(knots, history), len(knots) - 1) - 1
        width, offset = knots[cell + 1] - knots[cell], history - knots[cell]
        return (
            alone[cell] + (alone[cell + 1] - alone[cell]) * offset // width,
            added[cell] + (added[cell + 1] - added[cell]) * offset // width,
        )


class RowPrices:
    """Attention of n decode rows: of one context each, as measured, shared out over the rows.

    `knots` are the measured contexts, from 0. `extra` is what rows cost beside chunks on top of the
    chunks' own time: by the step's new tokens and that time (the load).
    """

    def __init__(self, points: Array, chunks: ChunkPrices, unit: float) -> None:
        """Points: rows (new tokens, history, decode rows, context, time), those with decode rows; no new
        tokens are rows alone."""
        contexts = distinct(points[:, 3])
        self.knots = (0, *(int(context) for context in contexts if context > 0))
        self._at = np.array([*self.knots, self.knots[-1] * FAR], dtype=float)
        alone = points[points[:, 0] == 0]
        self._counts = distinct(alone[:, 2])
        lanes = [self._lane(alone[alone[:, 2] == count], unit) for count in self._counts]
        self._alone = monotone(monotone(np.array(lanes), 1), 0)
        beside = _of_whole_lanes(points[points[:, 0] > 0], 0)
        self._new = _beside_all_counts(beside)
        self.measured_beside = len(self._new) > 0
        self._loads: list[int] = []
        if self.measured_beside:
            self._fit_extra(beside, chunks, unit)
        self._corners: Memo[tuple[int, int, int], list[list[int]]] = Memo(self._extra_cells)

    def cells(self, rows: int, floor: CellPrices) -> CellPrices:
        """Prices of `rows` decode rows alone, none below `floor`, whose borders of cells are knots here."""
        if not rows:
            return [0] * len(self.knots), [0] * len(self.knots)
        lane = _at_count(self._alone, self._counts, rows) / rows
        costs, slopes = floor
        ends = [cost + slope * at for cost, slope, at in zip(costs, slopes, self._at[1:], strict=True)]
        least = np.array([costs[0] + slopes[0] * self._at[0], *ends], dtype=float)
        return _affine(self._at, np.maximum(lane, least), slopes[-1])

    def extra_ps(
        self, rows: int, counts: Sequence[int], contexts: Sequence[int], new: int, load: int, longest: int = 0
    ) -> int:
        """Picoseconds `rows` decode rows add to chunks of `new` tokens that take `load` picoseconds, and no
        less than a row of context `longest` adds alone, if one is given."""
        i, new = _cell(self._new, new)
        j, load = _cell(self._loads, load)
        new_part = new - self._new[i], self._new[i + 1] - self._new[i]
        load_part = load - self._loads[j], self._loads[j + 1] - self._loads[j]
        prices = self._corners[rows, i, j]
        together = [
            sum(map(mul, counts, prices[k])) + sum(map(mul, contexts, prices[k + 1])) for k in (0, 2, 4, 6)
        ]
        extra = _between(together, new_part, load_part)
        if not longest:
            return extra
        prices, cell = self._corners[1, i, j], bisect_right(self.knots, longest) - 1
        alone = [prices[k][cell] + prices[k + 1][cell] * longest for k in (0, 2, 4, 6)]
        return max(extra, _between(alone, new_part, load_part))

    def _lane(self, points: Array, unit: float) -> Array:
        """A curve over contexts at the knots, from rows of one number of decode rows."""
        points = points[np.argsort(points[:, 3])]
        return resample(self._at, points[:, 3], points[:, 4] * unit)

    def _fit_extra(self, points: Array, chunks: ChunkPrices, unit: float) -> None:
        """Fill `_extra[new, load, rows, context]` from the points beside chunks."""
        groups = {(int(new), int(n)): rows for new, n, rows in _split(points)}
        counts = sorted({n for _, n in groups})
        prices = [chunks.price(new, int(h))[0] for new, h in {(new, h) for new, h, *_ in points}]
        least = max(1, min(prices))
        loads = distinct(np.rint(np.geomspace(least, max(least + 1, *prices), _LOADS)))
        self._loads = [int(load) for load in loads]
        self._mixed_counts = np.array(counts, dtype=float)
        extra = np.empty((len(self._new), len(loads), len(counts), len(self._at)))
        for i, new in enumerate(self._new):
            for k, count in enumerate(counts):
                extra[i, :, k] = self._over_load(groups[new, count], new, chunks, unit)
        total = np.maximum(extra, 0.0) + loads[:, None, None]
        for axis in (3, 2, 1, 0):
            total = monotone(total, axis)
        self._extra = total - loads[:, None, None]
        if len(self._new) == 1:
            self._new.append(self._new[0] + 1)
            self._extra = np.repeat(self._extra, 2, axis=0)

    def _over_load(self, points: Array, new: int, chunks: ChunkPrices, unit: float) -> Array:
        """Extra time over (load, context) of one chunk length and number of rows."""
        points = _of_whole_lanes(points, 1)
        histories = distinct(points[:, 1])
        own = np.array([chunks.price(new, int(history))[0] for history in histories], dtype=float)
        lanes = [self._lane(points[points[:, 1] == h], unit) - own[i] for i, h in enumerate(histories)]
        table = np.array(lanes)
        columns = [np.interp(self._loads, own, table[:, k]) for k in range(len(self._at))]
        by_load: Array = np.stack(columns, axis=1)
        return by_load

    def _extra_cells(self, key: tuple[int, int, int]) -> list[list[int]]:
        """Prices at the four corners of a cell of (new tokens, load): costs and slopes of each in turn."""
        rows, i, j = key
        corners = self._extra[i : i + 2, j : j + 2].reshape(4, len(self._mixed_counts), len(self._at))
        lanes = _at_count(corners.transpose(1, 0, 2), self._mixed_counts, rows) / rows
        values, knots = np.rint(lanes).astype(np.int64), self._at.astype(np.int64)
        slopes = (values[:, 1:] - values[:, :-1]) // (knots[1:] - knots[:-1])
        costs = values[:, :-1] - slopes * knots[:-1]
        return [prices for pair in zip(costs.tolist(), slopes.tolist(), strict=True) for prices in pair]


def _of_whole_lanes(points: Array, column: int) -> Array:
    """Points without those whose value in a column was not measured down to the shortest context: between a
    grid and a finer one that begins later nothing is known of short contexts."""
    shortest = points[:, 3].min(initial=np.inf)
    whole = distinct(points[points[:, 3] == shortest, column])
    found: Array = points[(points[:, column, None] == whole).any(axis=1)]
    return found


def _beside_all_counts(points: Array) -> list[int]:
    """Chunk lengths that were measured beside every number of decode rows."""
    counts = distinct(points[:, 2])
    lengths = distinct(points[:, 0])
    return [int(new) for new in lengths if len(distinct(points[points[:, 0] == new, 2])) == len(counts)]


def _between(corners: Sequence[int], upper: tuple[int, int], lower: tuple[int, int]) -> int:
    """A value in a cell from those at its four corners; `upper` and `lower` are how far it is along its two
    sides, as parts of what."""
    offset, width = lower
    low = corners[0] + (corners[1] - corners[0]) * offset // width
    high = corners[2] + (corners[3] - corners[2]) * offset // width
    offset, width = upper
    return low + (high - low) * offset // width


def _cell(knots: Sequence[int], value: int) -> tuple[int, int]:
    """The cell of a value between knots, and the value kept within them."""
    value = min(max(value, knots[0]), knots[-1])
    return min(bisect_right(knots, value), len(knots) - 1) - 1, value


def _at_count(lanes: Array, counts: Array, rows: int) -> Array:
    """Lanes over contexts, read at a number of rows: linear between counts, straight beyond the last."""
    if rows <= counts[0] or len(counts) == 1:
        return np.asarray(lanes[0])
    high = min(int(np.searchsorted(counts, rows)), len(counts) - 1)
    share = (rows - counts[high - 1]) / (counts[high] - counts[high - 1])
    return np.asarray(lanes[high - 1] + (lanes[high] - lanes[high - 1]) * share)


def _affine(knots: Array, values: Array, floor_ps: int) -> CellPrices:
    """A rising curve as integers: continuous, one (cost, slope) a cell, slopes rounded up, the last (which
    goes on for ever) at least `floor_ps`."""
    costs, slopes = [], []
    at = [int(knot) for knot in knots]
    value = round(float(values[0]))
    for cell in range(len(at) - 1):
        width = at[cell + 1] - at[cell]
        slope = max(0, -((value - round(float(values[cell + 1]))) // width))
        if cell == len(at) - 2:
            slope = max(slope, floor_ps)
        costs.append(value - slope * at[cell])
        slopes.append(slope)
        value += slope * width
    return costs, slopes


def _split(points: Array) -> Iterator[tuple[float, float, NDArray[np.float64]]]:
    """Rows by (new tokens, decode rows)."""
    order = np.lexsort((points[:, 2], points[:, 0]))
    rows = points[order]
    keys = rows[:, [0, 2]]
    starts = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
    for part in np.split(rows, starts):
        yield part[0, 0], part[0, 2], part
