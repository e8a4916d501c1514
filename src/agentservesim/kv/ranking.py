"""What a tier evicts first, where a policy ranks it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

from agentservesim.kernel import Kernel
from agentservesim.kv.advice import Advice
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.kv.sessions import Chain
from agentservesim.model import Path
from agentservesim.policies.protocols import ChainView

if TYPE_CHECKING:
    from agentservesim.kv.residency import Residency

Choice = tuple[Holding, Hit]
"""What is to hold a part of a chain for the moment in which it is moved to the head, and that part."""


class Ranking:
    """Called when `pool` has evicted all that was chosen before: puts what is next at the head of its queue.

    What ended sessions left comes first, then the policy's order; if that is empty, the next extent is
    left to LRU. What a chain shares with one that is to stay longer stays as long. Chains are chosen
    whole, until their free blocks are as many as are needed, and go next whatever happens meanwhile, but
    for what is used again. The policy is asked once in a moment, however many requests take blocks in it.
    """

    def __init__(
        self, tier: str, pool: BlockPool, advice: Advice, sharers: Sequence[Residency], kernel: Kernel
    ) -> None:
        self._tier = tier
        self._kernel = kernel
        self._asked_ps = -1
        self._order: list[ChainView] = []
        self._pool = pool
        self._advice = advice
        self._sharers = sharers
        self._ended: deque[tuple[Path, int]] = deque()

    def ends(self, path: Path, blocks: int) -> None:
        """A session is over; it left the first `blocks` blocks of a path."""
        self._ended.append((path, blocks))

    def __call__(self, blocks: int) -> int:
        """`blocks` blocks with content are about to be evicted; returns how many were chosen."""
        if self._asked_ps != self._kernel.now:
            self._ask()
        gone: set[Chain] = set()
        chosen: list[Choice] = []
        order, ended = self._in_order(gone), self._ended
        chain = next(order, None)
        while chain is not None and ended and blocks > 0:
            free = self._choose(*ended[0], gone, chosen)
            if free <= blocks:
                ended.popleft()
            blocks -= free
        while chain is not None and blocks > 0:
            gone.add(chain)
            blocks -= self._choose(chain.path, chain.blocks, gone, chosen)
            chain = next(order, None)
        for holding, hit in reversed(chosen):
            self._pool.acquire(holding, hit)
            self._pool.release(holding, evict_first=True)
        return sum(hit.free for _, hit in chosen)

    def _ask(self) -> None:
        """Have the policy put the chains in order."""
        self._asked_ps = self._kernel.now
        gaps = self._advice.ranks_gaps
        views = [view for sharer in self._sharers for view in sharer.roll.views(gaps) if view.tokens]
        self._order = self._advice.rank(self._tier, views, self._sharers[0].server)

    def _in_order(self, gone: Set[Chain]) -> Iterator[Chain]:
        """The chains that the policy named and that have something to keep, but for those that are gone."""
        at = {sharer.index: sharer.chains for sharer in self._sharers}
        for view in self._order:
            chain = at.get(view.instance, {}).get((view.program_id, view.session_id))
            if chain is not None and chain.blocks and chain not in gone:
                yield chain

    def _choose(self, path: Path, end: int, gone: Set[Chain], chosen: list[Choice]) -> int:
        """Choose a chain's blocks behind what it shares with those that stay; returns how many are free."""
        shared = max([sharer.roll.shared_tokens(path, gone) for sharer in self._sharers])
        first = min(shared // self._pool.block_size, end)
        hit = self._pool.lookup(path, end, first)
        if hit.free:
            chosen.append((Holding(path, first, first, first), hit))
        return hit.free
