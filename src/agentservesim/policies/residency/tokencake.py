"""TokenCake: KV leaves HBM for the predicted length of a call, and is back before it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.bounds import above, ascending, share
from agentservesim.policies.protocols import ChainView, Event, GapEnded, Placement, ServerView

HELD = Placement("hbm")


@dataclass
class TokenCake:
    """TokenCake: offloads the KV of a call that is predicted to outlast the transfer, and uploads it in time.

    Source: arXiv 2510.18586, by notes of others only. smoothing: weight of a new gap in the mean of its tool.
    min_use: share of HBM in use from which offloading is worth it. tick_s: how often calls that still hold
    HBM are looked at again. reserve: the least share of HBM that is kept for who waits; `reserve_step` more
    at each tick while more than `high_use` of HBM is in use, and less under `low_use`, up to `most_reserve`.
    """

    smoothing: float = 0.5
    min_use: float = 0.6
    tick_s: float = 1.0
    reserve: float = 0.05
    reserve_step: float = 0.05
    most_reserve: float = 0.3
    high_use: float = 0.75
    low_use: float = 0.4
    wants: ClassVar[Mapping[str, str]] = {
        "gap_s": "the mean of the tool's gaps decides",
        "tools": "all gaps are of one kind",
    }

    def __post_init__(self) -> None:
        above(self, 0, "tick_s")
        share(self, "smoothing", "min_use", "reserve", "reserve_step", "most_reserve", "high_use", "low_use")
        ascending(self, "reserve", "most_reserve")
        ascending(self, "low_use", "high_use")
        self._means: dict[frozenset[str], float] = {}
        self._below: dict[tuple[str, str], tuple[int, int]] = {}
        self._reserves: dict[int, float] = {}

    def predict(self, chain: ChainView) -> float | None:
        """Half the client's hint `gap_s` and half the mean of the tool's gaps, or whichever there is."""
        hint, mean = chain.hints.get("gap_s"), self._means.get(frozenset(chain.tools))
        known = [float(value) for value in (hint, mean) if isinstance(value, (int, float))]
        return sum(known) / len(known) if known else None

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Hold it in HBM, unless it pays to offload it; asked again when it is due, upload a part of it."""
        session = chain.program_id, chain.session_id
        if session not in self._below:
            return self._offload(chain, server) or HELD
        kept = chain.kept_tokens
        deficit = kept[server.tiers[0]] - kept["hbm"]
        if deficit > 0:
            tokens = min(self.budget_tokens(server), -(-deficit // 2))
            return Placement("hbm", server.now_s + self.tick_s, budget_tokens=tokens)
        del self._below[session]
        return HELD

    def budget_tokens(self, server: ServerView) -> int:
        """What may be uploaded now: what is free, but for what waits and does not fit the reserve."""
        free = server.free_tokens
        reserved_free = min(self._reserves.get(server.index, self.reserve) * server.pool_tokens, free)
        return max(0, int(free - max(0.0, server.waiting_tokens - reserved_free)))

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterator[tuple[ChainView, Placement]]:
        """Look again at the calls that hold HBM: the queue or the prediction may have changed."""
        self._adapt(server)
        for chain in chains:
            if (chain.program_id, chain.session_id) not in self._below:
                placement = self._offload(chain, server)
                if placement is not None:
                    yield chain, placement

    def _adapt(self, server: ServerView) -> None:
        """A larger reserve while HBM is full, a smaller one while it is not."""
        use = 1 - server.free_tokens / server.pool_tokens
        share = self._reserves.get(server.index, self.reserve)
        share += self.reserve_step * ((use > self.high_use) - (use < self.low_use))
        self._reserves[server.index] = min(max(share, self.reserve), self.most_reserve)

    def _offload(self, chain: ChainView, server: ServerView) -> Placement | None:
        """The lower tier until it is time to upload, if it pays."""
        if not server.waiting or not server.tiers:
            return None
        gap_s, tokens = self.predict(chain), chain.kept_tokens["hbm"]
        if gap_s is None or not tokens:
            return None
        tier = server.tiers[0]
        held = 0 if chain.pinned_until_s is not None else tokens
        use = 1 - max(server.free_tokens - held, 0) / server.pool_tokens
        taken = sum(size for instance, size in self._below.values() if instance == chain.instance)
        back_s, reload_s = chain.gap_started_s + gap_s, server.reload_s(tier, tokens)
        if (
            use < self.min_use
            or tokens > server.tier_free_tokens(tier) - taken
            or back_s - server.now_s <= server.demote_s(tier, tokens) + reload_s
        ):
            return None
        self._below[chain.program_id, chain.session_id] = chain.instance, tokens
        return Placement(tier, back_s - reload_s)

    def observe(self, event: Event) -> None:
        """Learn the gaps of each tool."""
        if isinstance(event, GapEnded):
            self._below.pop((event.chain.program_id, event.chain.session_id), None)
            tools, a = frozenset(event.chain.tools), self.smoothing
            mean = self._means.get(tools, event.gap_s)
            self._means[tools] = (1 - a) * mean + a * event.gap_s
