"""Continuum: a time to live from the gaps seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import ClassVar

import numpy as np

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    Placement,
    ProgramEnded,
    ServerView,
)
from agentservesim.policies.residency.gaps import GapHistory, tool_of
from agentservesim.policies.residency.samples import TurnCounts


@dataclass
class Continuum:
    """Pins for the time whose expected benefit is highest, by the tool's gaps so far (Continuum's paper).

    Source: arXiv 2511.02230 (paper read). `min_samples` is its K: a tool with no more gaps than that is
    judged by all tools' gaps, and those by an exponential of mean `default_gap_s`. `offload` names the
    tier from which the KV would be reloaded; without it, it would be computed again.
    """

    min_samples: int = 100
    default_gap_s: float = 1.0
    offload: str = ""
    wants: ClassVar[Mapping[str, str]] = {"tools": "all gaps are of one kind"}
    _gaps: GapHistory = field(default_factory=GapHistory, init=False, repr=False)
    _turns: TurnCounts = field(default_factory=TurnCounts, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "min_samples")
        above(self, 0, "default_gap_s")

    def observe(self, event: Event) -> None:
        """Learn gaps, and how many turns programs have."""
        if isinstance(event, GapEnded):
            self._gaps.add(tool_of(event.chain), event.gap_s)
        elif isinstance(event, ProgramEnded):
            self._turns.add(event.turns)

    @property
    def needs(self) -> tuple[str, ...]:
        """The tier that KV would be reloaded from, if one is named."""
        return (self.offload,) if self.offload else ()

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Pin for the time to live; what has outlived it is left to LRU."""
        pinned = chain.pinned_until_s is not None and chain.pinned_until_s > server.now_s
        if server.now_s > chain.gap_started_s and not pinned:
            return CACHE
        until_s = chain.gap_started_s + self.time_to_live_s(tool_of(chain), self._benefit_s(chain, server))
        return Placement("hbm", until_s) if until_s > server.now_s else CACHE

    def _benefit_s(self, chain: ChainView, server: ServerView) -> float:
        """What a hit saves: the wait of a turn that was evicted, as far as it recurs, and the reload.

        It recurs whole (eta = 1) as long as gaps are taken to be exponential.
        """
        unknown = self._gaps.samples(tool_of(chain), self.min_samples) is None
        if self.offload:
            reload_s = server.reload_s(self.offload, chain.tokens)
        else:
            reload_s = server.recompute_s(chain.tokens)
        return server.queue_delay_s * (1.0 if unknown else self._turns.memory()) + reload_s

    def time_to_live_s(self, tool: str, benefit_s: float) -> float:
        """argmax over t of P(gap <= t) * benefit - t, where t is 0 or one of the gaps seen."""
        gaps = self._gaps.samples(tool, self.min_samples)
        if gaps is None:
            return self.default_gap_s * log(max(benefit_s / self.default_gap_s, 1.0))
        utility = np.arange(1, len(gaps) + 1) / len(gaps) * benefit_s - gaps
        best = int(np.argmax(utility))
        return float(gaps[best]) if utility[best] > 0 else 0.0
