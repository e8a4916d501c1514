"""What a tier evicts first, where a policy ranks it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentservesim.kernel import Kernel
from agentservesim.kv.advice import Advice
from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.kv.sessions import Chain
from agentservesim.model import Path, shared_tokens

if TYPE_CHECKING:
    from agentservesim.kv.residency import Residency


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
        self._order: list[Chain] = []
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
        present = {
            chain: None for sharer in self._sharers for chain in sharer.chains.values() if chain.blocks
        }
        ranked = [chain for chain in self._order if chain in present]
        later = list(dict.fromkeys([*ranked, *present]))
        chosen: list[tuple[Path, int, int]] = []
        ended = self._ended
        while ranked and ended and blocks > 0:
            free = self._choose(*ended[0], later, chosen)
            if free <= blocks:
                ended.popleft()
            blocks -= free
        for number, chain in enumerate(ranked):
            if blocks <= 0:
                break
            blocks -= self._choose(chain.path, chain.blocks, later[number + 1 :], chosen)
        total = 0
        for path, first, end in reversed(chosen):
            holding, hit = Holding(path, first, first, first), self._pool.lookup(path, end, first)
            total += hit.free
            self._pool.acquire(holding, hit)
            self._pool.release(holding, evict_first=True)
        return total

    def _ask(self) -> None:
        """Have the policy put the chains in order."""
        self._asked_ps = self._kernel.now
        views, chains = [], {}
        for sharer in self._sharers:
            for chain in sharer.chains.values():
                if chain.blocks:
                    views.append(sharer.view(chain))
                    chains[sharer.index, *chain.session] = chain
        order = self._advice.rank(self._tier, views, self._sharers[0].server)
        named = (chains.pop((view.instance, view.program_id, view.session_id), None) for view in order)
        self._order = [chain for chain in named if chain is not None]

    def _choose(
        self, path: Path, end: int, later: Sequence[Chain], chosen: list[tuple[Path, int, int]]
    ) -> int:
        """Choose a chain's blocks behind what it shares with later ones; returns how many are free."""
        shared = max((shared_tokens(path, chain.path) for chain in later), default=0)
        first = min(shared // self._pool.block_size, end)
        free = self._pool.lookup(path, end, first).free
        if free:
            chosen.append((path, first, end))
        return free
