"""Stateless serving."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import ChainView, Placement, ServerView


@dataclass
class Drop:
    """Every gap frees the program's KV: stateless serving, the next turn computes its context again.

    "Discard" of InferCept (arXiv 2402.01869), by notes of others.
    """

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Evict it before all else."""
        return Placement("drop")
