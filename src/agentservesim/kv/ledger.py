"""What the tiers of an instance hold, told to who listens whenever it is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentservesim.kernel import Kernel
from agentservesim.kv.pool import BlockPool

Numbers = tuple[int, int, int, int, int, int, int, int]
"""Those of a `ResidencyRecord`."""


@dataclass(slots=True, eq=False)
class _Told:
    """A tier, and the counts of its pool that were told last."""

    tier: int
    pool: BlockPool
    blocks: int
    counts: tuple[int, int, int, int] = (-1, -1, -1, -1)


class Ledger:
    """Tells `on_change(numbers)`, if set, what a tier holds: when a gap begins, a turn is admitted, a session
    ends or goes elsewhere, a copy begins or ends, or a pin breaks, and it is not what was told last.

    `catch_up` brings the HBM pool up to date.
    """

    def __init__(
        self, index: int, kernel: Kernel, pools: Sequence[BlockPool], catch_up: Callable[[], None]
    ) -> None:
        self.on_change: Callable[[Numbers], None] | None = None
        self._index = index
        self._kernel = kernel
        self._catch_up = catch_up
        self._told = [_Told(tier, pool, pool.num_blocks - 1) for tier, pool in enumerate(pools)]

    def changed(self) -> None:
        """Something may hold more or less than before."""
        on_change = self.on_change
        if on_change is None:
            return
        self._catch_up()
        for told in self._told:
            pool = told.pool
            counts = pool.free, pool.blank, pool.pinned, pool.in_flight
            if counts != told.counts:
                told.counts = counts
                free, blank, pinned, in_flight = counts
                active, cached = told.blocks - free - pinned - in_flight, free - blank
                now = self._kernel.now
                on_change((self._index, now, told.tier, active, pinned, cached, in_flight, blank))
