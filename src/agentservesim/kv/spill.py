"""Write-back on eviction: what one tier evicts is written to the next.

Before the first block of an unbroken run of free blocks is evicted, the whole run is staged and written, as
SGLang's HiCache writes back a whole node of its radix tree; the rest of it stays where it is until its
blocks are needed, and is not written again. Blocks of what is staged can be used at once. All that is
staged in one moment is one transfer. A tier keeps the hits of its content where a policy wants only what
was hit.

Instances may share a tier, and each have links and slower tiers of its own. What was in it is spilled by the
one whose copy wrote or read it there last. Of those that spill in one moment, the lowest index is first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agentservesim.kernel import Kernel
from agentservesim.kv.copies import Copies
from agentservesim.kv.links import Transfer
from agentservesim.kv.pool import NO_HIT, BlockPool, Holding
from agentservesim.kv.tiers import Tier
from agentservesim.model import Path, Segment

LAST = 1 << 20
"""Priority: behind everything else that happens in the same moment; the index of the instance is added."""


class Hits:
    """How often content was hit: the `times` longest hits of every segment, longest first."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._stops: dict[Segment, list[int]] = {}

    def add(self, path: Path, blocks: int, block_size: int) -> None:
        """A turn found the first `blocks` blocks of its path."""
        for segment, end in path:
            if segment.start >= blocks * block_size:
                return
            stops = self._stops.setdefault(segment, [])
            stops.append(min(end // block_size, blocks))
            stops.sort(reverse=True)
            del stops[self._times :]

    def worth(self, segment: Segment, end: int) -> int:
        """The block, at most `end`, before which everything in a segment was hit often enough."""
        if not self._times:
            return end
        stops = self._stops.get(segment, [])
        return min(end, stops[-1]) if len(stops) == self._times else 0


class Outlet:
    """Has each run of blocks that `pool` is about to evict spilled by the instance that used it last."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._spills: list[Spill] = []
        self._last: dict[Segment, Spill] = {}
        pool.on_condemn = self

    def join(self, spill: Spill) -> None:
        """One more instance spills what it used."""
        self._spills.append(spill)

    def used(self, spill: Spill, holding: Holding) -> None:
        """A copy of the instance that has this spill wrote a holding's blocks, or read them."""
        if len(self._spills) == 1:
            return
        size, last = self._pool.block_size, self._last
        for segment, end in holding.path:
            if segment.start >= holding.blocks * size:
                break
            if end > holding.start * size:
                last[segment] = spill
        if len(last) > 2 * self._pool.num_blocks:
            self._last = {s: last[s] for s in last if self._pool.may_have(s, s.start // size)}

    def __call__(self, segment: Segment, first: int, end: int) -> None:
        """These blocks are about to be evicted."""
        self._last.get(segment, self._spills[0]).stage(segment, first, end)


class Spill:
    """Writes what `pool` (the tier called `above`) is about to evict to a slower tier of one instance."""

    def __init__(
        self,
        above: str,
        pool: BlockPool,
        below: Tier,
        copies: Copies,
        hits: Hits,
        kernel: Kernel,
        changed: Callable[[], None],
    ) -> None:
        self._below = below
        self._link = below.link_from(above)
        self._copies = copies
        self._hits = hits
        self._kernel = kernel
        self._changed = changed
        self._staged: list[tuple[Segment, int, int]] = []
        outlet = pool.on_condemn if isinstance(pool.on_condemn, Outlet) else Outlet(pool)
        outlet.join(self)
        copies.on_use[pool] = partial(outlet.used, self)

    def stage(self, segment: Segment, first: int, end: int) -> None:
        """These blocks are about to be evicted."""
        end = self._hits.worth(segment, end)
        if end <= first:
            return
        if not self._staged:
            self._kernel.at(self._kernel.now, self._flush, None, LAST + self._copies.index)
        elif self._staged[-1][0] is segment and self._staged[-1][1] == end:
            end = self._staged.pop()[2]
        self._staged.append((segment, first, end))

    def _flush(self, _: object) -> None:
        """Write what was staged, as far as the tier lacks it and has room."""
        staged, self._staged = self._staged, []
        pool, size = self._below.pool, self._below.pool.block_size
        goals: list[Holding] = []
        for segment, first, end in reversed(staged):
            path = path_to(segment, end * size)
            there = pool.lookup(path, end, first)
            if there.blocks > first:
                self._copies.let_go(self._copies.hold(pool, path, there, start=first))
                first = there.blocks
            missing = min(end - first, pool.free)
            if missing > 0:
                goals.append(self._copies.hold(pool, path, NO_HIT, missing, start=first))
        if not goals:
            return

        def arrived(transfer: Transfer) -> None:
            for goal in goals:
                self._copies.land(goal)
            self._copies.note(("", ""), self._link, "spill", transfer)
            self._changed()

        blocks = sum(goal.blocks - goal.start for goal in goals)
        self._link.send(blocks * self._copies.shape.block_bytes, False, arrived)
        self._changed()


def path_to(segment: Segment, end: int) -> Path:
    """The path whose last segment is `segment`, left at token `end`."""
    path: list[tuple[Segment, int]] = []
    at: Segment | None = segment
    while at is not None:
        path.append((at, end))
        end, at = at.start, at.parent
    return tuple(reversed(path))
