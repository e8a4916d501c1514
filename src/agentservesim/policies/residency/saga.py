"""SAGA: pins for as long as the tool usually takes, eviction by a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.bounds import above, at_least, share
from agentservesim.policies.protocols import CACHE, ChainView, Event, GapEnded, Placement, ServerView
from agentservesim.policies.residency.gaps import LogNormals
from agentservesim.policies.residency.survival import Survival


@dataclass
class Saga:
    """SAGA: a gap's KV is pinned for the 95th percentile of its tool's gaps; others go by a score.

    Source: arXiv 2605.00528, of which only the abstract was read, and the rules of the released
    AgentServeSim. cold_s: the pin where the tool is new. cap_s: the longest pin. smoothing: weight of a new
    gap. recency, reuse, size: weights of the score (highest is evicted first).
    """

    cold_s: float = 2.0
    cap_s: float = 300.0
    smoothing: float = 0.2
    recency: float = 0.3
    reuse: float = 0.5
    size: float = 0.2
    wants: ClassVar[Mapping[str, str]] = {"tools": "all gaps are of one kind"}
    ranks_gaps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(self, 0, "cold_s", "recency", "reuse", "size")
        above(self, 0, "cap_s")
        share(self, "smoothing")
        self._gaps = LogNormals(self.smoothing)
        self.survival = Survival()

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Pin for the tool's 95th percentile, down to half of it as HBM fills from 70 to 90 %."""
        use = 1 - server.free_tokens / server.pool_tokens
        pressure = min(max((use - 0.7) / 0.2, 0.0), 1.0)
        until_s = chain.gap_started_s + self.ttl_s(chain.tools) * (1 - 0.5 * pressure)
        return Placement("hbm", until_s) if until_s > server.now_s else CACHE

    def ttl_s(self, tools: Sequence[str]) -> float:
        """The 95th percentile of these tools' gaps, as a log-normal."""
        p95_s = self._gaps.p95_s(tools, self.cap_s)
        return min(self.cold_s, self.cap_s) if p95_s is None else p95_s

    def observe(self, event: Event) -> None:
        """Learn gaps of tools, and after how many turns sessions end."""
        self.survival.observe(event)
        if isinstance(event, GapEnded):
            self._gaps.add(event.chain.tools, event.gap_s)

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        """Highest score first."""
        now_s = server.now_s
        ages = [now_s - c.gap_started_s for c in chains]
        sizes = [c.kept_tokens[tier] for c in chains]
        oldest, largest = max(ages, default=0.0) or 1.0, max(sizes, default=0) or 1
        scores = [
            self.recency * age / oldest
            + self.reuse * (1 - self.survival.after(c.turns_done))
            + self.size * size / largest
            for c, age, size in zip(chains, ages, sizes, strict=True)
        ]
        return [chains[i] for i in sorted(range(len(chains)), key=lambda i: -scores[i])]
