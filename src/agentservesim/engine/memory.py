"""Between the scheduler and the KV Residency Model: requests on one side, sessions on the other."""

from __future__ import annotations

from collections.abc import Callable

from agentservesim.engine.request import Request
from agentservesim.kv.pool import Hit
from agentservesim.kv.residency import Residency
from agentservesim.model import to_s


class Memory:
    """What the scheduler asks of the tiers below HBM and of the pins above them.

    `loading` counts the requests that wait for their KV to come up.
    """

    def __init__(self, residency: Residency, layers: int) -> None:
        self.residency = residency
        self.loading = 0
        self.layerwise = residency.layerwise
        self._layers = layers
        self._cold_waits = 0
        self._cold_wait_ps = 0

    def loadable(self, request: Request, hit: Hit) -> int:
        """Blocks behind a hit that the request should load; 0 where nothing below has them."""
        if not self.residency.tiers or request.holding.blocks:
            return 0
        return self.residency.loadable(request.session, request.path, request.known, hit)

    def load(self, request: Request, blocks: int, loaded: Callable[[Request, int], None]) -> None:
        """Bring up blocks behind the request's hit; `loaded(request, picoseconds)` follows."""
        self.loading += 1

        def done(took_ps: int) -> None:
            self.loading -= 1
            request.transfer_ps += took_ps
            loaded(request, took_ps)

        self._note(request, self.residency.load(request.session, request.holding, blocks, done))

    def stream(self, request: Request, blocks: int) -> tuple[int, int]:
        """Bring up blocks layer by layer under the request's own step, which may start now.

        Returns how long the load takes and how long its first layer, in picoseconds: the step
        lasts at least as long as the load, and the first layer hides under nothing.
        """
        took_ps = self.residency.load_ps(request.holding, blocks)
        self._note(request, self.residency.load(request.session, request.holding, blocks, None))
        return took_ps, took_ps // self._layers

    def _note(self, request: Request, sources: list[tuple[str, int]]) -> None:
        for tier, blocks in sources:
            request.loaded_blocks[tier] = request.loaded_blocks.get(tier, 0) + blocks

    def admitted(self, request: Request, wait_ps: int, hit_tokens: int) -> None:
        """The request holds its own blocks now."""
        if hit_tokens * 2 < request.known and request.turn.index:
            self._cold_waits += 1
            self._cold_wait_ps += wait_ps
        self.residency.admitted(request.session, wait_ps, request.known, hit_tokens)

    @property
    def queue_delay_s(self) -> float:
        """Mean wait for admission of later turns that found less than half of their context."""
        return to_s(self._cold_wait_ps) / self._cold_waits if self._cold_waits else 0.0

    def reclaim(self, blocks: int, running: bool) -> bool:
        """Give up pins for a request that is short of blocks; True if that freed any."""
        return blocks > 0 and self.residency.reclaim(blocks, running)

    def open_valve(self) -> bool:
        """Break a pin because nothing else can go on; True if one was broken."""
        return self.loading == 0 and self.residency.open_valve()
