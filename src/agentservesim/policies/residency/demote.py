"""Every gap moves the KV down."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import ChainView, Placement, ServerView


@dataclass
class Demote:
    """Every gap moves the program's KV to a lower tier; it is loaded when the program is back.

    "Swap" of InferCept (arXiv 2402.01869), by notes of others.
    """

    tier: str = "dram"
    copy: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The tier that KV is moved to."""
        return (self.tier,)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Copy it down; with `copy`, HBM keeps its own for LRU (write-through)."""
        return Placement(self.tier, copy=self.copy)
