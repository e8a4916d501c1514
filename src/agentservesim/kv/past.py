"""What a block pool held a while ago: its content now, with what changed since undone."""

from __future__ import annotations

from collections import deque

from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.model import Path, Segment


class Past:
    """Remembers a pool's changes, so that earlier moments can be looked into.

    A `mark` names a moment; it is good until `forget` is called with a later one. Whoever marks a moment
    brings the pool up to date first.
    """

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._changes: dict[Segment, deque[tuple[int, int, int, int]]] = {}
        self._order: deque[tuple[int, Segment]] = deque()
        self._count = 0
        self._on_hash, self._on_evict = pool.on_hash, pool.on_evict
        pool.on_hash, pool.on_evict = self._hashed, self._evicted

    def mark(self) -> int:
        """This moment."""
        return self._count

    def forget(self, mark: int) -> None:
        """No moment before `mark` will be asked for again."""
        while self._order and self._order[0][0] < mark:
            _, segment = self._order.popleft()
            changes = self._changes[segment]
            changes.popleft()
            if not changes:
                del self._changes[segment]

    def blocks(self, path: Path, limit: int, mark: int) -> int:
        """The longest cached prefix of a path at that moment, in blocks, at most `limit`."""
        at, size = 0, self._pool.block_size
        for segment, end in path:
            stop = min(end // size, limit)
            if stop <= at:
                continue
            at = self._run(segment, at, stop, mark)
            if at < stop:
                break
        return at

    def _run(self, segment: Segment, at: int, stop: int, mark: int) -> int:
        """The end of the unbroken run of copies of blocks of a segment from `at` on."""
        steps: dict[int, int] = {}
        for first, end in self._pool.copies(segment):
            steps[first] = steps.get(first, 0) + 1
            steps[end] = steps.get(end, 0) - 1
        for number, first, end, sign in self._changes.get(segment, ()):
            if number >= mark:
                steps[first] = steps.get(first, 0) - sign
                steps[end] = steps.get(end, 0) + sign
        copies = 0
        for border in sorted(steps):
            if border > at:
                if copies == 0:
                    return at
                at = min(border, stop)
                if at == stop:
                    return at
            copies += steps[border]
        return at

    def _hashed(self, holding: Holding, first: int, end: int) -> None:
        if self._on_hash is not None:
            self._on_hash(holding, first, end)
        at, size = first, self._pool.block_size
        for segment, left in holding.path:
            stop = min(left // size, end)
            if stop > at:
                self._note(segment, at, stop, 1)
                at = stop

    def _evicted(self, segment: Segment, first: int, end: int) -> None:
        if self._on_evict is not None:
            self._on_evict(segment, first, end)
        self._note(segment, first, end, -1)

    def _note(self, segment: Segment, first: int, end: int, sign: int) -> None:
        self._changes.setdefault(segment, deque()).append((self._count, first, end, sign))
        self._order.append((self._count, segment))
        self._count += 1
