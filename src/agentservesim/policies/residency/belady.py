"""Bélády's rule, which needs the future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from agentservesim.policies.protocols import CACHE, ChainView, OraclePolicy, Placement, ServerView


@dataclass
class Belady(OraclePolicy):
    """Oracle: evicts first what will be used last (Bélády 1966, at the grain of sessions).

    `copy_to` names a tier that gets a copy of everything, evicted by the same rule. What waits for
    something unknown counts as used never; what waits for admission, as used now.
    """

    copy_to: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def needs(self) -> tuple[str, ...]:
        """The tier that gets copies, if one is named."""
        return (self.copy_to,) if self.copy_to else ()

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Nothing is pinned."""
        return Placement(self.copy_to, copy=True) if self.copy_to else CACHE

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        """Furthest next use first."""
        return sorted(chains, key=self._next_use_s, reverse=True)

    def _next_use_s(self, chain: ChainView) -> float:
        return self.next_use_s.get((chain.program_id, chain.session_id), inf)
