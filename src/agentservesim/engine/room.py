"""Whether a waiting request fits beside those that run: what it finds in HBM, and the blocks it needs."""

from __future__ import annotations

from collections.abc import Sequence

from agentservesim.engine.config import EngineConfig, rules_of
from agentservesim.engine.request import Request
from agentservesim.kv.pool import NO_HIT, BlockPool, Hit


class Room:
    """The free blocks of a pool, for requests that want to start beside the `running` ones.

    `to_come` are the blocks that these still need for their prompts. Where whole prompts are reserved, and
    `rationed`, they are kept free. vLLM does not: its prompts are short of blocks one step at most, but those
    that a policy rations take many steps, and would preempt one another all the time.
    """

    def __init__(
        self, config: EngineConfig, pool: BlockPool, running: Sequence[Request], *, rationed: bool
    ) -> None:
        rules = rules_of(config)
        self.reserve_full = rules.reserve_full
        self._chunked = config.enable_chunked_prefill
        self._size = config.block_size
        self._pool = pool
        self._running = running
        self._watermark = int(config.watermark * pool.num_blocks) if rules.watermark else 0
        self._promises = rationed and rules.reserve_full
        self.to_come = 0

    def hit(self, request: Request) -> Hit:
        """What a waiting request finds in HBM, beyond the blocks that were loaded for it."""
        if request.holding.blocks:
            return NO_HIT
        return self._pool.lookup(request.path, (request.known - 1) // self._size)

    def cached_tokens(self, request: Request) -> int:
        """Tokens that a waiting request has or finds in HBM: asked for often, so answers are kept."""
        if request.holding.blocks:
            return request.holding.blocks * self._size
        pool = self._pool
        blocks = pool.answers.get(request)
        if blocks is None:
            hit = self.hit(request)
            blocks = hit.blocks
            passed = [segment for segment, _ in request.path]
            if hit.dead_end is not None:
                del passed[passed.index(hit.dead_end) + 1 :]
            if not any(map(pool.is_being_written, passed)):
                pool.answers.keep(request, blocks, passed)
        return blocks * self._size

    def forget(self, request: Request) -> None:
        """A request waits no more."""
        self._pool.answers.forget(request)

    def missing(self, request: Request, hit: Hit) -> int:
        """Blocks by which the pool is too small for all of a waiting request."""
        have = hit.blocks + request.holding.blocks
        return -(-request.known // self._size) - have + hit.free + self._kept - self._pool.free

    def admissible(self, request: Request, hit: Hit, load: int, budget: int, cap: int) -> int:
        """Tokens that a waiting request may compute in its first step; 0 if it must wait on.

        `load` blocks behind the hit would be loaded first.
        """
        have = hit.blocks + request.holding.blocks
        start = (have + load) * self._size
        new = request.known - start
        if 0 < cap < new:
            new = cap
        if new > budget:
            if not self._chunked:
                return 0
            new = budget
        return new if self._fits(request, hit, start + new) else 0

    def may_fit(self, request: Request, hit: Hit, budget: int, cap: int) -> bool:
        """Whether a waiting request could be admitted if it loaded as much or as little as would help."""
        start = (hit.blocks + request.holding.blocks) * self._size
        return self._fits(request, hit, min(request.known, start + min(budget, cap or budget)))

    def _fits(self, request: Request, hit: Hit, tokens: int) -> bool:
        """Whether there are blocks for the first `tokens` of a request, and for all if that is the rule."""
        have = hit.blocks + request.holding.blocks
        room = self._pool.free - hit.free + have - self._kept
        return -(-(request.known if self.reserve_full else tokens) // self._size) <= room

    @property
    def _kept(self) -> int:
        """Blocks that are kept free while others run."""
        return (self.to_come if self._promises else 0) + self._watermark if self._running else 0
