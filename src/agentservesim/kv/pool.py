"""The HBM block pool of one instance, kept as extents.

It holds exactly what vLLM's block pool holds, in exactly its eviction order, but a run of blocks
costs as much as one block. The rules (names as in vLLM V1):

* A block is *hashed* once it is full; a hashed block can be hit by any request whose content
  leads there. Of duplicate blocks the one hashed first is hit.
* Freed blocks keep their content and wait in the free queue. They are freed tail first, so that a
  chain loses its suffix before its prefix. Blocks never hashed are *blank*.
* A block is evicted when it is taken from the head of the free queue.

Three facts make extents possible. Content is a prefix tree of segments, so a block is named by the
segment of its last token and its index in the sequence. A free extent is always taken from its
tail. And which block a request is given never matters, only how many.

A `Lane` is one physical copy of a segment's blocks; there is a second one only when two requests
computed the same content at the same time. A lane is cut into `Extent`s, the largest runs with one
reference count and one place in the free queue. A request's `Holding` names ranges of lanes, so
extents can be split and joined without telling their holders.
"""

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
    before: Extent | None = None
    behind: Extent | None = None


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
    """What the pool knows of one segment: its lanes, and who is behind with hashing its blocks."""

    segment: Segment
    lanes: list[Lane] = field(default_factory=list)
    writers: list[Holding] = field(default_factory=list)

    def lane_without(self, first: int, end: int) -> Lane | None:
        """The first lane that has none of the blocks [first, end)."""
        for lane in self.lanes:
            index = lane.find(first)
            if index == len(lane.extents) or lane.extents[index].first >= end:
                return lane
        return None


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


