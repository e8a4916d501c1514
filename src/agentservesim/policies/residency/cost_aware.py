"""Ours: the cheapest of holding, demoting and computing again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from agentservesim.policies.bounds import at_least, below
from agentservesim.policies.protocols import CACHE, ChainView, Event, GapEnded, Placement, ServerView
from agentservesim.policies.residency.gaps import GapHistory, tool_of
from agentservesim.policies.residency.keeping import KeepingTime
from agentservesim.policies.residency.samples import Samples


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
    wants: ClassVar[Mapping[str, str]] = {"tools": "all gaps are of one kind"}
    _gaps: GapHistory = field(default_factory=GapHistory, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "min_samples", "step")
        below(self, 1, "step")
        self.spill = {"hbm": self.tier}
        self._keeps = KeepingTime(self.step)

    def observe(self, event: Event) -> None:
        """Learn gaps, and for how long something can be found that is not held."""
        self._keeps.observe(event)
        if isinstance(event, GapEnded):
            self._gaps.add(tool_of(event.chain), event.gap_s)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Hold as long as that costs less on average than what follows; then leave it to LRU."""
        tokens, found_s = max(chain.tokens, 1), 0.0
        again_s = server.recompute_s(tokens) * (0.5 + server.running_tokens / tokens)
        if self.tier in server.tiers:
            found_s = min(server.reload_s(self.tier, tokens), again_s)
        hold_s = best_hold_s(self._rest_s(chain, server), found_s, again_s, self._keeps.s)
        if hold_s > 0:
            return Placement("hbm", server.now_s + hold_s)
        self._keeps.let_go(chain, server.now_s)
        return CACHE

    def _rest_s(self, chain: ChainView, server: ServerView) -> Samples:
        """How long the gap may still last, by those that were longer than it has been so far; ascending."""
        gaps = self._gaps.samples(tool_of(chain), self.min_samples)
        if gaps is None:
            return np.empty(0)
        elapsed_s = server.now_s - chain.gap_started_s
        return gaps[np.searchsorted(gaps, elapsed_s, side="right") :] - elapsed_s


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
