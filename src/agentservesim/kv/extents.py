"""What a block pool is made of: runs of blocks, the copies they belong to, and who holds them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from agentservesim.model import Path, Segment


@dataclass(slots=True, eq=False)
class Extent:
    """Blocks [first, end) of a lane with one reference count; linked into the free queue at 0.

    In the free queue of an engine that does not front-load blanks, an extent without a lane is a
    run of blank blocks. One that is `condemned` goes next, and whoever asked has been told.
    """

    lane: Lane | None
    first: int
    end: int
    refs: int = 0
    condemned: bool = False
    before: Extent = None  # type: ignore[assignment]  # there in the free queue
    behind: Extent = None  # type: ignore[assignment]

    def goes_on(self, other: Extent) -> bool:
        """Whether it holds the blocks in front of another's, of the same segment if not of the same lane."""
        if self.lane is None or other.lane is None:
            return False
        return self.end == other.first and self.lane.home is other.lane.home


@dataclass(slots=True, eq=False)
class Lane:
    """One copy of a segment's blocks: extents in ascending order.

    `stamps` is kept only while the segment has several lanes: (first block, order of hashing), ascending.
    """

    home: SegmentBlocks
    extents: list[Extent] = field(default_factory=list)
    stamps: list[tuple[int, int]] = field(default_factory=list)

    def find(self, block: int) -> int:
        """Index of the extent that holds `block`, or of the first one behind it."""
        extents = self.extents
        index = len(extents)
        while index and extents[index - 1].end > block:
            index -= 1
        return index

    def run(self, block: int, limit: int) -> tuple[int, int]:
        """The unbroken run of blocks from `block` on: its end (at most `limit`), and how many of it
        are unreferenced."""
        free = 0
        for extent in self.extents:
            if extent.end <= block:
                continue
            if extent.first > block or block >= limit:
                break
            end = extent.end if extent.end < limit else limit
            if extent.refs == 0:
                free += end - block
            block = end
        return block, free

    def cut(self, first: int, end: int) -> tuple[int, int]:
        """Cut extents so that some are exactly the blocks [first, end); returns their indices [low, high)."""
        extents = self.extents
        low = self.find(first)
        if extents[low].first < first:
            self._split(low, first)
            low += 1
        high = low
        while extents[high].end < end:
            high += 1
        if extents[high].end > end:
            self._split(high, end)
        return low, high + 1

    def _split(self, index: int, block: int) -> None:
        """Cut an extent so that one begins at `block`; the upper part is evicted first."""
        lower = self.extents[index]
        upper = Extent(self, block, lower.end, lower.refs, lower.condemned)
        lower.end = block
        self.extents.insert(index + 1, upper)
        if lower.refs == 0:
            before = lower.before
            upper.before, upper.behind = before, lower
            before.behind = lower.before = upper

    def join(self, low: int, high: int) -> None:
        """Join neighbours in [low - 1, high] that are referenced alike."""
        extents = self.extents
        for index in range(min(high, len(extents) - 1), max(low - 1, 0), -1):
            lower, upper = extents[index - 1], extents[index]
            if lower.refs == upper.refs != 0 and lower.end == upper.first:
                lower.end = upper.end
                del extents[index]

    def age(self, block: int) -> int:
        """When the block was hashed, as a rank among the lanes of its segment."""
        index = bisect_right(self.stamps, block, key=_first)
        return self.stamps[index - 1][1] if index else 0

    def border(self, block: int, limit: int) -> int:
        """The first block behind `block` at which this lane's coverage or age may change, or `limit`."""
        index = bisect_right(self.stamps, block, key=_first)
        if index < len(self.stamps):
            limit = min(limit, self.stamps[index][0])
        index = bisect_right(self.extents, block, key=_end)
        if index < len(self.extents):
            extent = self.extents[index]
            limit = min(limit, extent.end if extent.first <= block else extent.first)
        return limit


def _first(stamp: tuple[int, int]) -> int:
    return stamp[0]


def _end(extent: Extent) -> int:
    return extent.end


