"""LMCache: the same KV in every store, the fastest one answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView


@dataclass
class LmCache:
    """LMCache: each turn's KV goes to all tiers, CPU, then disk, then remote; the first that has it serves.

    Each tier evicts in LRU order by itself. Loads are in whole chunks of `chunk` tokens.
    """

    chunk: int = 256

    def __post_init__(self) -> None:
        at_least(self, 1, "chunk")

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Copy to the first tier, then to the next ones."""
        return Placement(server.tiers[0], copy=True, then=server.tiers[1:]) if server.tiers else CACHE

    def resume(self, chain: ChainView, hits: Mapping[str, int], server: ServerView) -> int:
        """Load whatever is found, in whole chunks, be it quicker than computing or not."""
        return max(0, max(hits.values()) // self.chunk * self.chunk - hits["hbm"])
