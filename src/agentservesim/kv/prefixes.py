"""What the sessions of an instance share with one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set

from agentservesim.kv.sessions import Chain
from agentservesim.model import Path, Segment


class Prefixes:
    """Which chains go through which segment, and how far, as of the last `follow`."""

    def __init__(self) -> None:
        self._through: dict[Segment, dict[Chain, int]] = defaultdict(dict)

    def follow(self, chains: Iterable[Chain]) -> None:
        """These are all chains; those that left no blocks share none."""
        for chain in [chain for chain in chains if chain.path is not chain.followed]:
            self.leave(chain)
            if chain.blocks:
                for segment, end in chain.path:
                    self._through[segment][chain] = end
                chain.followed = chain.path

    def leave(self, chain: Chain) -> None:
        """A chain has another path now, or none any more."""
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
