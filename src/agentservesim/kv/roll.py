"""The sessions that have a chain on an instance, who of them is in a gap, and what they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Set
from itertools import count
from operator import attrgetter

from agentservesim.kv.sessions import Chain, Session
from agentservesim.model import Path, Segment
from agentservesim.policies.protocols import ChainView


class Roll:
    """The `chains` by session; `view` makes what a policy sees of one.

    With `shares` it is known which chains go through which segment, and how far.
    """

    def __init__(self, view: Callable[[Chain], ChainView], shares: bool) -> None:
        self.chains: dict[Session, Chain] = {}
        self._gaps: dict[Chain, None] = {}
        self._numbers = count()
        self._view = view
        self._shares = shares
        self._through: dict[Segment, dict[Chain, int]] = defaultdict(dict)

    def add(self, chain: Chain) -> None:
        """A session has a chain here."""
        if self.chains.get(chain.session) is not chain:
            self.chains[chain.session] = chain
            chain.number = next(self._numbers)
        if chain.in_gap:
            self._gaps[chain] = None
        self.follow(chain)

    def remove(self, session: Session) -> Chain | None:
        """It has none any more; returns the one it had."""
        chain = self.chains.pop(session, None)
        if chain is not None:
            self.gap_ends(chain)
            self._leave(chain)
        return chain

    def gap_starts(self, chain: Chain) -> None:
        """A chain's session is in its gap now."""
        chain.in_gap = True
        self._gaps[chain] = None
        self.follow(chain)

    def gap_ends(self, chain: Chain) -> None:
        """It is in none."""
        chain.in_gap, chain.seen = False, None
        self._gaps.pop(chain, None)

    def views(self, gaps: bool) -> list[ChainView]:
        """What a policy sees of all sessions, or of those in their gaps, in the order in which they came."""
        chains: Iterable[Chain] = self.chains.values()
        if gaps:
            chains = sorted(self._gaps, key=attrgetter("number"))
        return [chain.seen or self._view(chain) for chain in chains]

    # ---- what they share ----------------------------------------------------------------------

    def follow(self, chain: Chain) -> None:
        """A chain has another path; if it left no blocks, or is not here, it shares none."""
        chain.seen = None
        if self._shares and self.chains.get(chain.session) is chain:
            self._leave(chain)
            if chain.blocks:
                for segment, end in chain.path:
                    self._through[segment][chain] = end
                chain.followed = chain.path

    def _leave(self, chain: Chain) -> None:
        """A chain has no path any more."""
        for segment, _ in chain.followed:
            del self._through[segment][chain]
            if not self._through[segment]:
                del self._through[segment]
        chain.followed = ()

    def shared_tokens(self, path: Path, but: Set[Chain]) -> int:
        """The most leading tokens that a path shares with that of a chain, those in `but` left out."""
        shared = 0
        for segment, end in path:
            reach = 0
            for chain, stop in self._through.get(segment, {}).items():
                if stop > reach and chain not in but:
                    reach = stop
                    if reach >= end:
                        break
            if reach:
                shared = min(reach, end)
            if reach < end:
                break
        return shared
