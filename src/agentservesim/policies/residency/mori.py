"""MORI: programs are ranked by how idle they are; the idlest leave HBM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import above, at_least, share
from agentservesim.policies.protocols import CACHE, ChainView, Event, Placement, ServerView
from agentservesim.policies.residency.idleness import Idleness, Session, session_of


@dataclass
class Mori:
    """MORI: HBM over its cap loses the idlest sessions to the CPU; under it, the busiest come back.

    Source: arXiv 2606.00866, by notes of others only. tick_s: seconds between two looks. window: calls that
    idleness is measured over, the present one included. gpu_cap, cpu_cap: share of HBM and of the first lower
    tier that sessions may fill.
    """

    tick_s: float = 5.0
    window: int = 5
    gpu_cap: float = 1.0
    cpu_cap: float = 1.0

    def __post_init__(self) -> None:
        above(self, 0, "tick_s")
        at_least(self, 1, "window")
        share(self, "gpu_cap", "cpu_cap")
        self.idleness = Idleness(self.window)
        self._tiers: dict[Session, str] = {}

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """A session that has just run stays in HBM; `rank` says how long."""
        if not self.idleness.in_gap(session_of(chain)):
            self.idleness.begins(chain)
            self._tiers[session_of(chain)] = "gpu"
        return CACHE

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterator[tuple[ChainView, Placement]]:
        """Over the cap: demote the idlest. Under it: promote the busiest that fit."""
        order = sorted(chains, key=lambda c: -self.idleness.of(c, server.now_s))
        on_gpu = [c for c in order if self._tiers.get(session_of(c)) == "gpu"]
        on_cpu = [c for c in order if self._tiers.get(session_of(c)) == "cpu"]
        over = server.running_tokens + sum(c.tokens for c in on_gpu) - self.gpu_cap * server.pool_tokens
        cpu = server.tiers[0] if server.tiers else None
        room = self.cpu_cap * server.tier_free_tokens(cpu) - sum(c.tokens for c in on_cpu) if cpu else 0
        if over <= 0:
            on_gpu.clear()
            for chain in reversed(on_cpu):
                if chain.tokens <= -over:
                    over += chain.tokens
                    self._tiers[session_of(chain)] = "gpu"
                    yield chain, Placement("hbm")
        for chain in on_gpu:
            if over <= 0:
                break
            over -= chain.tokens
            fits = cpu is not None and chain.tokens <= room
            self._tiers[session_of(chain)] = "cpu" if fits else "inactive"
            room -= chain.tokens if fits else 0
            yield chain, Placement(cpu) if fits and cpu is not None else CACHE

    def observe(self, event: Event) -> None:
        """Keep the clocks."""
        self.idleness.observe(event)

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        """HBM loses inactive, idle, busy sessions, in this order; the CPU inactive, busy, idle ones."""
        left = ("inactive", "cpu") if tier == "hbm" else ("inactive",)
        gaps = sorted([c for c in chains if c.in_gap], key=lambda c: -self.idleness.of(c, server.now_s))
        inactive = [c for c in gaps if self._tiers.get(session_of(c)) in left]
        idle = [c for c in gaps if self._tiers.get(session_of(c)) not in left]
        busy = [c for c in chains if not c.in_gap]
        return inactive + (idle + busy if tier == "hbm" else busy + idle)
