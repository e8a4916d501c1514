"""The plainest residency policies: what servers do that know nothing of programs."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView


@dataclass
class Lru:
    """vLLM: nothing is pinned; what is evicted is what was used least recently."""

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Leave it to the free queue."""
        return CACHE


@dataclass
class Drop:
    """Every gap frees the program's KV: stateless serving, the next turn computes its context again."""

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Evict it before all else."""
        return Placement("drop")


@dataclass
class PinAlways:
    """Every program keeps its KV in HBM until it is back, whatever that costs the others."""

    hard: bool = False

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """A pin without a deadline."""
        return Placement("hbm", hard=self.hard)


@dataclass
class Ttl:
    """A gap's KV is pinned for a fixed time, then left to LRU (a static time to live)."""

    ttl_s: float = 2.0

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Pin until `ttl_s` after the gap began."""
        until_s = chain.gap_started_s + self.ttl_s
        return Placement("hbm", until_s) if until_s > server.now_s else CACHE


@dataclass
class Demote:
    """Every gap moves the program's KV to a lower tier; it is loaded when the program is back."""

    tier: str = "dram"
    copy: bool = False

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Copy it down; with `copy`, HBM keeps its own for LRU (write-through)."""
        return Placement(self.tier, copy=self.copy)
