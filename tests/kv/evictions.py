"""The blocks that a pool evicts, one by one."""

from __future__ import annotations

from collections.abc import Callable

from agentservesim.model import Segment

Evictions = list[tuple[Segment, int]]


def recorder(evicted: Evictions) -> Callable[[Segment, int, int], None]:
    """A pool's `on_evict` that appends (segment, block) to `evicted` in order."""

    def on_evict(segment: Segment, first: int, end: int) -> None:
        evicted.extend((segment, block) for block in range(end - 1, first - 1, -1))

    return on_evict
