"""vLLM: nothing is pinned."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView


@dataclass
class Lru:
    """vLLM: nothing is pinned; what is evicted is what was used least recently."""

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Leave it to the free queue."""
        return CACHE
