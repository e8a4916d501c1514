"""A static time to live."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView


@dataclass
class Ttl:
    """A gap's KV is pinned for a fixed time, then left to LRU (a static time to live)."""

    ttl_s: float = 2.0

    def __post_init__(self) -> None:
        at_least(self, 0, "ttl_s")

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Pin until `ttl_s` after the gap began."""
        until_s = chain.gap_started_s + self.ttl_s
        return Placement("hbm", until_s) if until_s > server.now_s else CACHE