class BlockPool:
    """Counts, hits and evictions of `num_blocks` KV blocks, one of which is vLLM's null block.

    `free` blocks are unreferenced, `blank` ones of them without content; `pinned` and `in_flight` count what pins and copies took from the free queue; those who make them keep
    the counts. If set, `on_hash(holding, first, end)` and `on_evict(segment, first, end)` are called with the
    blocks just hashed, or just evicted (the highest index went first).

    What is evicted next can be watched, and chosen, a run at a time. When `blocks` are to be evicted and
    the head of the free queue is not condemned yet, `on_shortage(blocks)` may put other extents there and
    says how many blocks of the head it has chosen; these, or the extent at the head, are condemned, and
    `on_condemn(segment, first, end)` is told of each extent. It is told before anything of it is evicted.
    """

    def __init__(
        self, num_blocks: int, block_size: int, *, caching: bool = True, blanks_first: bool = True
    ) -> None:
        if num_blocks < 2:
            raise ValueError(f"a pool needs at least 2 blocks (one is the null block), got {num_blocks}")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.caching = caching
        self.blanks_first = blanks_first
        self.free = num_blocks - 1
        self.evicted_blocks = 0
        self.pinned = 0
        self.in_flight = 0
        self.on_hash: Callable[[Holding, int, int], None] | None = None
        self.on_evict: Callable[[Segment, int, int], None] | None = None
        self.on_shortage: Callable[[int], int] | None = None
        self.on_condemn: Callable[[Segment, int, int], None] | None = None
        self.contended = 0
        self.blank = num_blocks - 1
        self._blanks = num_blocks - 1
        self._segments: dict[Segment, SegmentBlocks] = {}
        self._clock = 0
        self._head = Extent(None, 0, 0)
        self._tail = Extent(None, 0, 0, before=self._head)
        self._head.behind = self._tail

    # ---- looking up ---------------------------------------------------------------------------

    def lookup(self, path: Path, max_blocks: int, start: int = 0) -> Hit:
        """The longest run of cached blocks of `path` from block `start` to at most `max_blocks`."""
        if not self.caching or max_blocks <= start:
            return NO_HIT
        size = self.block_size
        at, free = start, 0
        ranges: list[Range] = []
        for segment, end in path:
            limit = end // size
            if limit > max_blocks:
                limit = max_blocks
            if limit <= at:
                if at == max_blocks:
                    break
                continue
            home = self._segments.get(segment)
            if home is not None:
                for writer in home.writers:
                    if writer.catch_up is not None:
                        writer.catch_up()
                if len(home.lanes) == 1:
                    stop, unused = home.lanes[0].run(at, limit)
                    if stop > at:
                        ranges.append((home.lanes[0], at, stop))
                else:
                    stop, unused = self._oldest(home, at, limit, ranges)
                free += unused
                at = stop
            if at < limit:
                return Hit(ranges, at, free, segment)
        return Hit(ranges, at, free, None)

    def _oldest(self, home: SegmentBlocks, at: int, limit: int, ranges: list[Range]) -> tuple[int, int]:
        """Append ranges of the oldest copies of blocks [at, limit), up to the first that is absent.

        Returns the end of the run and how many of its blocks are unreferenced.
        """
        lanes, free = home.lanes, 0
        while at < limit:
            having = [lane for lane in lanes if lane.run(at, at + 1)[0] > at]
            if not having:
                break
            oldest = min(having, key=lambda lane: lane.age(at))
            # Up to the next border no lane's coverage or age changes.
            stop = min(lane.border(at, limit) for lane in lanes)
            free += oldest.run(at, stop)[1]
            if ranges and ranges[-1][0] is oldest and ranges[-1][2] == at:
                ranges[-1] = (oldest, ranges[-1][1], stop)
            else:
                ranges.append((oldest, at, stop))
            at = stop
        return at, free

    # ---- taking and giving back ---------------------------------------------------------------

    def acquire(self, holding: Holding, hit: Hit) -> None:
        """Reference the blocks of a hit; the holding must be empty and begin where the hit does."""
        for lane, first, end in hit.ranges:
            self._reference(lane, first, end)
            holding.ranges.append((lane, first, end))
        holding.blocks = holding.hashed = max(hit.blocks, holding.start)

    def share(self, holding: Holding, other: Holding) -> None:
        """Reference a holding's hashed blocks once more, from the start of an empty `other` on."""
        for lane, first, end in holding.ranges:
            first = max(first, other.start)
            if first < end:
                self._reference(lane, first, end)
                other.ranges.append((lane, first, end))
        other.blocks = other.hashed = holding.hashed

    def take(self, count: int) -> None:
        """Take blocks from the head of the free queue, evicting what they hold.

        The caller adds them to a holding's `blocks` and sees to it that there are enough.
        """
        if count > self.free:
            raise ValueError(f"cannot take {count} blocks: {self.free} are free")
        self.free -= count
        if count <= self._blanks:
            self._blanks -= count
            self.blank -= count
            return
        count -= self._blanks
        self.blank -= self._blanks
        self._blanks = 0
        watched = self.is_watched
        while count:
            extent = self._head.behind
            assert extent is not None
            if watched and not extent.condemned:
                self._condemn(count)
                extent = self._head.behind
                assert extent is not None
            taken = min(count, extent.end - extent.first)
            extent.end -= taken
            count -= taken
            lane = extent.lane
            if lane is None:
                self.blank -= taken
            else:
                self.evicted_blocks += taken
                if self.on_evict is not None:
                    self.on_evict(lane.home.segment, extent.end, extent.end + taken)
            if extent.end == extent.first:
                self._unlink(extent)
                if lane is not None:
                    lane.extents.remove(extent)
                    if not lane.extents:
                        self._drop_lane(lane)

    def _condemn(self, count: int) -> None:
        """See to it that the head of the free queue is condemned, `count` blocks being needed."""
        chosen = 0 if self.on_shortage is None else self.on_shortage(count)
        extent = self._head.behind
        while True:
            assert extent is not None
            extent.condemned = True
            if extent.lane is not None and self.on_condemn is not None:
                self.on_condemn(extent.lane.home.segment, extent.first, extent.end)
            chosen -= extent.end - extent.first
            if chosen <= 0:
                break
            extent = extent.behind

    def store(self, holding: Holding, upto: int) -> None:
        """Hash the holding's blocks up to block `upto`, along its path."""
        at = holding.hashed
        if upto <= at or not self.caching:
            return
        size = self.block_size
        for segment, end in holding.path:
            stop = end // size
            if stop <= at:
                continue
            if stop > upto:
                stop = upto
            self._hash(holding, segment, at, stop)
            at = stop
            if at == upto:
                break
        if self.on_hash is not None:
            self.on_hash(holding, holding.hashed, at)
        holding.hashed = at

    def _hash(self, holding: Holding, segment: Segment, first: int, end: int) -> None:
        home = self._segments.get(segment)
        if home is None:
            home = self._segments[segment] = SegmentBlocks(segment)
        elif home.writers:
            for writer in home.writers:
                if writer is not holding and writer.catch_up is not None:
                    writer.catch_up()
        ranges = holding.ranges
        lane = None
        if ranges:
            last, from_, to = ranges[-1]
            if last.home is home and to == first and last.extents[-1].end == first:
                lane = last
                ranges[-1] = (lane, from_, end)
        if lane is None:
            lane = home.lane_without(first, end)
            if lane is not None:
                ranges.append((lane, first, end))
                self._fill(lane, first, end)
                return
            lane = Lane(home)
            home.lanes.append(lane)
            ranges.append((lane, first, end))
        if len(home.lanes) > 1:
            self._clock += 1
            while lane.stamps and lane.stamps[-1][0] >= first:
                lane.stamps.pop()
            lane.stamps.append((first, self._clock))
        extents = lane.extents
        if extents and extents[-1].end == first and extents[-1].refs == 1:
            extents[-1].end = end
        else:
            extents.append(Extent(lane, first, end, 1))

    def _fill(self, lane: Lane, first: int, end: int) -> None:
        """Put newly hashed blocks [first, end) where a lane has none."""
        if len(lane.home.lanes) > 1:
            self._clock += 1
            stamps, age = lane.stamps, lane.age(end)
            lane.stamps = [stamp for stamp in stamps if stamp[0] < first]
            lane.stamps += [(first, self._clock), (end, age)]
            lane.stamps += [stamp for stamp in stamps if stamp[0] > end]
        index = lane.find(first)
        lane.extents.insert(index, Extent(lane, first, end, 1))
        self._join(lane, index, index + 1)

    def release(self, holding: Holding, evict_first: bool = False) -> None:
        """Give back every block of the holding, tail first, and empty it.

        With `evict_first` those that nobody else references go to the head of the free queue, behind what
        is condemned.
        """
        if holding.writes:
            self.end_writing(holding)
        blanks = holding.blocks - holding.hashed
        self.free += blanks
        self.blank += blanks
        if self.blanks_first or not self.caching:
            self._blanks += blanks
        elif blanks:
            self._append(Extent(None, 0, blanks))
        mark = Extent(None, 0, 0)
        if evict_first:
            self._append(mark)
        for lane, first, end in reversed(holding.ranges):
            self._dereference(lane, first, end)
        if evict_first:
            self._move_to_head(mark)
        holding.ranges.clear()
        holding.blocks = holding.hashed = holding.start

    def _move_to_head(self, mark: Extent) -> None:
        """Move the extents behind `mark` to the head of the free queue, in their order; unlink `mark`."""
        head, tail = self._head, self._tail
        first, last, behind = mark.behind, tail.before, head.behind
        assert first is not None
        assert last is not None
        assert behind is not None
        while behind.condemned:
            head, behind = behind, behind.behind
            assert behind is not None
        if first is not tail and behind is not mark:
            mark.behind, tail.before = tail, mark
            head.behind, first.before = first, head
            last.behind, behind.before = behind, last
        self._unlink(mark)

    # ---- writers ------------------------------------------------------------------------------

    def begin_writing(self, holding: Holding, from_token: int, catch_up: Callable[[], None]) -> None:
        """The holding will hash blocks behind the pool's back, from token `from_token` on.

        Until `end_writing`, `catch_up` is called before its segments are looked at. Two writers of
        one segment are counted in `contended`: their order matters.
        """
        holding.catch_up = catch_up
        if not self.caching:
            return
        for segment, end in holding.path:
            if end > from_token:
                home = self._segments.get(segment)
                if home is None:
                    home = self._segments[segment] = SegmentBlocks(segment)
                for writer in home.writers:
                    if writer.catch_up is not None:
                        writer.catch_up()
                home.writers.append(holding)
                holding.writes.append(home)
                if len(home.writers) == 2:
                    self.contended += 1

    def end_writing(self, holding: Holding) -> None:
        """The holding is up to date and stays so."""
        holding.catch_up = None
        for home in holding.writes:
            home.writers.remove(holding)
            if len(home.writers) == 1:
                self.contended -= 1
            self._drop_home(home)
        holding.writes.clear()

    def is_being_written(self, segment: Segment | None) -> bool:
        """Whether a holding is hashing blocks of this segment behind the pool's back."""
        home = self._segments.get(segment) if segment is not None else None
        return home is not None and bool(home.writers)

    # ---- extents and the free queue -----------------------------------------------------------

    def _split(self, lane: Lane, index: int, block: int) -> None:
        """Cut extent `index` so that one begins at `block`; the upper part is evicted first."""
        lower = lane.extents[index]
        upper = Extent(lane, block, lower.end, lower.refs, lower.condemned)
        lower.end = block
        lane.extents.insert(index + 1, upper)
        if lower.refs == 0:
            before = lower.before
            assert before is not None
            upper.before, upper.behind = before, lower
            before.behind = lower.before = upper

    def _bounds(self, lane: Lane, first: int, end: int) -> tuple[int, int]:
        """Indices [low, high) of the extents that are exactly the blocks [first, end), splitting."""
        extents = lane.extents
        low = lane.find(first)
        if extents[low].first < first:
            self._split(lane, low, first)
            low += 1
        high = low
        while extents[high].end < end:
            high += 1
        if extents[high].end > end:
            self._split(lane, high, end)
        return low, high + 1

    def _reference(self, lane: Lane, first: int, end: int) -> None:
        extents = lane.extents
        extent = extents[0]
        if len(extents) == 1 and extent.first == first and extent.end == end:
            if extent.refs == 0:
                self._claim(extent)
            extent.refs += 1
            return
        low, high = self._bounds(lane, first, end)
        for extent in lane.extents[low:high]:
            if extent.refs == 0:
                self._claim(extent)
            extent.refs += 1
        if len(extents) > 1:
            self._join(lane, low, high)

    def _claim(self, extent: Extent) -> None:
        """Take an extent out of the free queue."""
        self._unlink(extent)
        extent.condemned = False
        self.free -= extent.end - extent.first

    def _dereference(self, lane: Lane, first: int, end: int) -> None:
        extents = lane.extents
        extent = extents[0]
        if len(extents) == 1 and extent.first == first and extent.end == end:
            extent.refs -= 1
            if extent.refs == 0:
                self.free += end - first
                self._append(extent)
            return
        low, high = self._bounds(lane, first, end)
        for index in range(high - 1, low - 1, -1):
            extent = extents[index]
            extent.refs -= 1
            if extent.refs == 0:
                self.free += extent.end - extent.first
                last = self._tail.before
                assert last is not None
                if last.lane is lane and last.first == extent.end and not last.condemned:
                    last.first = extent.first
                    del extents[index]
                else:
                    self._append(extent)
        if len(extents) > 1:
            self._join(lane, low, min(high, len(extents)))

    def _join(self, lane: Lane, low: int, high: int) -> None:
        """Join neighbours in [low - 1, high] that are referenced alike."""
        extents = lane.extents
        for index in range(min(high, len(extents) - 1), max(low - 1, 0), -1):
            lower, upper = extents[index - 1], extents[index]
            if lower.refs == upper.refs != 0 and lower.end == upper.first:
                lower.end = upper.end
                del extents[index]

    def _append(self, extent: Extent) -> None:
        tail = self._tail
        last = tail.before
        assert last is not None
        extent.before, extent.behind = last, tail
        last.behind = tail.before = extent

    def _unlink(self, extent: Extent) -> None:
        before, behind = extent.before, extent.behind
        assert before is not None
        assert behind is not None
        before.behind, behind.before = behind, before
        extent.before = extent.behind = None

    def _drop_lane(self, lane: Lane) -> None:
        home = lane.home
        home.lanes.remove(lane)
        if len(home.lanes) == 1:
            home.lanes[0].stamps.clear()
        self._drop_home(home)

    def _drop_home(self, home: SegmentBlocks) -> None:
        if not home.lanes and not home.writers:
            del self._segments[home.segment]

    # ---- inspection ---------------------------------------------------------------------------

    @property
    def is_watched(self) -> bool:
        """Whether somebody wants to know, or to choose, what is evicted next."""
        return self.on_shortage is not None or self.on_condemn is not None

    @property
    def ready(self) -> int:
        """Blocks that can be taken without anybody being asked or told."""
        if not self.is_watched:
            return self.free
        ready, extent = self._blanks, self._head.behind
        while extent is not None and extent.condemned:
            ready += extent.end - extent.first
            extent = extent.behind
        return ready

    @property
    def used(self) -> int:
        """Blocks that are referenced."""
        return self.num_blocks - 1 - self.free

    @property
    def cached(self) -> int:
        """Unreferenced blocks that still hold content."""
        return self.free - self.blank

    def copies(self, segment: Segment) -> Iterator[tuple[int, int]]:
        """Runs of blocks [first, end) of a segment that have content, once for each copy of it."""
        home = self._segments.get(segment)
        for lane in home.lanes if home is not None else ():
            for extent in lane.extents:
                yield extent.first, extent.end

    def freed_by(self, holdings: Sequence[Holding]) -> int:
        """How many blocks would be unreferenced without these holdings."""
        covers = _covers(holdings)
        freed = sum(holding.blocks - holding.hashed for holding in holdings)
        for lane, ranges in covers.items():
            for extent in lane.extents:
                if len(ranges) >= extent.refs:
                    freed += sum(blocks for blocks, refs in _counts(extent, ranges) if refs == extent.refs)
        return freed

    def _queue(self) -> Iterator[Extent]:
        extent = self._head.behind
        while extent is not None and extent is not self._tail:
            yield extent
            extent = extent.behind

    def audit(self, holdings: list[Holding]) -> None:
        """Recount everything; AssertionError if the ledger does not balance.

        `holdings` are all live ones, caught up. A test's tool: it walks every extent.
        """
        covers = _covers(holdings)
        for holding in holdings:
            hashed = sum(end - first for _, first, end in holding.ranges)
            assert hashed == holding.hashed - holding.start
            assert holding.hashed <= holding.blocks
        used = sum(h.blocks - h.hashed for h in holdings)
        queued = {id(x) for x in self._queue()}
        for segment, home in self._segments.items():
            assert home.segment is segment
            assert home.lanes or home.writers
            for lane in home.lanes:
                assert lane.extents
                assert lane.home is home
                at = -1
                for extent in lane.extents:
                    assert extent.lane is lane
                    assert at <= extent.first < extent.end
                    at = extent.end
                    assert {refs for _, refs in _counts(extent, covers.get(lane, []))} == {extent.refs}
                    assert (extent.refs == 0) == (id(extent) in queued)
                    used += (extent.end - extent.first) if extent.refs else 0
        assert used == self.used
        queue_blocks = self._blanks + sum(x.end - x.first for x in self._queue())
        assert queue_blocks == self.free
        assert self.blank == self._blanks + sum(x.end - x.first for x in self._queue() if x.lane is None)


def _covers(holdings: Sequence[Holding]) -> dict[Lane, list[tuple[int, int]]]:
    """The blocks of each lane that holdings hold: (first, end), once for each holding."""
    covers: dict[Lane, list[tuple[int, int]]] = {}
    for holding in holdings:
        for lane, first, end in holding.ranges:
            covers.setdefault(lane, []).append((first, end))
    return covers


def _counts(extent: Extent, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The extent cut where ranges begin or end: (blocks, number of ranges that hold them)."""
    inside = [(first, end) for first, end in ranges if first < extent.end and end > extent.first]
    cuts = {extent.first, extent.end, *(cut for both in inside for cut in both)}
    borders = sorted(cut for cut in cuts if extent.first <= cut <= extent.end)
    for low, high in pairwise(borders):
        yield high - low, sum(first <= low and high <= end for first, end in inside)
