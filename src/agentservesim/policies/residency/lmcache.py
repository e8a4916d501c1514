"""LMCache: the same KV in every store, the fastest one answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    Placement,
    ServerView,
)


@dataclass
class LmCache:
    """LMCache: each turn's KV goes to all tiers, CPU, then disk, then remote; the first that has it serves.

    Each tier evicts in LRU order by itself. Loads are in whole chunks of `chunk` tokens.
    """

    chunk: int = 256

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it must be at least 1 token")
        self._next: dict[tuple[str, str], int] = {}

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Copy to the first tier; asked again when it is there, to the next one."""
        session = chain.program_id, chain.session_id
        number = self._next.get(session, 0)
        if number >= len(server.tiers):
            return CACHE
        self._next[session] = number + 1
        tier = server.tiers[number]
        if number + 1 == len(server.tiers):
            return Placement(tier, copy=True)
        missing = chain.kept_tokens["hbm"] - chain.kept_tokens[tier]
        return Placement(tier, server.now_s + server.demote_s(tier, max(missing, 0)), copy=True)

    def observe(self, event: Event) -> None:
        """A session is back: its next gap begins with the first tier again."""
        if isinstance(event, GapEnded):
            self._next.pop((event.chain.program_id, event.chain.session_id), None)

    def resume(self, chain: ChainView, hits: Mapping[str, int], server: ServerView) -> int:
        """Load whatever is found, in whole chunks, be it quicker than computing or not."""
        return max(0, max(hits.values()) // self.chunk * self.chunk - hits["hbm"])
