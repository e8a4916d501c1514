"""Between the scheduler and the KV Residency Model: requests on one side, sessions on the other."""

from __future__ import annotations

from collections.abc import Callable

from agentservesim.engine.request import Request
from agentservesim.kv.copies import NOWHERE, Sources
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.kv.residency import Residency
from agentservesim.model import to_s


class Memory:
    """What the scheduler asks of the tiers below HBM and of the pins above them."""

    def __init__(self, residency: Residency, pool: BlockPool, layers: int) -> None:
        self.residency = residency
        self.layerwise = residency.layerwise
        self._arrivals = residency.arrivals
        self._pool = pool
        self._layers = layers
        self._loading: dict[Request, None] = {}
        self._loaded: dict[Request, None] = {}
        self._cold_waits = 0
        self._cold_wait_ps = 0

    @property
    def loading(self) -> int:
        """Requests that wait for their KV to come up."""
        return len(self._loading)

    def holdings(self) -> list[Holding]:
        """What requests hold whose KV comes up, or has come up while they wait."""
        return [request.holding for request in (*self._loading, *self._loaded)]

    def loadable(self, request: Request, hit: Hit) -> tuple[int, Sources]:
        """Blocks behind a hit that the request should load, or wait for, and where they are below."""
        if request.holding.blocks or hit.dead_end is None:
            return 0, NOWHERE
        coming = self._arrivals.coming(request.session, request.known, hit)
        if coming or not self.residency.tiers:
            return coming, NOWHERE
        sources = self.residency.loadable(request.session, request.path, request.known, hit)
        return sources.blocks, sources

    def comes_up(self, request: Request) -> bool:
        """Whether the KV of the request's session is on its way up already, ahead of its turn."""
        return self._arrivals.comes_up(request.session)

    def join(self, request: Request, arrived: Callable[[Request, int], None]) -> None:
        """Wait for what is on its way up; `arrived(request, picoseconds)` follows."""
        self._loading[request] = None
        self._pool.release(request.holding)

        def done(took_ps: int) -> None:
            del self._loading[request]
            request.transfer_ps += took_ps
            arrived(request, took_ps)

        self._arrivals.join(request.session, done)

    def load(self, request: Request, sources: Sources, loaded: Callable[[Request, int], None]) -> None:
        """Bring up what is behind the request's hit; `loaded(request, picoseconds)` follows."""
        self._loading[request] = None

        def done(took_ps: int) -> None:
            del self._loading[request]
            self._loaded[request] = None
            request.transfer_ps += took_ps
            loaded(request, took_ps)

        self.residency.load(request.session, request.holding, sources, done)
        self._note(request, sources)

    def stream(self, request: Request, sources: Sources) -> tuple[int, int]:
        """Bring it up layer by layer under the request's own step, which may start now.

        Returns how long the load takes and how long its first layer, in picoseconds: the step
        lasts at least as long as the load, and the first layer hides under nothing.
        """
        takes_ps = self.residency.load(request.session, request.holding, sources, None)
        self._note(request, sources)
        return takes_ps, takes_ps // self._layers

    def _note(self, request: Request, sources: Sources) -> None:
        """Remember where a turn's KV came from when it was first admitted."""
        if request.scheduled_ps < 0:
            request.loaded_blocks = {tier.name: stop - first for tier, first, stop in sources.plan}

    def admitted(self, request: Request, wait_ps: int, hit_tokens: int) -> None:
        """The request holds its own blocks now."""
        self._loaded.pop(request, None)
        if hit_tokens * 2 < request.known and request.turn.index:
            self._cold_waits += 1
            self._cold_wait_ps += wait_ps
        self.residency.admitted(request.session, request.path, wait_ps, request.known, hit_tokens)

    @property
    def queue_delay_s(self) -> float:
        """Mean wait for admission of later turns that found less than half of their context."""
        return to_s(self._cold_wait_ps) / self._cold_waits if self._cold_waits else 0.0

    def may_reclaim(self, blocks: int) -> bool:
        """Whether a waiting request may have as many blocks freed for as long as only decode steps run."""
        return self.residency.pins.may_free(blocks)

    def reclaim(self, blocks: int, running: bool) -> bool:
        """Give up pins for a request that is short of blocks; True if that freed as many."""
        return blocks > 0 and self.residency.pins.reclaim(blocks, running)

    def open_valve(self, head: Request | None = None) -> bool:
        """Make room because nothing else can go on; True if that was possible.

        Pins are broken first; then requests that wait with loaded KV give it back to LRU, the one
        loaded last first, all but the `head` of the queue.
        """
        if self._loading or self.residency.copies.in_hbm:
            return False
        if self.residency.pins.open_valve():
            return True
        for request in reversed(self._loaded):
            if request is not head:
                del self._loaded[request]
                self._pool.release(request.holding)
                self._note(request, NOWHERE)
                return True
        return False

    def pinned(self, request: Request) -> bool:
        """Whether a pin holds the KV of the request's session."""
        chain = self.residency.chains.get(request.session)
        return chain is not None and chain.pin is not None
