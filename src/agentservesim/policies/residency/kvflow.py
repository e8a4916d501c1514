"""KVFlow: the workflow says which agent runs next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    PinBroken,
    Placement,
    ProgramEnded,
    ServerView,
)
from agentservesim.policies.residency.workflows import Workflows


@dataclass
class KvFlow:
    """KVFlow: evicts first what its workflow runs last, and brings up the KV of the agents that run next.

    Source: arXiv 2507.07400, by notes of others only. Turns carry the workflow as the hint `workflow` (see
    docs/policies/kvflow.md). Where no turn does, this is LRU with write-back. What HBM evicts is kept in the
    tier `host`. tick_s: how often to look for something to prefetch. ahead: steps to execution from which to
    prefetch. budget_tokens: how many may be on their way up at once; 0 is as many as HBM has room for.
    """

    host: str = "dram"
    tick_s: float = 1.0
    ahead: int = 1
    budget_tokens: int = 0
    wants: ClassVar[Mapping[str, str]] = {"workflow": "this is LRU with write-back"}

    def __post_init__(self) -> None:
        above(self, 0, "tick_s")
        at_least(self, 0, "ahead", "budget_tokens")
        self.spill = {"hbm": self.host}
        self._workflows = Workflows()

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Learn the workflow; leave the KV in HBM, where `rank` decides."""
        self._workflows.stops(chain.program_id, chain.session_id, chain.hints.get("workflow"))
        return CACHE

    def observe(self, event: Event) -> None:
        """Keep track of who runs."""
        if isinstance(event, ProgramEnded):
            self._workflows.ends(event.program_id)
        elif not isinstance(event, PinBroken):
            runs = event.chain if isinstance(event, GapEnded) else event
            self._workflows.runs(runs.program_id, runs.session_id)

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterator[tuple[ChainView, Placement]]:
        """Bring up what will run next and is further down, what is nearest first, within the budget."""
        if not self._workflows:
            return
        steps = self._workflows.steps(chain.program_id for chain in chains)
        near = [(steps.get((c.program_id, c.session_id), math.inf), c) for c in chains]
        left = self.budget_tokens - server.prefetching_tokens if self.budget_tokens else math.inf
        for count, chain in sorted(near, key=lambda pair: pair[0]):
            if count > self.ahead or left <= 0:
                return
            below = max((chain.kept_tokens[tier] for tier in server.tiers), default=0)
            tokens = min(below - chain.kept_tokens["hbm"], left)
            if tokens > 0:
                left -= tokens
                yield chain, Placement("hbm", budget_tokens=int(tokens) if self.budget_tokens else None)

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        """Most steps to execution first; LRU where no program has a workflow."""
        if not self._workflows:
            return []
        steps = self._workflows.steps(chain.program_id for chain in chains)

        def order(chain: ChainView) -> tuple[float, float]:
            return -steps.get((chain.program_id, chain.session_id), math.inf), chain.gap_started_s

        return sorted(chains, key=order)