@dataclass(slots=True, eq=False)
class SegmentBlocks:
    """What the pool knows of one segment: its lanes, and who is behind with hashing its blocks.

    `clock` numbers what is hashed while there are several lanes.
    """

    segment: Segment
    lanes: list[Lane] = field(default_factory=list)
    writers: list[Holding] = field(default_factory=list)
    clock: int = 0

    def hash(self, ranges: list[Range], first: int, end: int) -> None:
        """Put newly hashed blocks [first, end) into a lane, and behind the ranges of their holding."""
        lane = None
        if ranges:
            last, start, stop = ranges[-1]
            if last.home is self and stop == first and last.extents[-1].end == first:
                lane = last
                ranges[-1] = (lane, start, end)
        if lane is None:
            lane = self.lane_without(first, end)
            if lane is not None:
                ranges.append((lane, first, end))
                self._fill(lane, first, end)
                return
            lane = Lane(self)
            self.lanes.append(lane)
            ranges.append((lane, first, end))
        if len(self.lanes) > 1:
            self.clock += 1
            while lane.stamps and lane.stamps[-1][0] >= first:
                lane.stamps.pop()
            lane.stamps.append((first, self.clock))
        extents = lane.extents
        if extents and extents[-1].end == first and extents[-1].refs == 1:
            extents[-1].end = end
        else:
            extents.append(Extent(lane, first, end, 1))

    def _fill(self, lane: Lane, first: int, end: int) -> None:
        """Put newly hashed blocks [first, end) where a lane has none."""
        if len(self.lanes) > 1:
            self.clock += 1
            stamps, age = lane.stamps, lane.age(end)
            lane.stamps = [stamp for stamp in stamps if stamp[0] < first]
            lane.stamps += [(first, self.clock), (end, age)]
            lane.stamps += [stamp for stamp in stamps if stamp[0] > end]
        index = lane.find(first)
        lane.extents.insert(index, Extent(lane, first, end, 1))
        lane.join(index, index + 1)

    def drop(self, lane: Lane) -> None:
        """Forget a lane that has no blocks any more."""
        self.lanes.remove(lane)
        if len(self.lanes) == 1:
            self.lanes[0].stamps.clear()

    def lane_without(self, first: int, end: int) -> Lane | None:
        """The first lane that has none of the blocks [first, end)."""
        for lane in self.lanes:
            index = lane.find(first)
            if index == len(lane.extents) or lane.extents[index].first >= end:
                return lane
        return None

    def oldest(self, at: int, limit: int, ranges: list[Range]) -> tuple[int, int]:
        """Append ranges of the oldest copies of blocks [at, limit), up to the first that is absent.

        Returns the end of the run and how many of its blocks are unreferenced.
        """
        free = 0
        while at < limit:
            having = [lane for lane in self.lanes if lane.run(at, at + 1)[0] > at]
            if not having:
                break
            oldest = min(having, key=lambda lane: lane.age(at))
            # Up to the next border no lane's coverage or age changes.
            stop = min(lane.border(at, limit) for lane in self.lanes)
            free += oldest.run(at, stop)[1]
            if ranges and ranges[-1][0] is oldest and ranges[-1][2] == at:
                ranges[-1] = (oldest, ranges[-1][1], stop)
            else:
                ranges.append((oldest, at, stop))
            at = stop
        return at, free

    def catch_up(self, but: Holding | None = None) -> None:
        """See to it that what the writers, `but` one, have written is here."""
        for writer in self.writers:
            if writer is not but and writer.catch_up is not None:
                writer.catch_up()


Range = tuple[Lane, int, int]
"""Blocks [first, end) of a lane."""


@dataclass(slots=True, eq=False)
class Holding:
    """The blocks of one request: `ranges` of hashed blocks, then blanks up to block `blocks`.

    A copy of part of a sequence begins at block `start`; a request's own blocks begin at 0.
    `catch_up` is called before anybody looks at segments that this holding is still writing.
    """

    path: Path
    start: int = 0
    blocks: int = 0
    hashed: int = 0
    ranges: list[Range] = field(default_factory=list)
    catch_up: Callable[[], None] | None = None
    writes: list[SegmentBlocks] = field(default_factory=list)


class Hit(NamedTuple):
    """The longest cached prefix of a path: `ranges`, `blocks` in all, of which `free` are unreferenced.

    `dead_end` is the segment in which the walk stopped short of its limit, if it did.
    """

    ranges: Sequence[Range]
    blocks: int
    free: int
    dead_end: Segment | None


NO_HIT = Hit((), 0, 0, None)


def covers(holdings: Sequence[Holding]) -> dict[Lane, list[tuple[int, int]]]:
    """The blocks of each lane that holdings hold: (first, end), once for each holding."""
    covers: dict[Lane, list[tuple[int, int]]] = {}
    for holding in holdings:
        for lane, first, end in holding.ranges:
            covers.setdefault(lane, []).append((first, end))
    return covers


def counts(extent: Extent, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The extent cut where ranges begin or end: (blocks, number of ranges that hold them)."""
    inside = [(first, end) for first, end in ranges if first < extent.end and end > extent.first]
    cuts = {extent.first, extent.end, *(cut for both in inside for cut in both)}
    borders = sorted(cut for cut in cuts if extent.first <= cut <= extent.end)
    for low, high in pairwise(borders):
        yield high - low, sum(first <= low and high <= end for first, end in inside)


def freed_by(holdings: Sequence[Holding]) -> int:
    """How many blocks would be unreferenced without these holdings, all of one pool."""
    freed = sum(holding.blocks - holding.hashed for holding in holdings)
    for lane, ranges in covers(holdings).items():
        for extent in lane.extents:
            if len(ranges) == extent.refs == 1:
                first, end = ranges[0]
                freed += max(min(end, extent.end) - max(first, extent.first), 0)
            elif len(ranges) >= extent.refs > 0:
                freed += sum(blocks for blocks, refs in counts(extent, ranges) if refs == extent.refs)
    return freed
