"""The order in which free blocks are taken: a linked list of extents, those that are condemned in front."""

from __future__ import annotations

from collections.abc import Iterator

from agentservesim.kv.extents import Extent


class FreeQueue:
    """Free extents, the one that is taken first at the head."""

    __slots__ = ("_head", "_mark", "_tail")

    def __init__(self) -> None:
        self._head = Extent(None, 0, 0)
        self._tail = Extent(None, 0, 0, before=self._head)
        self._head.behind = self._tail
        self._mark = Extent(None, 0, 0)

    @property
    def first(self) -> Extent:
        """The extent at the head; there must be one."""
        return self._head.behind

    @property
    def last(self) -> Extent:
        """The extent at the tail; an empty one without a lane where the queue is empty."""
        return self._tail.before

    @property
    def condemned_blocks(self) -> int:
        """Blocks at the head that are condemned."""
        blocks, extent = 0, self.first
        while extent.condemned:
            blocks += extent.end - extent.first
            extent = extent.behind
        return blocks

    def __iter__(self) -> Iterator[Extent]:
        extent = self._head.behind
        while extent is not self._tail:
            yield extent
            extent = extent.behind

    def append(self, extent: Extent) -> None:
        """Put an extent at the tail."""
        tail = self._tail
        last = tail.before
        extent.before, extent.behind = last, tail
        last.behind = tail.before = extent

    def remove(self, extent: Extent) -> None:
        """Take an extent out."""
        before, behind = extent.before, extent.behind
        before.behind, behind.before = behind, before
        extent.before = extent.behind = None  # type: ignore[assignment]

    def begin_move(self) -> None:
        """What is appended from now on is to be moved to the head."""
        self.append(self._mark)

    def move_to_head(self) -> None:
        """Move it there, behind what is condemned, in its order."""
        mark, tail = self._mark, self._tail
        first, last, behind = mark.behind, self.last, self.first
        while behind.condemned:
            behind = behind.behind
        if first is not tail and behind is not mark:
            before = behind.before
            mark.behind, tail.before = tail, mark
            before.behind, first.before = first, before
            last.behind, behind.before = behind, last
        self.remove(mark)
