"""What a tier evicts first, where a policy ranks it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentservesim.kernel import Kernel
from agentservesim.kv.advice import Advice
from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.kv.sessions import Chain
from agentservesim.model import Path, Segment

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
        self._paths: dict[Chain, Path] = {}
        self._holders: dict[Segment, dict[Chain, int]] = defaultdict(dict)

    def ends(self, path: Path, blocks: int) -> None:
        """A session is over; it left the first `blocks` blocks of a path."""
        self._ended.append((path, blocks))

    def __call__(self, blocks: int) -> int:
        """`blocks` blocks with content are about to be evicted; returns how many were chosen."""
        if self._asked_ps != self._kernel.now:
            self._ask()
        later = self._present()
        ranked = [chain for chain in self._order if chain in later]
        chosen: list[tuple[Path, int, int]] = []
        ended = self._ended
        while ranked and ended and blocks > 0:
            free = self._choose(*ended[0], later, chosen)
            if free <= blocks:
                ended.popleft()
            blocks -= free
        for chain in ranked:
            if blocks <= 0:
                break
            later.discard(chain)
            blocks -= self._choose(chain.path, chain.blocks, later, chosen)
        total = 0
        for path, first, end in reversed(chosen):
            holding, hit = Holding(path, first, first, first), self._pool.lookup(path, end, first)
            total += hit.free
            self._pool.acquire(holding, hit)
            self._pool.release(holding, evict_first=True)
        return total

    def _present(self) -> set[Chain]:
        """The chains that have something to keep; who goes through which segment is brought up to date."""
        paths = self._paths
        present = [chain for sharer in self._sharers for chain in sharer.chains.values() if chain.blocks]
        for chain in present:
            if chain not in paths or paths[chain] is not chain.path:
                self._follow(chain, chain.path)
        there = set(present)
        if len(paths) > len(there):
            for chain in [chain for chain in paths if chain not in there]:
                self._follow(chain, ())
        return there

    def _follow(self, chain: Chain, path: Path) -> None:
        """A chain has another path, or none any more."""
        for segment, _ in self._paths.pop(chain, ()):
            del self._holders[segment][chain]
            if not self._holders[segment]:
                del self._holders[segment]
        for segment, end in path:
            self._holders[segment][chain] = end
        if path:
            self._paths[chain] = path

    def _ask(self) -> None:
        """Have the policy put the chains in order."""
        self._asked_ps = self._kernel.now
        views = [
            sharer.view(chain) for sharer in self._sharers for chain in sharer.chains.values() if chain.blocks
        ]
        order = self._advice.rank(self._tier, views, self._sharers[0].server)
        at = {sharer.index: sharer.chains for sharer in self._sharers}
        named = [at.get(view.instance, {}).get((view.program_id, view.session_id)) for view in order]
        self._order = list(dict.fromkeys(chain for chain in named if chain is not None and chain.blocks))

    def _choose(self, path: Path, end: int, later: set[Chain], chosen: list[tuple[Path, int, int]]) -> int:
        """Choose a chain's blocks behind what it shares with later ones; returns how many are free."""
        first = min(self._shared_tokens(path, later) // self._pool.block_size, end)
        free = self._pool.lookup(path, end, first).free
        if free:
            chosen.append((path, first, end))
        return free

    def _shared_tokens(self, path: Path, others: set[Chain]) -> int:
        """The most leading tokens that a path shares with the path of another chain."""
        shared = 0
        for segment, end in path:
            reach = 0
            for chain, stop in self._holders.get(segment, {}).items():
                if stop > reach and chain in others:
                    reach = stop
                    if reach >= end:
                        break
            if reach:
                shared = min(reach, end)
            if reach < end:
                break
        return shared
