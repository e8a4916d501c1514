"""What the tiers of an instance hold, told to who listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentservesim.kernel import Kernel
from agentservesim.kv.pool import BlockPool
from agentservesim.kv.sessions import ResidencyRecord

Snapshot = list[int]
"""The index of the instance, the time in picoseconds, and of each tier, HBM first, `COUNTS` numbers: its free
blocks, those of them that are blank, and the pinned ones and those in flight among the others."""

COUNTS = 4


class Ledger:
    """Tells `on_change(snapshot)`, if set, what the tiers hold: when a gap begins, a turn is admitted, a
    session ends or goes elsewhere, a copy begins or ends, or a pin breaks.

    `sizes` are the blocks of each tier. `catch_up` brings the HBM pool up to date.
    """

    def __init__(
        self, index: int, kernel: Kernel, pools: Sequence[BlockPool], catch_up: Callable[[], None]
    ) -> None:
        self.on_change: Callable[[Snapshot], object] | None = None
        self.sizes = [pool.num_blocks - 1 for pool in pools]
        self._index = index
        self._kernel = kernel
        self._pools = pools
        self._catch_up = catch_up

    def changed(self) -> None:
        """Something may hold more or less than before."""
        if self.on_change is not None:
            self._catch_up()
            snapshot = [self._index, self._kernel.now]
            for pool in self._pools:
                snapshot += (pool.free, pool.blank, pool.pinned, pool.in_flight)
            self.on_change(snapshot)


def records(snapshot: Snapshot, sizes: Sequence[int]) -> list[ResidencyRecord]:
    """What a snapshot says of each tier; `sizes` are their blocks."""
    instance, time_ps, *counts = snapshot
    found = []
    for tier, size in enumerate(sizes):
        free, blank, pinned, in_flight = counts[tier * COUNTS : (tier + 1) * COUNTS]
        active = size - free - pinned - in_flight
        found.append(ResidencyRecord(instance, time_ps, tier, active, pinned, free - blank, in_flight, blank))
    return found
