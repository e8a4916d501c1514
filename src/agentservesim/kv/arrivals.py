"""KV on its way to the HBM of one instance ahead of its turn, from the tiers below or from another instance.

A pin holds its place from the start (see `kv.pins`). Turns that come meanwhile wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agentservesim.kernel import Kernel
from agentservesim.kv.copies import Copies
from agentservesim.kv.links import Network
from agentservesim.kv.pins import Pins
from agentservesim.kv.pool import BlockPool, Hit
from agentservesim.kv.sessions import FOREVER, Chain, Pin, Session


class Arrivals:
    """Has KV brought to `pool`, the HBM of an instance, and tells those who wait for it.

    `chains` are those of the sessions there. At most `most_prefetching` blocks are on their way up ahead of
    turns at once; `prefetching` are now. `ask(chain)` is called when the KV of a session that is still in its
    gap has arrived.
    """

    def __init__(
        self,
        kernel: Kernel,
        pool: BlockPool,
        chains: Mapping[Session, Chain],
        pins: Pins,
        copies: Copies,
        most_prefetching: float,
        ask: Callable[[Chain], None],
    ) -> None:
        self.prefetching = 0
        self._most_prefetching = most_prefetching
        self._kernel = kernel
        self._pool = pool
        self._chains = chains
        self._pins = pins
        self._copies = copies
        self._ask = ask

    # ---- setting out --------------------------------------------------------------------------

    def promote(self, chain: Chain, hit: Hit, budget_tokens: int | None) -> bool:
        """Bring a waiting session's KV up to HBM ahead of its turn, as far as room and budgets go.

        `hit` is what HBM has of it. The policy is asked about the pin that it becomes when the KV is there.
        False if nothing can be brought up.
        """
        room = min(self._pool.free - hit.free, self._most_prefetching - self.prefetching)
        if budget_tokens is not None:
            room = min(room, -(-budget_tokens // self._pool.block_size))
        if room <= 0 or hit.blocks >= chain.blocks:
            return False
        path = chain.path
        sources = self._copies.sources(path, hit, chain.blocks).until(path, hit.blocks + int(room))
        if not sources.plan:
            return False
        if chain.pin is not None:
            self._pins.unpin(chain)
            hit = self._pool.lookup(path, chain.blocks)
        pin, arrived = self._expect(chain, hit, sources.plan[-1][2])
        blocks = sources.blocks
        self.prefetching += blocks

        def prefetched(took_ps: int) -> None:
            self.prefetching -= blocks
            arrived(took_ps)

        self._copies.up(chain.session, pin.holding, sources, prefetched)
        return True

    def bring(self, chain: Chain, source: Copies, there: Hit, network: Network, keep: bool) -> bool:
        """Have what another instance's HBM has of a chain, `there`, sent here, as far as there is room.

        False if there is nothing to send.
        """
        here = self._pool.lookup(chain.path, chain.blocks)
        end = min(there.blocks, here.blocks + self._pool.free - here.free)
        if end <= here.blocks:
            return False
        pin, arrived = self._expect(chain, here, end)
        pin.remote = True
        self._copies.across(chain.session, pin.holding, end, source, there, network, keep, arrived)
        return True

    def _expect(self, chain: Chain, hit: Hit, end: int) -> tuple[Pin, Callable[[int], None]]:
        """Pin a hit and, behind it, the blocks up to `end` that are on their way; what is returned is to be
        called when they are there."""
        pin = chain.pin = chain.coming_up = self._pins.hold(chain, hit, FOREVER, False)
        pin.loading = True

        def arrived(_: int) -> None:
            pin.loading = False
            waiting, pin.waiting = pin.waiting, []
            pin.claimed += end - hit.blocks
            self._pool.pinned += end - hit.blocks
            if chain.coming_up is pin:
                chain.coming_up = None
            if chain.pin is not pin:
                self._pins.release(pin)
            elif chain.in_gap:
                self._ask(chain)
            for since_ps, done in waiting:
                done(self._kernel.now - since_ps)

        return pin, arrived

    # ---- turns that wait for it ---------------------------------------------------------------

    def comes_up(self, session: Session) -> bool:
        """Whether the session's KV is on its way, ahead of its turn."""
        chain = self._chains.get(session)
        return chain is not None and chain.coming_up is not None

    def coming(self, session: Session, known: int, hit: Hit) -> int:
        """Blocks of a turn's `known` tokens, behind a hit, that are on their way from another instance."""
        chain = self._chains.get(session)
        pin = chain.coming_up if chain is not None else None
        if pin is None or not pin.remote:
            return 0
        return max(min(pin.holding.blocks, (known - 1) // self._pool.block_size) - hit.blocks, 0)

    def join(self, session: Session, done: Callable[[int], None]) -> None:
        """Wait for what is on its way; `done(picoseconds waited)` when it is there."""
        pin = self._chains[session].coming_up
        assert pin is not None
        pin.waiting.append((self._kernel.now, done))
