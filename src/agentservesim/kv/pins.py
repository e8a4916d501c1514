"""Pins of one instance: what keeps KV in HBM, and in which order it gives way.

* A pin is a holding on the HBM pool, like a request's: what it covers cannot be evicted.
* A pin whose time is up when the policy says it is expired: it is kept until blocks are short.
* Expired pins go first, earliest deadline first; then, if a running request is short, soft ones, latest
  deadline first. None is given up where all of them would not be enough.
* The valve: if nothing runs and nothing is on its way, pins are broken one by one until the head of
  the queue fits, soft ones before hard ones, those of sessions in their gap before those of waiting
  turns, the latest deadline first. A turn that runs alone and is short opens it too.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from agentservesim.kernel import Kernel
from agentservesim.kv.extents import freed_by
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.kv.sessions import FOREVER, Chain, Pin, Session


class Pins:
    """The pins on `pool`.

    `freed` is called before blocks are given back to it, `changed` when a pin is broken.
    `forced_unpins` counts the pins that were broken before their time, `held_in_gap_byte_ps` the
    byte-picoseconds that pins have held. `on_break(chain)` are called when a pin is broken.
    """

    def __init__(
        self,
        kernel: Kernel,
        pool: BlockPool,
        block_bytes: int,
        freed: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.forced_unpins = 0
        self.held_in_gap_byte_ps = 0
        self.on_break: list[Callable[[Chain], None]] = []
        self._kernel = kernel
        self._pool = pool
        self._block_bytes = block_bytes
        self._freed = freed
        self._changed = changed
        self._pins: dict[Pin, Chain] = {}
        self._deadlines: list[tuple[int, int, Pin]] = []
        self._numbers = count()

    def hold(self, chain: Chain, hit: Hit, until_ps: int, hard: bool) -> Pin:
        """Pin what a chain has in HBM."""
        before = self._pool.free
        pin = Pin(Holding(chain.path), until_ps, hard, self._kernel.now)
        chain.seen = None
        self._pool.acquire(pin.holding, hit)
        pin.claimed = before - self._pool.free
        self._pool.pinned += pin.claimed
        self._pins[pin] = chain
        self._note_deadline(pin)
        return pin

    def unpin(self, chain: Chain) -> None:
        """Give a chain's pin up. What is still on its way into it is let go when it has arrived."""
        pin, chain.pin = chain.pin, None
        if pin is not None:
            chain.seen = None
            self.release(pin)

    def release(self, pin: Pin) -> None:
        """Give back what a pin holds, unless it is still on its way."""
        if pin.loading:
            return
        self._freed()
        del self._pins[pin]
        held_ps = self._kernel.now - pin.since_ps
        self.held_in_gap_byte_ps += held_ps * pin.holding.blocks * self._block_bytes
        self._pool.pinned -= pin.claimed
        self._pool.release(pin.holding)

    @property
    def holdings(self) -> list[Holding]:
        """What pins hold."""
        return [pin.holding for pin in self._pins]

    def keep(self, pin: Pin, until_ps: int, hard: bool) -> None:
        """Give a pin another deadline."""
        pin.until_ps, pin.hard = until_ps, hard
        self._pins[pin].seen = None
        self._note_deadline(pin)

    def _note_deadline(self, pin: Pin) -> None:
        if pin.until_ps < FOREVER:
            heappush(self._deadlines, (pin.until_ps, next(self._numbers), pin))

    def may_free(self, blocks: int) -> bool:
        """Whether the pins that have expired hold as many blocks alone."""
        holdings = [pin.holding for pin in self._expired()]
        return sum([holding.blocks for holding in holdings]) >= blocks and freed_by(holdings) >= blocks

    def _expired(self) -> list[Pin]:
        """The pins whose time is up. Deadlines that pins have no more are dropped as they come up."""
        now, deadlines = self._kernel.now, self._deadlines
        while deadlines and deadlines[0][0] <= now:
            until_ps, _, first = deadlines[0]
            if first in self._pins and first.until_ps == until_ps:
                return [pin for pin in self._pins if pin.until_ps <= now]
            heappop(deadlines)
        return []

    def reclaim(self, blocks: int, running: bool) -> bool:
        """Free `blocks` blocks by giving up pins, if they are enough for that; True if it was done.

        Expired pins first; soft ones too when a running request is short.
        """
        now, expired = self._kernel.now, self._expired()
        if not (expired or running):
            return False
        order = sorted([pin for pin in expired if not pin.loading], key=self._deadline)
        if running:
            soft = [pin for pin in self._pins if pin.until_ps > now and not (pin.hard or pin.loading)]
            order += sorted(soft, key=self._deadline, reverse=True)
        if not order:
            return False
        # A few are enough nearly always, and soon counted.
        few = 1
        while freed_by([pin.holding for pin in order[:few]]) < blocks:
            if few >= len(order):
                return False
            few *= 4
        enough = self._pool.free + blocks
        for pin in order:
            if self._pool.free >= enough:
                break
            self._break(pin, forced=pin.until_ps > now)
        return True

    def open_valve(self) -> bool:
        """Nothing can go on: break a pin. False if there is none."""
        ready = [pin for pin in self._pins if not pin.loading]
        if not ready:
            return False
        ready = [pin for pin in ready if not pin.hard] or ready
        ready = [pin for pin in ready if self._pins[pin].in_gap] or ready
        self._break(max(ready, key=self._deadline))
        return True

    def _break(self, pin: Pin, forced: bool = True) -> None:
        self.forced_unpins += forced
        chain = self._pins[pin]
        if chain.pin is pin:
            chain.pin = chain.seen = None
        self.release(pin)
        for tell in self.on_break:
            tell(chain)
        self._changed()

    def _deadline(self, pin: Pin) -> tuple[int, Session]:
        return pin.until_ps, self._pins[pin].session
