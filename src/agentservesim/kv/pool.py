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

from collections.abc import Callable, Iterator, Sequence

from agentservesim.kv.answers import Answers
from agentservesim.kv.extents import NO_HIT, Extent, Hit, Holding, Range, SegmentBlocks
from agentservesim.kv.free_queue import FreeQueue
from agentservesim.model import Path, Segment

__all__ = ["NO_HIT", "BlockPool", "Hit", "Holding"]


class BlockPool:
    """Counts, hits and evictions of `num_blocks` KV blocks, one of which is vLLM's null block.

    `free` blocks are unreferenced, `blank` ones of them without content. `pinned` and `in_flight` count what
    pins and copies took from the free queue; those who make them keep the counts. `answers` are those of
    lookups; it is told what changes, and whoever looks up often puts them there. If set,
    `on_hash(holding, first, end)` and `on_evict(segment, first, end)` are called with the blocks just hashed,
    or just evicted (the highest index went first).

    What is evicted next can be watched, and chosen, a run at a time. When `blocks` are to be evicted and
    the head of the free queue is not condemned yet, `on_shortage(blocks)` may put other extents there and
    says how many blocks of the head it has chosen; these, and in any case the unbroken run of a segment's
    blocks that the last of them is in, are condemned, and `on_condemn(segment, first, end)` is told of each
    extent. It is told before anything of it is evicted.
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
        self._queue = FreeQueue()
        self.answers = Answers()

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
                if home.writers:
                    home.catch_up()
                if len(home.lanes) == 1:
                    lane = home.lanes[0]
                    extent = lane.extents[0]
                    if extent.first <= at and limit <= extent.end:
                        stop, unused = limit, 0 if extent.refs else limit - at
                    else:
                        stop, unused = lane.run(at, limit)
                    if stop > at:
                        ranges.append((lane, at, stop))
                else:
                    stop, unused = home.oldest(at, limit, ranges)
                free += unused
                at = stop
            if at < limit:
                return Hit(ranges, at, free, segment)
        return Hit(ranges, at, free, None)

    # ---- taking and giving back ---------------------------------------------------------------

    def acquire(self, holding: Holding, hit: Hit) -> None:
        """Reference the blocks of a hit; the holding must be empty and begin where the hit does."""
        holding.ranges.extend(hit.ranges)
        self._reference(hit.ranges)
        holding.blocks = holding.hashed = hit.blocks if hit.blocks > holding.start else holding.start

    def share(self, holding: Holding, other: Holding) -> None:
        """Reference a holding's hashed blocks once more, from the start of an empty `other` on."""
        start = other.start
        other.ranges += [(lane, max(first, start), end) for lane, first, end in holding.ranges if end > start]
        self._reference(other.ranges)
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
            extent = self._queue.first
            if watched and not extent.condemned:
                self._condemn(count)
                extent = self._queue.first
            taken = min(count, extent.end - extent.first)
            extent.end -= taken
            count -= taken
            lane = extent.lane
            if lane is None:
                self.blank -= taken
            else:
                self.evicted_blocks += taken
                if self.answers.askers:
                    self.answers.changed(lane.home.segment)
                if self.on_evict is not None:
                    self.on_evict(lane.home.segment, extent.end, extent.end + taken)
            if extent.end == extent.first:
                self._queue.remove(extent)
                if lane is not None:
                    lane.extents.remove(extent)
                    if not lane.extents:
                        lane.home.drop(lane)
                        self._drop_home(lane.home)

    def _condemn(self, count: int) -> None:
        """See to it that the head of the free queue is condemned, `count` blocks being needed."""
        chosen = 0 if self.on_shortage is None else self.on_shortage(count)
        last: Extent | None = None
        for extent in self._queue:
            if chosen <= 0 and last is not None and not extent.goes_on(last):
                break
            extent.condemned = True
            if extent.lane is not None and self.on_condemn is not None:
                self.on_condemn(extent.lane.home.segment, extent.first, extent.end)
            chosen -= extent.end - extent.first
            last = extent

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
            if self.answers.askers:
                self.answers.changed(segment)
            home = self._segments.get(segment)
            if home is None:
                home = self._segments[segment] = SegmentBlocks(segment)
            elif home.writers:
                home.catch_up(holding)
            home.hash(holding.ranges, at, stop)
            at = stop
            if at == upto:
                break
        if self.on_hash is not None:
            self.on_hash(holding, holding.hashed, at)
        holding.hashed = at

    def release(self, holding: Holding, evict_first: bool = False) -> None:
        """Give back every block of the holding, tail first, and empty it.

        With `evict_first` those that nobody else references go to the head of the free queue, behind what
        is condemned.
        """
        if holding.writes:
            self.end_writing(holding)
        blanks = holding.blocks - holding.hashed
        if blanks:
            self.free += blanks
            self.blank += blanks
            if self.blanks_first or not self.caching:
                self._blanks += blanks
            else:
                self._queue.append(Extent(None, 0, blanks))
        if evict_first:
            self._queue.begin_move()
            self._dereference(holding.ranges)
            self._queue.move_to_head()
        else:
            self._dereference(holding.ranges)
        holding.ranges.clear()
        holding.blocks = holding.hashed = holding.start

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
                home.catch_up()
                if self.answers.askers:
                    self.answers.changed(segment)
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

    def is_shared_writing(self, holding: Holding, from_token: int) -> bool:
        """Whether another holding is hashing blocks of the segments that this one has from a token on."""
        return any(end > from_token and self.is_being_written(segment) for segment, end in holding.path)

    # ---- extents and the free queue -----------------------------------------------------------

    def _reference(self, ranges: Sequence[Range]) -> None:
        remove = self._queue.remove
        for lane, first, end in ranges:
            extents = lane.extents
            extent = extents[0]
            if len(extents) == 1 and extent.first == first and extent.end == end:
                if extent.refs == 0:
                    remove(extent)
                    extent.condemned = False
                    self.free -= end - first
                extent.refs += 1
                continue
            low, high = lane.cut(first, end)
            for extent in extents[low:high]:
                if extent.refs == 0:
                    remove(extent)
                    extent.condemned = False
                    self.free -= extent.end - extent.first
                extent.refs += 1
            if len(extents) > 1:
                lane.join(low, high)

    def _dereference(self, ranges: Sequence[Range]) -> None:
        """Those without references go to the tail of the free queue, the last blocks first."""
        queue = self._queue
        for lane, first, end in reversed(ranges):
            extents = lane.extents
            extent = extents[0]
            if len(extents) == 1 and extent.first == first and extent.end == end:
                extent.refs -= 1
                if extent.refs == 0:
                    self.free += end - first
                    queue.append(extent)
                continue
            low, high = lane.cut(first, end)
            for index in range(high - 1, low - 1, -1):
                extent = extents[index]
                extent.refs -= 1
                if extent.refs == 0:
                    self.free += extent.end - extent.first
                    last = queue.last
                    if last.lane is lane and last.first == extent.end and not last.condemned:
                        last.first = extent.first
                        del extents[index]
                    else:
                        queue.append(extent)
            if len(extents) > 1:
                lane.join(low, min(high, len(extents)))

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
        return self._blanks + self._queue.condemned_blocks if self.is_watched else self.free

    def may_have(self, segment: Segment, block: int) -> bool:
        """Whether blocks of a segment from this one on may be here: it costs less than to look them up."""
        home = self._segments.get(segment)
        if home is None:
            return False
        for lane in home.lanes:
            if lane.extents[-1].end > block:
                return True
        return bool(home.writers)

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
