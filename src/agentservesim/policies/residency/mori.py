"""MORI: programs are ranked by how idle they are; the idlest leave HBM."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    Placement,
    ServerView,
    TurnAdmitted,
)

Session = tuple[str, str]


@dataclass
class Mori:
    """MORI: HBM over its cap loses the idlest sessions to the CPU; under it, the busiest come back.

    tick_s: seconds between two looks. window: calls that idleness is measured over, the present one
    included. gpu_cap, cpu_cap: share of HBM and of the first lower tier that sessions may fill.
    """

    tick_s: float = 5.0
    window: int = 5
    gpu_cap: float = 1.0
    cpu_cap: float = 1.0

    def __post_init__(self) -> None:
        self._calls: dict[Session, deque[tuple[float, float]]] = {}
        self._ready_s: dict[Session, float] = {}
        self._waits_s: dict[Session, float] = {}
        self._busy_s: dict[Session, float] = {}
        self._tiers: dict[Session, str] = {}

    def idleness(self, chain: ChainView, now_s: float) -> float:
        """Time in tools over time in tools and in the engine, over the last calls; waiting is neither."""
        session = _key(chain)
        calls = list(self._calls.get(session, ()))
        if session in self._busy_s:
            calls.append((now_s - chain.gap_started_s, self._busy_s[session]))
        acting = sum(gap for gap, _ in calls[-self.window :])
        total = acting + sum(busy for _, busy in calls[-self.window :])
        return acting / total if total else 0.0

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """A session that has just run stays in HBM; `rank` says how long."""
        session = _key(chain)
        if session not in self._busy_s:
            ready_s = self._ready_s.pop(session, chain.arrival_s)
            self._busy_s[session] = max(chain.gap_started_s - ready_s - self._waits_s.pop(session, 0.0), 0.0)
            self._tiers[session] = "gpu"
        return CACHE

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterator[tuple[ChainView, Placement]]:
        """Over the cap: demote the idlest. Under it: promote the busiest that fit."""
        order = sorted(chains, key=lambda c: -self.idleness(c, server.now_s))
        on_gpu = [c for c in order if self._tiers.get(_key(c)) == "gpu"]
        on_cpu = [c for c in order if self._tiers.get(_key(c)) == "cpu"]
        over = server.running_tokens + sum(c.tokens for c in on_gpu) - self.gpu_cap * server.pool_tokens
        cpu = server.tiers[0] if server.tiers else None
        room = self.cpu_cap * server.tier_free_tokens(cpu) - sum(c.tokens for c in on_cpu) if cpu else 0
        if over > 0:
            for chain in on_gpu:
                if over <= 0:
                    break
                over -= chain.tokens
                fits = cpu is not None and chain.tokens <= room
                self._tiers[_key(chain)] = "cpu" if fits else "inactive"
                room -= chain.tokens if fits else 0
                yield chain, Placement(cpu) if fits and cpu is not None else CACHE
            return
        for chain in reversed(on_cpu):
            if chain.tokens <= -over:
                over += chain.tokens
                self._tiers[_key(chain)] = "gpu"
                yield chain, Placement("hbm")

    def observe(self, event: Event) -> None:
        """Keep the clocks: a session reasons from the end of its gap on, less what it waits."""
        if isinstance(event, GapEnded):
            session = _key(event.chain)
            calls = self._calls.setdefault(session, deque(maxlen=self.window))
            calls.append((event.gap_s, self._busy_s.pop(session, 0.0)))
            self._ready_s[session] = event.chain.gap_started_s + event.gap_s
        elif isinstance(event, TurnAdmitted):
            session = event.program_id, event.session_id
            self._waits_s[session] = self._waits_s.get(session, 0.0) + event.wait_s

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        """HBM loses inactive, idle, busy sessions, in this order; the CPU inactive, busy, idle ones."""
        idle_class, busy_class = (1, 2) if tier == "hbm" else (2, 1)

        def order(chain: ChainView) -> tuple[int, float]:
            session = _key(chain)
            if session not in self._busy_s:
                return busy_class, 0.0
            inactive = self._tiers[session] == "inactive" or (tier == "hbm" and self._tiers[session] == "cpu")
            return 0 if inactive else idle_class, -self.idleness(chain, server.now_s)

        return sorted(chains, key=order)


def _key(chain: ChainView) -> Session:
    return chain.program_id, chain.session_id
