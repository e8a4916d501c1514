"""Ours: the cheapest of holding, demoting and computing again."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np

from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    Placement,
    ServerView,
    TurnAdmitted,
)
from agentservesim.policies.residency.gaps import GapHistory, Samples, tool_of


@dataclass(slots=True)
class Away:
    """A session that was not held any longer: how many tokens, since when, and for how long."""

    tokens: int
    since_s: float
    gap_s: float = 0.0


@dataclass
class CostAware:
    """Holds, demotes or computes again, whichever wastes least on average over the tool's gaps so far.

    Ours; docs/policies/cost-aware.md derives it. What is not held is left to LRU, and what LRU evicts is
    demoted to `tier`, if there is such a tier. Until more than `min_samples` gaps were seen (of the tool,
    or else of all tools) nothing is held. How long something can be found that is not held is learnt: a
    session that comes back and contradicts it corrects it by the share `step`.
    """

    tier: str = "dram"
    min_samples: int = 20
    step: float = 0.1
    _gaps: GapHistory = field(default_factory=GapHistory, init=False, repr=False)
    _keeps_s: float = field(default=inf, init=False, repr=False)
    _away: dict[tuple[str, str], Away] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.step < 1:
            raise ValueError("step must be from 0 to below 1")
        self.spill = {"hbm": self.tier}

    def observe(self, event: Event) -> None:
        """Learn gaps, and for how long something can be found that is not held."""
        if isinstance(event, GapEnded):
            self._gaps.add(tool_of(event.chain), event.gap_s)
            away = self._away.get((event.chain.program_id, event.chain.session_id))
            if away is not None:
                away.gap_s = event.chain.gap_started_s + event.gap_s - away.since_s
        elif isinstance(event, TurnAdmitted):
            away = self._away.pop((event.program_id, event.session_id), None)
            if away is not None:
                self._correct(away, found=2 * event.hit_tokens >= away.tokens)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Hold as long as that costs less on average than what follows; then leave it to LRU."""
        tokens, found_s = max(chain.tokens, 1), 0.0
        again_s = server.recompute_s(tokens) * (0.5 + server.running_tokens / tokens)
        if self.tier in server.tiers:
            found_s = min(server.reload_s(self.tier, tokens), again_s)
        hold_s = best_hold_s(self._rest_s(chain, server), found_s, again_s, self._keeps_s)
        if hold_s > 0:
            return Placement("hbm", server.now_s + hold_s)
        self._away[chain.program_id, chain.session_id] = Away(tokens, server.now_s)
        return CACHE

    def _rest_s(self, chain: ChainView, server: ServerView) -> Samples:
        """How long the gap may still last, by those that were longer than it has been so far; ascending."""
        gaps = self._gaps.samples(tool_of(chain), self.min_samples)
        if gaps is None:
            return np.empty(0)
        elapsed_s = server.now_s - chain.gap_started_s
        return gaps[np.searchsorted(gaps, elapsed_s, side="right") :] - elapsed_s

    def _correct(self, away: Away, found: bool) -> None:
        if found and away.gap_s > self._keeps_s:
            self._keeps_s *= 1 + self.step
        elif not found and away.gap_s < self._keeps_s:
            self._keeps_s = away.gap_s if self._keeps_s == inf else self._keeps_s * (1 - self.step)


def best_hold_s(rest_s: Samples, found_s: float, again_s: float, keeps_s: float) -> float:
    """argmin over t, 0 or one of `rest_s` (ascending), of the mean waste over the rests of the gap.

    A rest r wastes min(r, t) if it is held to its end or to t, and then, if r > t, `found_s` if the
    session is back within `keeps_s` from t and `again_s` if it is not. All in seconds for each token.
    """
    n = len(rest_s)
    times = np.concatenate([[0.0], rest_s])
    beyond = np.arange(n, -1, -1)
    held = np.concatenate([[0.0], np.cumsum(rest_s)]) + beyond * times
    lost = n - np.searchsorted(rest_s, times + keeps_s, side="right")
    return float(times[np.argmin(held + found_s * (beyond - lost) + again_s * lost)])
