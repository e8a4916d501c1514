"""Nothing of a living program is evicted."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import ChainView, Placement, ServerView


@dataclass
class PinAlways:
    """Every program keeps its KV in HBM until it is back, whatever that costs the others.

    "Preserve" of InferCept (arXiv 2402.01869), by notes of others.
    """

    hard: bool = False

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """A pin without a deadline."""
        return Placement("hbm", hard=self.hard)
